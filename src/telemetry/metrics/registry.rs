//! Metrics of all workers. Each worker counts for itself without locks; readers add the workers up.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::telemetry::access_log::record::AccessLogSink;
use crate::telemetry::metrics::lookups::{LookupCounts, WorkerLookups};
use crate::telemetry::metrics::totals::MetricTotals;
use crate::telemetry::metrics::transfers::{SlowestTransfers, Transfer};
use crate::telemetry::metrics::worker::WorkerMetrics;

/// Metrics of all workers. A handle: clones share the same counters.
#[derive(Clone, Default)]
pub struct Metrics {
    workers: Arc<Mutex<Vec<Arc<WorkerMetrics>>>>,
    lookups: Arc<Mutex<Vec<Arc<WorkerLookups>>>>,
    access_log: Option<Arc<dyn AccessLogSink>>,
}

impl Metrics {
    /// Creates metrics that also pass each completed request to `access_log`.
    pub(crate) fn with_access_log(access_log: Arc<dyn AccessLogSink>) -> Self {
        Self { access_log: Some(access_log), ..Self::default() }
    }

    /// Registers one more worker and returns its counters.
    pub(crate) fn worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::new(WorkerMetrics::new(self.access_log.clone()));
        self.workers.lock().push(Arc::clone(&worker));
        worker
    }

    /// Registers the path cache of one more worker and returns its counters.
    pub(crate) fn worker_lookups(&self) -> Arc<WorkerLookups> {
        let lookups = Arc::new(WorkerLookups::default());
        self.lookups.lock().push(Arc::clone(&lookups));
        lookups
    }

    /// Sums the path cache counters of all workers.
    pub(crate) fn lookup_counts(&self) -> LookupCounts {
        let mut counts = LookupCounts::default();
        for lookups in &*self.lookups.lock() {
            lookups.add_to(&mut counts);
        }
        counts
    }

    /// Sums the counters of all workers, including those that have ended.
    pub(crate) fn totals(&self) -> MetricTotals {
        let mut totals = MetricTotals::new();
        for worker in self.workers() {
            worker.add_to(&mut totals);
        }
        totals
    }

    /// Returns at most [`TRANSFERS_SHOWN`] long responses in progress, the slowest first.
    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        let mut slowest = SlowestTransfers::new(Instant::now(), TRANSFERS_SHOWN);
        for worker in self.workers() {
            worker.transfers.add_slowest_to(&mut slowest);
        }
        slowest.into_transfers()
    }

    /// Number of long responses in progress.
    pub(crate) fn transfer_count(&self) -> usize {
        self.workers().iter().map(|worker| worker.transfers.len()).sum()
    }

    /// All workers since the start.
    fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers.lock().clone()
    }
}

/// Maximum number of transfers listed at once.
pub(crate) const TRANSFERS_SHOWN: usize = 100;
