//! Progress of a warmup.

use std::fmt;

use parking_lot::Mutex;

use crate::files::warming::WarmResult;

/// Counts of the warmup under way, or of the last one.
#[derive(Debug, Default)]
pub(crate) struct WarmupProgress {
    counts: Mutex<WarmupCounts>,
}

/// Counts of a warmup at one moment.
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

impl WarmupProgress {
    pub(crate) fn counts(&self) -> WarmupCounts {
        *self.counts.lock()
    }

    /// Starts a warmup of `of` files: all other counts become 0.
    pub(super) fn begin(&self, of: u64) {
        *self.counts.lock() = WarmupCounts { of, ..WarmupCounts::default() };
    }

    pub(super) fn record(&self, result: WarmResult) {
        let mut counts = self.counts.lock();
        counts.done += 1;
        match result {
            WarmResult::Read(bytes) => counts.bytes += bytes,
            WarmResult::Gone => counts.gone += 1,
            WarmResult::Failed => counts.failed += 1,
        }
    }

    pub(super) fn record_left_out(&self) {
        let mut counts = self.counts.lock();
        counts.done += 1;
        counts.left_out += 1;
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
