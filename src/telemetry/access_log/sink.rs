//! Where lines go and in which format.

use std::io;
use std::path::Path;

use super::clock::{COMMON, Clock, RFC_3339};
use super::record::AccessLogRecord;
use super::target::OpenTarget;
use super::{combined, json};
use crate::config::{AccessLogFormat, LogTarget};

/// An open target with a line format.
pub(crate) struct Sink {
    pub(super) target: OpenTarget,
    pub(super) clock: Clock,
    format: AccessLogFormat,
}

impl Sink {
    /// Opens `target`.
    ///
    /// # Errors
    /// As [`OpenTarget::open`].
    pub(super) fn open(target: &LogTarget, format: AccessLogFormat, root: &Path) -> io::Result<Self> {
        let pattern = match format {
            AccessLogFormat::Json => RFC_3339,
            AccessLogFormat::Combined => COMMON,
        };
        Ok(Self { target: OpenTarget::open(target, root)?, clock: Clock::new(pattern), format })
    }

    /// Appends the line of `record` to `out`.
    pub(super) fn render(&mut self, out: &mut Vec<u8>, record: &AccessLogRecord) {
        let Some(ended) = &record.ended else { return };
        match self.format {
            AccessLogFormat::Json => json::write(out, record, ended, &mut self.clock),
            AccessLogFormat::Combined => combined::write(out, record, ended, &mut self.clock),
        }
    }
}
