//! Metrics of all workers. Each worker counts for itself without locks; readers add the workers up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::counts::MetricCounts;
use super::transfers::{SlowestTransfers, Transfer};
use super::worker::WorkerMetrics;
use crate::telemetry::access_log::shared::AccessLog;

/// Metrics of all workers. A handle: clones share the same counters.
#[derive(Clone, Default)]
pub struct Metrics {
    /// All workers since the start.
    workers: Arc<Mutex<Vec<Arc<WorkerMetrics>>>>,
    access_log: Option<Arc<AccessLog>>,
}

impl Metrics {
    /// Creates metrics that also pass each completed request to `access_log`.
    pub(crate) fn with_access_log(access_log: Arc<AccessLog>) -> Self {
        Self { access_log: Some(access_log), ..Self::default() }
    }

    /// Registers one more worker and returns its counters.
    pub fn worker(&self) -> Arc<WorkerMetrics> {
        let access_log = self.access_log.clone();
        let worker = Arc::new(WorkerMetrics { access_log, ..WorkerMetrics::default() });
        self.workers.lock().push(Arc::clone(&worker));
        worker
    }

    /// Sums the counters of all workers, including those that have ended.
    pub(crate) fn totals(&self) -> MetricCounts {
        let totals = MetricCounts::default();
        self.workers.lock().iter().for_each(|worker| totals.add(&worker.counts));
        totals
    }

    /// Returns the slowest long responses in progress, a bounded number, the slowest first.
    pub(crate) fn transfers(&self) -> Vec<Arc<Transfer>> {
        let mut slowest = SlowestTransfers { now: Instant::now(), found: BTreeMap::new() };
        self.workers.lock().iter().for_each(|worker| worker.transfers.add_slowest_to(&mut slowest));
        slowest.found.into_values().collect()
    }

    /// Number of long responses in progress.
    pub(crate) fn transfer_count(&self) -> usize {
        self.workers.lock().iter().map(|worker| worker.transfers.len()).sum()
    }
}
