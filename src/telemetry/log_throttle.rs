//! Limits how often the diagnostics log repeats itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Admits a log line per key and period, and a number of lines per period in all. Counts the lines that it suppresses.
///
/// Memory is bounded: hashes of the keys logged in the present and the last period.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    period: Duration,
    lines_max: usize,
    /// With too many lines, all keys are forgotten instead of suppressing lines.
    forgets: bool,
    hasher: foldhash::fast::RandomState,
    state: Mutex<LoggedKeys>,
}

#[derive(Debug, Default)]
struct LoggedKeys {
    period_began: Option<Instant>,
    /// Lines since then.
    lines: usize,
    suppressed: u64,
    /// When a line about a key was logged last.
    logged_at: HashMap<u64, Instant>,
}

impl LogThrottle {
    /// Admits one line per key and minute, `lines_max` in all.
    pub(crate) fn per_minute(lines_max: usize) -> Self {
        Self::new(MINUTE, lines_max, false)
    }

    /// Admits one line per key. After lines about `keys_max` keys, all of them are forgotten.
    pub(crate) fn once(keys_max: usize) -> Self {
        Self::new(Duration::MAX, keys_max, true)
    }

    fn new(period: Duration, lines_max: usize, forgets: bool) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self { period, lines_max, forgets, hasher, state: Mutex::default() }
    }

    /// Decides whether a line about `key` is logged `now`.
    pub(crate) fn admits(&self, key: impl Hash, now: Instant) -> bool {
        let key = self.hasher.hash_one(key);
        let is_recent = |then: &Instant| self.is_recent(*then, now);
        let mut state = self.state.lock();
        let is_full = state.lines >= self.lines_max;
        if (is_full && self.forgets) || !state.period_began.as_ref().is_some_and(is_recent) {
            (state.period_began, state.lines) = (Some(now), 0);
            state.logged_at.retain(|_, then| is_recent(then) && !self.forgets);
        }
        if state.lines >= self.lines_max || state.logged_at.get(&key).is_some_and(is_recent) {
            state.suppressed += 1;
            return false;
        }
        state.lines += 1;
        state.logged_at.insert(key, now);
        true
    }

    /// Takes the number of lines suppressed in periods that are over.
    pub(crate) fn take_suppressed(&self, now: Instant) -> u64 {
        let mut state = self.state.lock();
        match state.period_began {
            Some(began) if self.is_recent(began, now) => 0,
            _ => std::mem::take(&mut state.suppressed),
        }
    }

    fn is_recent(&self, then: Instant, now: Instant) -> bool {
        now.saturating_duration_since(then) < self.period
    }
}

/// Counts an event and selects every thousandth for the log.
#[derive(Debug, Default)]
pub(crate) struct SampledCounter(AtomicU64);

impl SampledCounter {
    /// Counts one more event. Returns its number, and whether it is logged.
    pub(crate) fn count(&self) -> (u64, bool) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        (before + 1, before.is_multiple_of(LOGGED_EVERY))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

const LOGGED_EVERY: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_logged_once_a_minute() {
        let throttle = LogThrottle::per_minute(100);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(throttle.admits(1, after(0)));
        assert!(!throttle.admits(1, after(1)));
        assert!(throttle.admits(2, after(30)));
        assert!(!throttle.admits(2, after(61)), "each key has its own minute");
        assert!(throttle.admits(1, after(61)));
        assert_eq!(throttle.take_suppressed(after(62)), 0, "the minute that began at 61 s is not over");
        assert_eq!(throttle.take_suppressed(after(121)), 2);
        assert_eq!(throttle.take_suppressed(after(121)), 0);
    }

    #[test]
    fn all_keys_together_have_a_number_of_lines_per_minute() {
        let (throttle, start) = (LogThrottle::per_minute(100), Instant::now());
        for minute in 0..3 {
            let now = start + minute * MINUTE;
            assert_eq!((0..10_000).filter(|key| throttle.admits(key, now)).count(), 100);
            assert_eq!(throttle.take_suppressed(now + MINUTE / 2), 0);
            assert_eq!(throttle.take_suppressed(now + MINUTE), 9_900);
            assert!(throttle.state.lock().logged_at.len() <= 200);
        }
    }

    #[test]
    fn once_logs_a_key_again_only_after_many_others() {
        let (throttle, start) = (LogThrottle::once(64), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(throttle.admits(0, after(0)));
        assert!(!throttle.admits(0, after(100_000)));
        assert!((1..10_000).all(|key| throttle.admits(key, after(200_000))));
        assert!(!throttle.admits(9_999, after(300_000)));
        assert!(throttle.admits(0, after(300_000)));
        assert!(throttle.state.lock().logged_at.len() <= 64);
    }
}
