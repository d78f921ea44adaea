//! Counters of access-log lines, and diagnostics about lines that were lost.

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::target::WriteResult;
use crate::telemetry::metrics::counter::Counter;

/// Lines since the start. Lost lines are reported when the loss begins, then once a minute.
#[derive(Default)]
pub(crate) struct LineCounters {
    /// Lines written.
    pub(crate) written: Counter,
    /// Lines dropped because the queue was full.
    pub(crate) dropped: Counter,
    /// Lines that could not be written.
    pub(crate) failed: Counter,
    last_error: Mutex<Option<io::Error>>,
    reported: Mutex<ReportedLosses>,
}

/// Lost lines that are already in the diagnostics log, and when the last of them were reported.
#[derive(Clone, Copy, Default)]
struct ReportedLosses {
    dropped: u64,
    failed: u64,
    at: Option<Instant>,
}

impl LineCounters {
    pub(super) fn count_written(&self, result: WriteResult) {
        self.written.add_shared(result.lines);
        if let Some((failed, error)) = result.failed {
            self.failed.add_shared(failed);
            *self.last_error.lock() = Some(error);
        }
    }

    /// Logs lines lost since the last report, unless that was less than a minute before `now`. Without `now`, at the end,
    /// everything is reported. `limit` is the length of the queue.
    pub(super) fn report_losses(&self, limit: usize, now: Option<Instant>) {
        let Some((dropped, failed)) = self.unreported_losses(now) else { return };
        if dropped > 0 {
            log::warn!("access log: queue full ({limit} lines): {dropped} lines dropped");
        }
        if failed > 0 {
            let cause = self.last_error.lock().as_ref().map_or_else(String::new, ToString::to_string);
            log::error!("access log: {failed} lines could not be written: {cause}");
        }
    }

    /// Returns the dropped and the failed lines since the last report. `None` if nothing is to be reported.
    fn unreported_losses(&self, now: Option<Instant>) -> Option<(u64, u64)> {
        let mut reported = self.reported.lock();
        let (dropped, failed, at) = (self.dropped.get(), self.failed.get(), reported.at);
        let lost = (dropped - reported.dropped, failed - reported.failed);
        let since = now.zip(at).map(|(now, at)| now.saturating_duration_since(at));
        if lost == (0, 0) || since.is_some_and(|since| since < REPORT_EVERY) {
            return None;
        }
        *reported = ReportedLosses { dropped, failed, at: now.or(at) };
        Some(lost)
    }
}

const REPORT_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_when_they_begin_and_once_a_minute_with_their_number() {
        let counters = LineCounters::default();
        let start = Instant::now();
        let after = |seconds| Some(start + Duration::from_secs(seconds));
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
            counters.dropped.set(dropped);
            counters.failed.set(failed);
            assert_eq!(counters.unreported_losses(now), expected, "{now:?}");
        }
    }
}
