//! Counters of access-log lines, and diagnostics about lines that were lost.

use std::io;
use std::time::Instant;

use parking_lot::Mutex;

use super::target::WriteResult;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::counter::Counter;

/// Lines since the start. Lost lines are reported when the loss begins, then once a minute.
pub(crate) struct LineCounters {
    /// Lines written.
    pub(crate) written: Counter,
    /// Lines dropped because the queue was full.
    pub(crate) dropped: Counter,
    /// Lines that could not be written.
    pub(crate) failed: Counter,
    last_error: Mutex<Option<io::Error>>,
    /// Dropped and failed lines that are already in the diagnostics log.
    reported: Mutex<(u64, u64)>,
    log_throttle: LogThrottle,
}

impl LineCounters {
    pub(super) fn new() -> Self {
        Self {
            written: Counter::default(),
            dropped: Counter::default(),
            failed: Counter::default(),
            last_error: Mutex::default(),
            reported: Mutex::default(),
            log_throttle: LogThrottle::per_minute(1),
        }
    }

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
        let (dropped, failed) = (self.dropped.get(), self.failed.get());
        let lost = (dropped - reported.0, failed - reported.1);
        if lost == (0, 0) || now.is_some_and(|now| !self.log_throttle.admits((), now)) {
            return None;
        }
        *reported = (dropped, failed);
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn losses_are_reported_when_they_begin_and_once_a_minute_with_their_number() {
        let counters = LineCounters::new();
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
