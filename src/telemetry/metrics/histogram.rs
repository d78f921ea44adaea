//! Duration histograms with fixed buckets from 100 µs (a hot file) to 1 h (a large download).

use std::time::Duration;

use super::counter::{Counter, CounterArray};

/// Inclusive upper bounds of the buckets in seconds. One more bucket holds longer durations.
pub(crate) const BOUNDS: [f64; 22] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0,
];

/// The bounds in nanoseconds.
const BOUNDS_NS: [u64; BOUNDS.len()] = {
    let (mut bounds, mut index) = ([0; BOUNDS.len()], 0);
    while index < BOUNDS.len() {
        bounds[index] = (BOUNDS[index] * 1e9 + 0.5) as u64;
        index += 1;
    }
    bounds
};

const BUCKETS: usize = BOUNDS.len() + 1;

/// Histogram of durations: those of one worker, of all, or of a period. Any number of readers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Durations per bucket (not cumulative).
    pub(crate) counts: CounterArray<BUCKETS>,
    /// Sum of all durations.
    pub(crate) nanoseconds: Counter,
}

impl Histogram {
    /// Records a duration. Only one thread may call it.
    pub(crate) fn record(&self, took: Duration) {
        self.record_with(took, Counter::add);
    }

    /// Records a duration. Any thread may call it.
    pub(crate) fn record_shared(&self, took: Duration) {
        self.record_with(took, Counter::add_shared);
    }

    fn record_with(&self, took: Duration, add: impl Fn(&Counter, u64)) {
        let nanoseconds =
            took.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(took.subsec_nanos()));
        let bucket = BOUNDS_NS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        add(&self.counts[bucket], 1);
        add(&self.nanoseconds, nanoseconds);
    }

    /// Adds the durations of `other`.
    pub(super) fn add(&self, other: &Self) {
        self.counters().zip(other.counters()).for_each(|(sum, count)| sum.add(count.get()));
    }

    /// All counters, in the same order for all histograms.
    pub(super) fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counts.iter().chain([&self.nanoseconds])
    }

    /// Number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.counts.sum()
    }

    /// Estimates the quantile `rank` (0 to 1), assuming that durations are spread evenly inside a bucket. `None` if there are
    /// no durations.
    pub(crate) fn quantile(&self, rank: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = (count as f64 * rank.clamp(0.0, 1.0)).max(f64::MIN_POSITIVE);
        let mut before = 0_u64;
        for (index, inside) in self.counts.iter().map(Counter::get).enumerate() {
            if inside > 0 && (before + inside) as f64 >= wanted {
                let low = index.checked_sub(1).map_or(0, |index| BOUNDS_NS[index]);
                let high = BOUNDS_NS.get(index).copied().unwrap_or(low);
                let share = (wanted - before as f64) / inside as f64;
                return Some(Duration::from_nanos(low + ((high - low) as f64 * share) as u64));
            }
            before += inside;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[Duration]) -> Histogram {
        let (own, shared) = (Histogram::default(), Histogram::default());
        all.iter().for_each(|took| {
            own.record(*took);
            shared.record_shared(*took);
        });
        let counts = |histogram: &Histogram| histogram.counters().map(Counter::get).collect::<Vec<_>>();
        assert_eq!(counts(&own), counts(&shared), "both methods count the same");
        own
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
            assert_eq!(seen.counts[bucket].get(), 1, "{nanoseconds}");
            assert_eq!((seen.count(), seen.nanoseconds.get()), (1, nanoseconds));
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
}
