//! Limits how often the diagnostics log repeats itself.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Admits a log line per key and period, and a number of lines per period in all. Counts the lines that it suppresses.
///
/// Keys are remembered as hashes in a table of fixed size, so memory is bounded; with more keys than slots the oldest ones
/// are forgotten. Takes no lock.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    started: Instant,
    /// In seconds.
    period: u64,
    lines_max: u64,
    hasher: foldhash::fast::RandomState,
    /// Per slot a [`Stamp`] word: the second of the last line and 32 bits of the hash of its key. 0: free.
    slots: Box<[AtomicU64]>,
    /// [`Stamp`] word: the second in which the present period began, and the lines in it.
    period_lines: AtomicU64,
    suppressed: AtomicU64,
}

/// A second since the start of the throttle with 32 bits of data. As a word never 0, and greater if later.
#[derive(Clone, Copy)]
struct Stamp {
    second: u64,
    data: u32,
}

impl LogThrottle {
    /// Admits one line per key and minute, `lines_max` in all.
    pub(crate) fn per_minute(lines_max: u32) -> Self {
        Self::new(MINUTE, u64::from(lines_max), 2 * lines_max as usize)
    }

    /// Admits one line per key, while the key is among the last of about `keys`.
    pub(crate) fn once(keys: usize) -> Self {
        Self::new(Duration::MAX, u64::MAX, keys)
    }

    fn new(period: Duration, lines_max: u64, slots: usize) -> Self {
        let slots = slots.max(1).next_multiple_of(WAYS);
        Self {
            started: Instant::now(),
            period: period.as_secs(),
            lines_max,
            hasher: foldhash::fast::RandomState::default(),
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            period_lines: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Decides whether a line about `key` is logged `now`.
    pub(crate) fn admits(&self, key: impl Hash, now: Instant) -> bool {
        let is_admitted = self.try_admit(self.hasher.hash_one(key), self.second(now));
        if !is_admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        is_admitted
    }

    /// Takes the number of lines suppressed in periods that are over.
    pub(crate) fn take_suppressed(&self, now: Instant) -> u64 {
        let is_over = match Stamp::of(self.period_lines.load(Ordering::Relaxed)) {
            Some(period) => !self.is_recent(period, self.second(now)),
            None => true,
        };
        if is_over { self.suppressed.swap(0, Ordering::Relaxed) } else { 0 }
    }

    fn try_admit(&self, hash: u64, second: u64) -> bool {
        let data = (hash >> 32) as u32;
        let sets = (self.slots.len() / WAYS) as u64;
        let set = (hash % sets) as usize * WAYS;
        let slots = self.slots.get(set..set + WAYS).unwrap_or_default();
        let mut oldest: Option<(&AtomicU64, u64)> = None;
        for slot in slots {
            let word = slot.load(Ordering::Relaxed);
            match Stamp::of(word).filter(|stamp| stamp.data == data) {
                Some(stamp) if self.is_recent(stamp, second) => return false,
                Some(_) => {
                    oldest = Some((slot, word));
                    break;
                }
                None => oldest = oldest.filter(|(_, other)| *other <= word).or(Some((slot, word))),
            }
        }
        let Some((slot, word)) = oldest else { return false };
        let stamp = Stamp { second, data }.word();
        self.take_line(second)
            // Of two threads that log about the same key one does.
            && slot.compare_exchange(word, stamp, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes one of the lines of the present period.
    fn take_line(&self, second: u64) -> bool {
        let next = |word| match Stamp::of(word).filter(|period| self.is_recent(*period, second)) {
            Some(period) if u64::from(period.data) >= self.lines_max => None,
            Some(period) => Some(Stamp { data: period.data.saturating_add(1), ..period }.word()),
            None => Some(Stamp { second, data: 1 }.word()),
        };
        self.period_lines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }

    fn is_recent(&self, stamp: Stamp, second: u64) -> bool {
        second.saturating_sub(stamp.second) < self.period
    }
}

impl Stamp {
    fn of(word: u64) -> Option<Self> {
        Some(Self { second: (word >> 32).checked_sub(1)?, data: word as u32 })
    }

    fn word(self) -> u64 {
        (self.second + 1) << 32 | u64::from(self.data)
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

/// Slots in which a key may be.
const WAYS: usize = 8;

const LOGGED_EVERY: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_logged_once_a_minute() {
        let throttle = LogThrottle::per_minute(100);
        let after = |seconds| throttle.started + Duration::from_secs(seconds);
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
        let throttle = LogThrottle::per_minute(100);
        for minute in 0..3 {
            let now = throttle.started + minute * MINUTE;
            assert_eq!((0..10_000).filter(|key| throttle.admits(key, now)).count(), 100);
            assert_eq!(throttle.take_suppressed(now + MINUTE / 2), 0);
            assert_eq!(throttle.take_suppressed(now + MINUTE), 9_900);
        }
    }

    #[test]
    fn with_more_keys_than_slots_the_oldest_are_forgotten() {
        let throttle = LogThrottle::once(64);
        let after = |seconds| throttle.started + Duration::from_secs(seconds);
        assert!(throttle.admits(0, after(0)));
        assert!(!throttle.admits(0, after(100_000)));
        assert!((1..10_000).all(|key| throttle.admits(key, after(200_000))));
        assert!(!throttle.admits(9_999, after(300_000)));
        assert!(throttle.admits(0, after(300_000)));
        assert_eq!(throttle.slots.len(), 64);
    }
}
