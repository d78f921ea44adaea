//! Numbers at one moment, as far as the dashboard compares them with earlier ones.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::figures::rounded;
use crate::admin::readings::Readings;
use crate::admin::registry::metric::Series;
use crate::telemetry::metrics::counts::MetricCounts;

/// Counters at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) totals: MetricCounts,
    pub(super) lookups: LookupSample,
    pub(super) connections: u64,
    /// Failures and rejections by kind.
    pub(super) problems: Vec<ProblemCounts>,
}

/// Lookups of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LookupSample {
    /// Lookups answered from a cache.
    pub(super) hits: u64,
    /// Lookups that needed the disk.
    pub(super) misses: u64,
}

/// Number of problems of one kind since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProblemCounts {
    /// `refused`, `faults`, `closed`, `timeouts`, or `cut` for incomplete responses.
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) count: u64,
}

impl Sample {
    pub(super) fn new(readings: &Readings, series: &[Series<'_>], at: Instant) -> Self {
        // The path cache of a worker comes before the name cache that all share.
        let (hits, _) = readings.totals.path_cache_hits_and_misses();
        let shared = readings.files.name_cache;
        let lookups = LookupSample { hits: hits + shared.hits, misses: shared.misses };
        let mut problems: Vec<ProblemCounts> = Vec::new();
        for (group, kind, count) in series.iter().filter_map(Series::as_problem) {
            match problems.iter_mut().find(|known| known.group == group && known.kind == kind) {
                Some(known) => known.count += count,
                None => {
                    problems.push(ProblemCounts { group: group.to_owned(), kind: kind.to_owned(), count })
                }
            }
        }
        let connections = readings.client_limits.connections.open.load(Ordering::Relaxed) as u64;
        Self { at, totals: readings.totals.clone(), lookups, connections, problems }
    }

    /// Requests and connections rejected since the start.
    pub(super) fn rejected(&self) -> u64 {
        self.problems.iter().filter(|problem| problem.group == "refused").map(|problem| problem.count).sum()
    }
}

impl LookupSample {
    /// Share of cache hits since `earlier`. `None` without lookups.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn share_since(self, earlier: Self) -> Option<f64> {
        let hits = self.hits.saturating_sub(earlier.hits);
        let all = hits + self.misses.saturating_sub(earlier.misses);
        (all > 0).then(|| rounded(hits as f64 / all as f64))
    }
}
