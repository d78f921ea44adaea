//! The event that a dashboard receives once a second, as JSON.

use serde::{Serialize, Serializer};

use super::figures::{per, rounded};
use super::rates::{BusyFile, Download};
use super::sample::{ProblemCount, Sample};
use crate::limits::connections::ActivityCounts;
use crate::telemetry::metrics::histogram::Histogram;
use crate::telemetry::metrics::kind::{SendPath, StatusClass};

/// Everything that the page shows.
#[derive(Serialize)]
pub(super) struct Snapshot<'a> {
    /// Milliseconds since 1970.
    pub(super) at_ms: u64,
    /// Newest chart point. `None` in the first second.
    pub(super) point: Option<&'a ChartPoint>,
    /// Figures of the last ten seconds.
    pub(super) recent: Option<Recent>,
    /// Failures and rejections since the start.
    pub(super) troubles: Vec<ProblemCount>,
    pub(super) downloads_under_way: usize,
    /// Slowest first.
    pub(super) downloads: Vec<Download>,
    /// Busiest first.
    pub(super) busy: Vec<BusyFile>,
    /// Connections by state.
    pub(super) activities: ActivityCounts,
    pub(super) status: serde_json::Value,
}

/// Chart values of one second. As JSON, an array in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ChartPoint {
    at_ms: u64,
    requests_per_second: f64,
    bytes_per_second: f64,
    /// Milliseconds to the first byte over the last ten seconds. `None` if no request completed.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    errors_per_second: f64,
    rejected_per_second: f64,
    connections: u64,
}

/// Shares and latencies of a period.
#[derive(Serialize)]
pub(super) struct Recent {
    requests: u64,
    /// Requests by status class.
    classes: [NamedRate; StatusClass::ALL.len()],
    /// Bytes by send path.
    paths: [NamedRate; SendPath::ALL.len()],
    duration: Quantiles,
    first_byte: Quantiles,
    /// Share of cache hits among lookups. `None` without lookups.
    hit_share: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct NamedRate {
    name: &'static str,
    per_second: f64,
}

/// Quantiles in milliseconds. `None` without requests.
#[derive(Serialize)]
pub(super) struct Quantiles {
    p50_ms: Option<f64>,
    p90_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl ChartPoint {
    /// Rates between the `last` sample and `now`, latencies since the `recent` one.
    pub(super) fn between(at_ms: u64, now: &Sample, last: &Sample, recent: &Sample) -> Self {
        let seconds = seconds_between(last, now);
        let done = now.totals.since(&last.totals);
        let durations = now.totals.since(&recent.totals).first_bytes;
        Self {
            at_ms,
            requests_per_second: per(done.exchanges.sum(), seconds),
            bytes_per_second: per(done.sent.sum(), seconds),
            p50_ms: quantile(&durations, 0.5),
            p99_ms: quantile(&durations, 0.99),
            errors_per_second: per(done.errors(), seconds),
            rejected_per_second: per(now.rejected().saturating_sub(last.rejected()), seconds),
            connections: now.connections,
        }
    }
}

impl Serialize for ChartPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let array = (
            self.at_ms,
            self.requests_per_second,
            self.bytes_per_second,
            self.p50_ms,
            self.p99_ms,
            self.errors_per_second,
            self.rejected_per_second,
            self.connections,
        );
        array.serialize(serializer)
    }
}

impl Recent {
    pub(super) fn between(now: &Sample, before: &Sample) -> Self {
        let (seconds, done) = (seconds_between(before, now), now.totals.since(&before.totals));
        let share = |name, count| NamedRate { name, per_second: per(count, seconds) };
        let hits = now.hits.saturating_sub(before.hits);
        let lookups = hits + now.misses.saturating_sub(before.misses);
        Self {
            requests: done.exchanges.sum(),
            classes: StatusClass::ALL.map(|class| share(class.name(), done.of_class(class))),
            paths: SendPath::ALL.map(|path| share(path.name(), done.sent[path as usize].get())),
            duration: Quantiles::of(&done.durations),
            first_byte: Quantiles::of(&done.first_bytes),
            hit_share: (lookups > 0).then(|| rounded(hits as f64 / lookups as f64)),
        }
    }
}

impl Quantiles {
    fn of(durations: &Histogram) -> Self {
        let [p50_ms, p90_ms, p99_ms] = [0.5, 0.9, 0.99].map(|rank| quantile(durations, rank));
        Self { p50_ms, p90_ms, p99_ms }
    }
}

/// Lists all problems so far, those of the last minute first. `minute` and `second` are the samples a minute and a second ago.
pub(super) fn summarize(now: &Sample, minute: Option<&Sample>, second: Option<&Sample>) -> Vec<ProblemCount> {
    let mut problems = now.problems.clone();
    for (index, problem) in problems.iter_mut().enumerate() {
        let since = |before: Option<&Sample>| {
            let before = before.and_then(|before| before.problems.get(index));
            before.map_or(0, |before| problem.total.saturating_sub(before.total))
        };
        (problem.last_minute, problem.last_second) = (since(minute), since(second));
    }
    problems.retain(|problem| problem.total > 0);
    problems.sort_by_key(|problem| std::cmp::Reverse((problem.last_minute, problem.total)));
    problems
}

fn seconds_between(before: &Sample, now: &Sample) -> f64 {
    now.at.saturating_duration_since(before.at).as_secs_f64()
}

fn quantile(durations: &Histogram, rank: f64) -> Option<f64> {
    durations.quantile(rank).map(|took| rounded(took.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn sample(at: Instant, seconds: u64, counts: [u64; 3], lookups: [u64; 2]) -> Sample {
        let kinds = [("refused", "a"), ("faults", "b"), ("cut", "c")];
        let problem = |((group, kind), total): ((&str, &str), u64)| {
            let (group, kind) = (group.to_owned(), kind.to_owned());
            ProblemCount { group, kind, total, last_minute: 0, last_second: 0 }
        };
        Sample {
            at: at + Duration::from_secs(seconds),
            totals: Default::default(),
            hits: lookups[0],
            misses: lookups[1],
            connections: 0,
            problems: kinds.into_iter().zip(counts).map(problem).collect(),
        }
    }

    #[test]
    fn problems_of_the_last_minute_come_first_and_kinds_that_never_occurred_are_left_out() {
        let at = Instant::now();
        let minute = sample(at, 0, [900, 1, 0], [0, 0]);
        let (second, now) = (sample(at, 59, [900, 3, 0], [0, 0]), sample(at, 60, [900, 4, 0], [0, 0]));
        let listed = summarize(&now, Some(&minute), Some(&second));
        let seen: Vec<_> =
            listed.iter().map(|one| (&*one.kind, one.total, one.last_minute, one.last_second)).collect();
        assert_eq!(seen, [("b", 4, 3, 1), ("a", 900, 0, 0)]);
    }

    #[test]
    fn the_share_of_cache_hits_is_that_of_the_time_between() {
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
