//! Parts of a file that were sent recently, so that a restart can read them before they are requested.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::WINDOW;

/// The parts of an asset that were sent in the current period and in the one before.
#[derive(Debug, Default)]
pub(crate) struct Recency {
    now: AtomicU64,
    before: AtomicU64,
}

/// Parts of a file: a bit for each of its windows, or for each 64th of the file if there are more than 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileParts(pub(crate) u64);

impl Recency {
    /// Records that `sent`, which is not empty, of a file of `length` bytes is sent. Writes only if that is new.
    pub(crate) fn record(&self, sent: &Range<u64>, length: u64) {
        let part = part_bytes(length);
        let (first, last) = (sent.start / part, sent.end.saturating_sub(1) / part);
        let upto = |bit: u64| u64::MAX >> (63 - bit.min(63));
        let parts = upto(last) & (u64::MAX << first.min(63));
        if self.now.load(Ordering::Relaxed) & parts != parts {
            self.now.fetch_or(parts, Ordering::Relaxed);
        }
    }

    /// The parts that were sent recently.
    pub(crate) fn parts(&self) -> FileParts {
        FileParts(self.now.load(Ordering::Relaxed) | self.before.load(Ordering::Relaxed))
    }

    /// Begins a new period: parts that were not sent in the last two are not recent any more.
    pub(crate) fn age(&self) {
        self.before.store(self.now.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl FileParts {
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// Byte ranges of these parts in a file of `length` bytes; adjacent parts are joined.
    pub(crate) fn ranges(self, length: u64) -> Vec<Range<u64>> {
        let part = part_bytes(length);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for bit in (0..64).filter(|bit| self.0 >> bit & 1 == 1) {
            let at = |bit: u64| part.saturating_mul(bit).min(length);
            let range = at(bit)..at(bit + 1);
            match ranges.last_mut() {
                _ if range.is_empty() => break,
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// Number of bytes of these parts in a file of `length` bytes.
    pub(crate) fn bytes(self, length: u64) -> u64 {
        self.ranges(length).iter().map(|range| range.end - range.start).sum()
    }
}

/// Length of a part in bytes: whole windows.
fn part_bytes(length: u64) -> u64 {
    length.div_ceil(WINDOW * 64).max(1).saturating_mul(WINDOW)
}

/// Length of a period.
pub(crate) const PERIOD_MS: u64 = 10 * 60 * 1000;

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some of one range")]
mod tests {
    use super::*;

    fn recorded(length: u64, sent: &[Range<u64>]) -> Vec<Range<u64>> {
        let recency = Recency::default();
        sent.iter().for_each(|sent| recency.record(sent, length));
        recency.parts().ranges(length)
    }

    #[test]
    fn windows_that_were_sent_are_recent_and_no_others() {
        let tail = 10 * WINDOW + 5;
        for (length, sent, expected) in [
            (1, vec![0..1], vec![0..1]),
            (tail, vec![0..1], vec![0..WINDOW]),
            (tail, vec![tail - 1..tail], vec![10 * WINDOW..tail]),
            (tail, vec![0..tail], vec![0..tail]),
            (tail, vec![WINDOW - 1..WINDOW + 1], vec![0..2 * WINDOW]),
            (tail, vec![3 * WINDOW..4 * WINDOW, 0..9], vec![0..WINDOW, 3 * WINDOW..4 * WINDOW]),
            (64 * WINDOW, vec![63 * WINDOW..64 * WINDOW], vec![63 * WINDOW..64 * WINDOW]),
            (65 * WINDOW, vec![64 * WINDOW..64 * WINDOW + 1], vec![64 * WINDOW..65 * WINDOW]),
            (65 * WINDOW, vec![0..1], vec![0..2 * WINDOW]),
            (6400 * WINDOW, vec![0..6400 * WINDOW], vec![0..6400 * WINDOW]),
        ] {
            assert_eq!(recorded(length, &sent), expected, "{length} {sent:?}");
        }
    }

    #[test]
    fn parts_that_are_not_sent_for_two_periods_are_not_recent() {
        let recency = Recency::default();
        recency.record(&(0..1), 10 * WINDOW);
        recency.age();
        recency.record(&(WINDOW..WINDOW + 1), 10 * WINDOW);
        assert_eq!(recency.parts(), FileParts(0b11));
        recency.age();
        assert_eq!(recency.parts(), FileParts(0b10));
        recency.age();
        assert_eq!(recency.parts(), FileParts(0));
    }

    #[test]
    fn parts_beyond_the_end_are_empty() {
        assert_eq!(FileParts::ALL.bytes(3 * WINDOW + 1), 3 * WINDOW + 1);
        assert_eq!(FileParts(1 << 63).ranges(WINDOW), []);
        assert_eq!(FileParts::ALL.ranges(0), []);
        assert_eq!(FileParts::ALL.bytes(u64::MAX), u64::MAX);
    }
}
