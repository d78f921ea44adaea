//! What is told of a second, as JSON.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::figures::{per, rounded};
use super::rates::{BusyFile, Download};
use super::sample::Sample;
use crate::admin::status::Status;
use crate::limits::connections::ActivityCounts;
use crate::telemetry::metrics::histogram::HistogramTotals;
use crate::telemetry::metrics::worker::{SendPath, StatusClass};

/// All that the page shows.
#[derive(Serialize)]
pub(super) struct Snapshot<'a> {
    /// Milliseconds since 1970.
    pub(super) at_ms: u64,
    /// The last of the points in the history; none in the first second.
    pub(super) point: Option<&'a ChartPoint>,
    /// Over the last ten seconds.
    pub(super) recent: Option<Recent>,
    /// Whatever was refused, cut or failed since the start.
    pub(super) troubles: Vec<ProblemSummary>,
    pub(super) downloads_under_way: usize,
    /// The slowest of them first.
    pub(super) downloads: Vec<Download>,
    /// The busiest first.
    pub(super) busy: Vec<BusyFile>,
    /// Connections by what they do.
    pub(super) activities: ActivityCounts,
    pub(super) status: &'a Status,
}

/// What is drawn of one second. As JSON an array in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ChartPoint {
    at_ms: u64,
    requests_per_second: f64,
    bytes_per_second: f64,
    /// Milliseconds to the first byte, over the last ten seconds; none where nothing ended.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    errors_per_second: f64,
    refused_per_second: f64,
    connections: u64,
}

/// Shares and latencies.
#[derive(Serialize)]
pub(super) struct Recent {
    requests: u64,
    /// Requests with each class of status.
    classes: Vec<CacheShare>,
    /// Bytes by the way that they went.
    paths: Vec<CacheShare>,
    duration: Quantiles,
    first_byte: Quantiles,
    /// Of the names that were asked for, the share that was known; none where there were none.
    hit_share: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct CacheShare {
    name: &'static str,
    per_second: f64,
}

/// Milliseconds that a share of the requests did not exceed; none where there were none.
#[derive(Serialize)]
pub(super) struct Quantiles {
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// Something that went wrong, and how often.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ProblemSummary {
    group: &'static str,
    kind: String,
    /// Since the start.
    total: u64,
    /// Within the last minute, and in the last second.
    last_minute: u64,
    last_second: u64,
}

impl ChartPoint {
    /// What happened between the `last` sample and `now`; latencies are those since the `recent` one.
    pub(super) fn between(at_ms: u64, now: &Sample, last: &Sample, recent: &Sample) -> Self {
        let seconds = seconds_between(last, now);
        let done = now.totals.since(&last.totals);
        let durations = now.totals.first_bytes.since(&recent.totals.first_bytes);
        Self {
            at_ms,
            requests_per_second: per(done.requests(), seconds),
            bytes_per_second: per(done.bytes(), seconds),
            p50_ms: quantile(&durations, 0.5),
            p99_ms: quantile(&durations, 0.99),
            errors_per_second: per(done.errors(), seconds),
            refused_per_second: per(now.refused().saturating_sub(last.refused()), seconds),
            connections: now.connections,
        }
    }
}

impl Serialize for ChartPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(8))?;
        array.serialize_element(&self.at_ms)?;
        array.serialize_element(&self.requests_per_second)?;
        array.serialize_element(&self.bytes_per_second)?;
        array.serialize_element(&self.p50_ms)?;
        array.serialize_element(&self.p99_ms)?;
        array.serialize_element(&self.errors_per_second)?;
        array.serialize_element(&self.refused_per_second)?;
        array.serialize_element(&self.connections)?;
        array.end()
    }
}

