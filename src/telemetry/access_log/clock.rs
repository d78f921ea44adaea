//! Converts monotonic time to UTC text. Each second is formatted once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A pair of monotonic and wall-clock time, and the second formatted last.
pub(super) struct Clock {
    pattern: &'static str,
    moment: Instant,
    wall: SystemTime,
    second: i64,
    text: String,
}

impl Clock {
    /// Creates a clock that formats seconds by a strftime(3) `pattern`.
    pub(super) fn new(pattern: &'static str) -> Self {
        Self {
            pattern,
            moment: Instant::now(),
            wall: SystemTime::now(),
            second: i64::MIN,
            text: String::new(),
        }
    }

    /// Reads both clocks again, because the wall clock may have been set.
    pub(super) fn set(&mut self) {
        (self.moment, self.wall) = (Instant::now(), SystemTime::now());
    }

    /// Formats the second of `moment` and returns it with its milliseconds.
    pub(super) fn at(&mut self, moment: Instant) -> (&str, u32) {
        let wall = match moment.checked_duration_since(self.moment) {
            Some(after) => self.wall.checked_add(after),
            None => self.wall.checked_sub(self.moment.saturating_duration_since(moment)),
        };
        let since = wall.and_then(|wall| wall.duration_since(UNIX_EPOCH).ok()).unwrap_or(Duration::ZERO);
        let second = since.as_secs().cast_signed();
        if second != self.second {
            self.second = second;
            let timestamp = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = timestamp.strftime(self.pattern).to_string();
        }
        (&self.text, since.subsec_millis())
    }
}

/// RFC 3339 §5.6 without fraction and zone.
pub(super) const RFC_3339: &str = "%Y-%m-%dT%H:%M:%S";

/// Time in the common log format.
pub(super) const COMMON: &str = "%d/%b/%Y:%H:%M:%S +0000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_formatted_as_utc() {
        let moment = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_millis(1_790_000_000_007);
        for (pattern, after_ms, expected) in [
            (RFC_3339, 0, ("2026-09-21T14:13:20", 7)),
            (RFC_3339, 992, ("2026-09-21T14:13:20", 999)),
            (RFC_3339, 993, ("2026-09-21T14:13:21", 0)),
            (RFC_3339, -8, ("2026-09-21T14:13:19", 999)),
            (COMMON, 0, ("21/Sep/2026:14:13:20 +0000", 7)),
        ] {
            let mut clock = Clock { moment, wall, ..Clock::new(pattern) };
            let by = Duration::from_millis(i64::unsigned_abs(after_ms));
            let at = if after_ms < 0 { moment - by } else { moment + by };
            assert_eq!(clock.at(at), expected, "{after_ms}");
        }
    }
}
