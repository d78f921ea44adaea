//! Duration histograms with fixed buckets from 100 µs (a hot file) to 1 h (a large download).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::count::add;

/// Inclusive upper bounds of the buckets in nanoseconds. One more bucket holds longer durations.
pub(crate) const BOUNDS: [u64; 22] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    900_000_000_000,
    1_800_000_000_000,
    3_600_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Histogram of durations: one counter per bucket, sum in nanoseconds. Any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

/// Sum of histograms at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramTotals {
    /// Durations per bucket (not cumulative).
    pub(crate) counts: [u64; BUCKETS],
    /// Sum of all durations.
    pub(crate) nanoseconds: u64,
}

impl Histogram {
    /// Records a duration. Only one thread may call it.
    pub(crate) fn record(&self, took: Duration) {
        let nanoseconds = nanoseconds(took);
        let bucket = BOUNDS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        add(&self.counts[bucket], 1);
        add(&self.nanoseconds, nanoseconds);
    }

    /// Records a duration. Any thread may call it.
    pub(crate) fn record_shared(&self, took: Duration) {
        let nanoseconds = nanoseconds(took);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Adds the counts to `sum`.
    pub(crate) fn add_to(&self, sum: &mut HistogramTotals) {
        for (sum, count) in sum.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        sum.nanoseconds += self.nanoseconds.load(Ordering::Relaxed);
    }
}

impl HistogramTotals {
    /// Number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Durations recorded since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        Self { counts, nanoseconds: self.nanoseconds.saturating_sub(earlier.nanoseconds) }
    }

    /// Estimates the quantile `rank` (0 to 1), assuming that durations are spread evenly inside a bucket. `None` if there are
    /// no durations.
    pub(crate) fn quantile(&self, rank: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = (count as f64 * rank.clamp(0.0, 1.0)).max(f64::MIN_POSITIVE);
        let mut before = 0_u64;
        for (index, &inside) in self.counts.iter().enumerate() {
            if inside > 0 && (before + inside) as f64 >= wanted {
                let low = index.checked_sub(1).map_or(0, |index| BOUNDS[index]);
                let high = BOUNDS.get(index).copied().unwrap_or(low);
                let share = (wanted - before as f64) / inside as f64;
                return Some(Duration::from_nanos(low + ((high - low) as f64 * share) as u64));
            }
            before += inside;
        }
        None
    }
}

fn nanoseconds(took: Duration) -> u64 {
    took.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(took.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[Duration]) -> HistogramTotals {
        let (own, shared) = (Histogram::default(), Histogram::default());
        all.iter().for_each(|took| {
            own.record(*took);
            shared.record_shared(*took);
        });
        let (mut sum, mut other) = (HistogramTotals::default(), HistogramTotals::default());
        own.add_to(&mut sum);
        shared.add_to(&mut other);
        assert_eq!(sum, other, "both methods count the same");
        sum
    }

    #[test]
    fn bounds_are_inclusive_and_longer_durations_have_a_bucket_of_their_own() {
        for (nanoseconds, bucket) in [
            (0, 0),
            (100_000, 0),
            (100_001, 1),
            (1_000_000, 3),
            (3_600_000_000_000, BOUNDS.len() - 1),
            (3_600_000_000_001, BOUNDS.len()),
            (u64::MAX, BOUNDS.len()),
        ] {
            let seen = of(&[Duration::from_nanos(nanoseconds)]);
            assert_eq!(seen.counts[bucket], 1, "{nanoseconds}");
            assert_eq!((seen.count(), seen.nanoseconds), (1, nanoseconds));
        }
    }

    #[test]
    fn quantiles_are_interpolated_inside_a_bucket() {
        assert_eq!(of(&[]).quantile(0.5), None);
        let millis = Duration::from_millis;
        let seen = of(&[[millis(2); 50], [millis(200); 50]].concat());
        assert_eq!(seen.quantile(0.25), Some(Duration::from_micros(1750)));
        assert_eq!(seen.quantile(0.5), Some(Duration::from_micros(2500)));
        assert_eq!(seen.quantile(1.0), Some(millis(250)));
        assert!(seen.quantile(0.0).is_some_and(|low| low >= millis(1) && low < millis(2)));
        let long = of(&[Duration::from_secs(9000)]);
        assert_eq!(long.quantile(0.99), Some(Duration::from_secs(3600)), "the highest bound");
    }

    #[test]
    fn since_subtracts_earlier_durations() {
        let (before, after) = (of(&[Duration::from_secs(1)]), of(&[Duration::from_secs(1); 3]));
        assert_eq!(after.since(&before), of(&[Duration::from_secs(1); 2]));
    }
}