impl Recent {
    pub(super) fn between(now: &Sample, before: &Sample) -> Self {
        let (seconds, done) = (seconds_between(before, now), now.totals.since(&before.totals));
        let share = |name, count| CacheShare { name, per_second: per(count, seconds) };
        Self {
            requests: done.requests(),
            classes: StatusClass::ALL
                .into_iter()
                .map(|class| share(class.name(), done.of_class(class)))
                .collect(),
            paths: SendPath::ALL
                .into_iter()
                .zip(done.sent)
                .map(|(path, bytes)| share(path.name(), bytes))
                .collect(),
            duration: Quantiles::of(&done.durations),
            first_byte: Quantiles::of(&done.first_bytes),
            hit_share: now.lookups.share_since(before.lookups),
        }
    }
}

impl Quantiles {
    fn of(durations: &HistogramTotals) -> Self {
        let [p50_ms, p90_ms, p99_ms] = [0.5, 0.9, 0.99].map(|rank| quantile(durations, rank));
        Self { p50_ms, p90_ms, p99_ms }
    }
}

/// What has ever gone wrong: what did in the last minute first. `minute` and `second` are the samples of then.
pub(super) fn troubles(
    now: &Sample,
    minute: Option<&Sample>,
    second: Option<&Sample>,
) -> Vec<ProblemSummary> {
    let since = |before: Option<&Sample>, index: usize, count: u64| {
        // Kinds are the same, in the same order, in every sample.
        let before = before.and_then(|before| before.troubles.get(index)).map(|trouble| trouble.count);
        before.map_or(0, |before| count.saturating_sub(before))
    };
    let mut told: Vec<_> = now
        .troubles
        .iter()
        .enumerate()
        .filter(|(_, trouble)| trouble.count > 0)
        .map(|(index, trouble)| ProblemSummary {
            group: trouble.group,
            kind: trouble.kind.clone(),
            total: trouble.count,
            last_minute: since(minute, index, trouble.count),
            last_second: since(second, index, trouble.count),
        })
        .collect();
    told.sort_by_key(|trouble| std::cmp::Reverse((trouble.last_minute, trouble.total)));
    told
}

fn seconds_between(before: &Sample, now: &Sample) -> f64 {
    now.at.saturating_duration_since(before.at).as_secs_f64()
}

fn quantile(durations: &HistogramTotals, rank: f64) -> Option<f64> {
    durations.quantile(rank).map(|took| rounded(took.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::sampler::sample::{LookupSample, ProblemCounts};
    use std::time::{Duration, Instant};

    fn sample(at: Instant, seconds: u64, counts: [u64; 3], lookups: [u64; 2]) -> Sample {
        let kinds = [("refused", "a"), ("faults", "b"), ("cut", "c")];
        let troubles = kinds.into_iter().zip(counts);
        let troubles = troubles
            .map(|((group, kind), count)| ProblemCounts { group, kind: kind.to_owned(), count })
            .collect();
        Sample {
            at: at + Duration::from_secs(seconds),
            totals: Default::default(),
            lookups: LookupSample { hits: lookups[0], misses: lookups[1] },
            connections: 0,
            troubles,
        }
    }

    #[test]
    fn what_happened_in_the_last_minute_comes_first_and_what_never_did_not_at_all() {
        let at = Instant::now();
        let minute = sample(at, 0, [900, 1, 0], [0, 0]);
        let (second, now) = (sample(at, 59, [900, 3, 0], [0, 0]), sample(at, 60, [900, 4, 0], [0, 0]));
        let told = troubles(&now, Some(&minute), Some(&second));
        let seen: Vec<_> =
            told.iter().map(|told| (&*told.kind, told.total, told.last_minute, told.last_second)).collect();
        assert_eq!(seen, [("b", 4, 3, 1), ("a", 900, 0, 0)]);
    }

    #[test]
    fn the_share_of_known_names_is_that_of_the_time_between() {
        let at = Instant::now();
        for (before, now, expected) in [
            ([0, 0], [0, 0], None),
            ([5, 5], [5, 5], None),
            ([0, 1000], [3, 1001], Some(0.75)),
            ([0, 0], [0, 7], Some(0.0)),
        ] {
            let (before, now) = (sample(at, 0, [0; 3], before), sample(at, 1, [0; 3], now));
            assert_eq!(Recent::between(&now, &before).hit_share, expected);
        }
    }
}
