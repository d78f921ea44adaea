//! Numbers at one moment, as far as the dashboard compares them with earlier ones.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;

use crate::admin::readings::Readings;
use crate::admin::registry::metric::Series;
use crate::telemetry::metrics::counts::MetricCounts;

/// Counters at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) totals: MetricCounts,
    /// Lookups of names that a cache answered, and lookups that needed the disk.
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) connections: u64,
    /// Failures and rejections by kind: all samples have the same kinds in the same order.
    pub(super) problems: Vec<ProblemCount>,
}

/// Number of problems of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ProblemCount {
    /// `refused`, `faults`, `closed`, `timeouts`, or `cut` for incomplete responses.
    pub(super) group: String,
    pub(super) kind: String,
    /// Since the start.
    pub(super) total: u64,
    /// In the last minute and in the last second, once the sample is compared with earlier ones.
    pub(super) last_minute: u64,
    pub(super) last_second: u64,
}

impl Sample {
    pub(super) fn new(readings: &Readings, series: &[Series<'_>], at: Instant) -> Self {
        // The path cache of a worker comes before the name cache that all share.
        let (path_cache_hits, _) = readings.totals.path_cache_hits_and_misses();
        let shared = readings.server.site.files.shared.names.cache.counts();
        let mut problems: Vec<ProblemCount> = Vec::new();
        for (group, kind, total) in series.iter().filter_map(Series::as_problem) {
            match problems.iter_mut().find(|known| known.group == group && known.kind == kind) {
                Some(known) => known.total += total,
                None => {
                    let (group, kind) = (group.to_owned(), kind.to_owned());
                    problems.push(ProblemCount { group, kind, total, last_minute: 0, last_second: 0 });
                }
            }
        }
        Self {
            at,
            totals: readings.totals.clone(),
            hits: path_cache_hits + shared.hits,
            misses: shared.misses,
            connections: readings.client_limits.connections.open.load(Ordering::Relaxed) as u64,
            problems,
        }
    }

    /// Requests and connections rejected since the start.
    pub(super) fn rejected(&self) -> u64 {
        self.problems.iter().filter(|problem| problem.group == "refused").map(|problem| problem.total).sum()
    }
}
