//! Progress of a warm-up, and the request that starts one; shared by the admin listener and `pagecast warm`.

use std::fmt;

use crate::files::warming::WarmResult;

/// Counts of the warm-up under way, or of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct WarmupCounts {
    /// Files to read.
    pub(crate) of: u64,
    /// Files that are finished, whatever the result.
    pub(crate) done: u64,
    /// Bytes that were read, or were in memory before.
    pub(crate) bytes: u64,
    /// Files that no longer exist or may not be served.
    pub(crate) gone: u64,
    /// Files that could not be read.
    pub(crate) failed: u64,
    /// Files that were skipped because the caches have no room for them.
    pub(crate) left_out: u64,
}

impl WarmupCounts {
    /// Counts a file with its result, or `None` if it was skipped.
    pub(super) fn record(&mut self, result: Option<WarmResult>) {
        self.done += 1;
        match result {
            Some(WarmResult::Read(bytes)) => self.bytes += bytes,
            Some(WarmResult::Gone) => self.gone += 1,
            Some(WarmResult::Failed) => self.failed += 1,
            None => self.left_out += 1,
        }
    }
}

/// One line, for logs and the terminal.
impl fmt::Display for WarmupCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, done, bytes, gone, failed, left_out } = self;
        write!(f, "{done} of {of} files, {bytes} bytes")?;
        for (count, what) in [(gone, "gone"), (failed, "failed"), (left_out, "without room")] {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// One line of the response.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct WarmProgressLine {
    #[serde(flatten)]
    pub(crate) counts: WarmupCounts,
    /// This is the last line.
    pub(crate) is_over: bool,
    /// More files match than were warmed.
    pub(crate) is_truncated: bool,
    /// Number of directories that could not be read.
    pub(crate) closed: u64,
}

/// Path of the route.
pub(crate) const PATH: &str = "/warm";

/// A header that browsers don't send.
pub(crate) const ADMIN_HEADER: &str = "pagecast-admin";
