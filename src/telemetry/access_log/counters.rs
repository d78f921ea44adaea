//! Counters of access-log lines, and diagnostics about lines that were lost.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::target::WriteResult;

/// Lines since the start. Lost lines are reported when the loss begins, then once a minute.
#[derive(Default)]
pub(super) struct LineCounters {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    reported: Mutex<LossReport>,
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
struct LossReport {
    at: Option<Instant>,
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
        let Some((dropped, failed)) = self.reported.lock().update(counts, now) else { return };
        if dropped > 0 {
            log::warn!("access log: queue full ({} lines): {dropped} lines dropped", counts.limit);
        }
        if failed > 0 {
            let cause = self.last_error.lock().as_ref().map_or_else(String::new, ToString::to_string);
            log::error!("access log: {failed} lines could not be written: {cause}");
        }
    }
}

impl LossReport {
    /// Returns the dropped and the failed lines since the last report. `None` if nothing is to be reported.
    fn update(&mut self, counts: AccessLogCounts, now: Option<Instant>) -> Option<(u64, u64)> {
        let lost = (counts.dropped - self.dropped, counts.failed - self.failed);
        let is_recent = |now: Instant| self.at.is_some_and(|at| now.saturating_duration_since(at) < MINUTE);
        if lost == (0, 0) || now.is_some_and(is_recent) {
            return None;
        }
        (self.dropped, self.failed) = (counts.dropped, counts.failed);
        self.at = now.or(self.at);
        Some(lost)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_when_they_begin_and_once_a_minute_with_their_number() {
        let start = Instant::now();
        let after = |seconds| Some(start + Duration::from_secs(seconds));
        let mut reported = LossReport::default();
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
            assert_eq!(reported.update(counts, now), expected, "{now:?}");
        }
    }
}
