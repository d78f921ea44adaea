//! How often the diagnostics hear of lines that are lost: when that begins, and once a minute while it goes on.

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::telemetry::access_log::log::AccessLogCounts;

/// What the diagnostics have heard.
#[derive(Default)]
pub(super) struct LostLines {
    told: Mutex<LossReport>,
    why: Mutex<Option<io::Error>>,
}

#[derive(Default)]
struct LossReport {
    at: Option<Instant>,
    dropped: u64,
    failed: u64,
}

impl LostLines {
    /// Why lines could not be written.
    pub(super) fn note(&self, error: io::Error) {
        *self.why.lock() = Some(error);
    }

    /// Tells what is new, unless something was told within the last minute.
    pub(super) fn tell(&self, counts: AccessLogCounts, now: Instant) {
        let news = self.told.lock().news(counts, Some(now));
        self.say(news, counts);
    }

    /// Tells what is new, whenever something was told before.
    pub(super) fn tell_last(&self, counts: AccessLogCounts) {
        let news = self.told.lock().news(counts, None);
        self.say(news, counts);
    }

    fn say(&self, news: Option<(u64, u64)>, counts: AccessLogCounts) {
        let Some((dropped, failed)) = news else { return };
        if dropped > 0 {
            let limit = counts.limit;
            log::warn!("access log: {dropped} lines were dropped: {limit} others waited to be written");
        }
        if failed > 0 {
            let why = self.why.lock().as_ref().map_or_else(|| "it failed".to_owned(), ToString::to_string);
            log::error!("access log: {failed} lines could not be written: {why}");
        }
    }
}

impl LossReport {
    /// How many lines were dropped and could not be written since that was told last; none where nothing is to be said. At
    /// the end there is no `now`, and nothing is kept for later.
    fn news(&mut self, counts: AccessLogCounts, now: Option<Instant>) -> Option<(u64, u64)> {
        let news = (counts.dropped - self.dropped, counts.failed - self.failed);
        let is_recent = |now: Instant| self.at.is_some_and(|at| now.saturating_duration_since(at) < MINUTE);
        if news == (0, 0) || now.is_some_and(is_recent) {
            return None;
        }
        (self.dropped, self.failed) = (counts.dropped, counts.failed);
        self.at = now.or(self.at);
        Some(news)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_when_they_begin_and_once_a_minute_with_their_number() {
        let start = Instant::now();
        let after = |seconds| Some(start + Duration::from_secs(seconds));
        let mut told = LossReport::default();
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
            assert_eq!(told.news(counts, now), expected, "{now:?}");
        }
    }
}
