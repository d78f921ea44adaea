//! Counters of access-log lines, and diagnostics about lines that were lost.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;

use super::target::WriteResult;
use crate::telemetry::log_throttle::LogThrottle;

/// Lines since the start. Lost lines are reported when the loss begins, then once a minute.
pub(super) struct LineCounters {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    reported: Mutex<LostLines>,
    throttle: LogThrottle,
    last_error: Mutex<Option<io::Error>>,
}

/// Lines since the start, and the state of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AccessLogCounts {
    /// Lines written.
    pub(crate) written: u64,
    /// Lines dropped because the queue was full.
    pub(crate) dropped: u64,
    /// Lines that could not be written.
    pub(crate) failed: u64,
    /// Lines queued now.
    pub(crate) queued: u64,
    /// Maximum number of queued lines.
    pub(crate) limit: u64,
}

/// Lost lines that are already in the diagnostics log.
#[derive(Default)]
struct LostLines {
    dropped: u64,
    failed: u64,
}

impl LineCounters {
    pub(super) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn count_written(&self, result: WriteResult) {
        self.written.fetch_add(result.lines, Ordering::Relaxed);
        if let Some((failed, error)) = result.failed {
            self.failed.fetch_add(failed, Ordering::Relaxed);
            *self.last_error.lock() = Some(error);
        }
    }

    pub(super) fn counts(&self, queued: u64, limit: u64) -> AccessLogCounts {
        AccessLogCounts {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            queued,
            limit,
        }
    }

    /// Logs lines lost since the last report, unless that was less than a minute before `now`. Without `now`, at the end,
    /// everything is reported.
    pub(super) fn report_losses(&self, counts: AccessLogCounts, now: Option<Instant>) {
        let Some((dropped, failed)) = self.unreported_losses(counts, now) else { return };
        if dropped > 0 {
            log::warn!("access log: queue full ({} lines): {dropped} lines dropped", counts.limit);
        }
        if failed > 0 {
            let cause = self.last_error.lock().as_ref().map_or_else(String::new, ToString::to_string);
            log::error!("access log: {failed} lines could not be written: {cause}");
        }
    }

    /// Returns the dropped and the failed lines since the last report. `None` if nothing is to be reported.
    fn unreported_losses(&self, counts: AccessLogCounts, now: Option<Instant>) -> Option<(u64, u64)> {
        let mut reported = self.reported.lock();
        let lost = (counts.dropped - reported.dropped, counts.failed - reported.failed);
        if lost == (0, 0) || now.is_some_and(|now| !self.throttle.admits((), now)) {
            return None;
        }
        *reported = LostLines { dropped: counts.dropped, failed: counts.failed };
        Some(lost)
    }
}

impl Default for LineCounters {
    fn default() -> Self {
        Self {
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            reported: Mutex::default(),
            throttle: LogThrottle::per_minute(1),
            last_error: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_when_they_begin_and_once_a_minute_with_their_number() {
        let counters = LineCounters::default();
        let start = Instant::now();
        let after = |seconds| Some(start + std::time::Duration::from_secs(seconds));
        for (now, dropped, failed, expected) in [
            (after(0), 0, 0, None),
            (after(1), 5, 0, Some((5, 0))),
            (after(2), 9, 3, None),
            (after(60), 9, 3, None),
            (after(61), 9, 3, Some((4, 3))),
            (after(200), 9, 3, None),
            (after(201), 10, 3, Some((1, 0))),
            (after(202), 11, 4, None),
            (None, 11, 4, Some((1, 1))),
            (None, 11, 4, None),
        ] {
            let counts = AccessLogCounts { dropped, failed, ..AccessLogCounts::default() };
            assert_eq!(counters.unreported_losses(counts, now), expected, "{now:?}");
        }
    }
}
