//! Progress of a warmup.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::warming::WarmResult;

/// Live counts of the warmup under way, or of the last one.
#[derive(Debug, Default)]
pub(crate) struct WarmupProgress {
    of: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
    gone: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
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
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WarmupCounts {
            of: load(&self.of),
            done: load(&self.done),
            bytes: load(&self.bytes),
            gone: load(&self.gone),
            failed: load(&self.failed),
            left_out: load(&self.left_out),
        }
    }

    /// Starts a warmup of `of` files: all other counts become 0.
    pub(super) fn begin(&self, of: u64) {
        for count in [&self.done, &self.bytes, &self.gone, &self.failed, &self.left_out] {
            count.store(0, Ordering::Relaxed);
        }
        self.of.store(of, Ordering::Relaxed);
    }

    pub(super) fn record(&self, result: WarmResult) {
        match result {
            WarmResult::Read(bytes) => self.bytes.fetch_add(bytes, Ordering::Relaxed),
            WarmResult::Gone => self.gone.fetch_add(1, Ordering::Relaxed),
            WarmResult::Failed => self.failed.fetch_add(1, Ordering::Relaxed),
        };
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record_left_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
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
