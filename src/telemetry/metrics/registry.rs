//! What becomes of each request: counted on every worker by itself, added up by whoever asks.
//!
//! | room        | what it knows                                            |
//! |-------------|----------------------------------------------------------|
//! | `exchange`  | one request and its response, from beginning to end      |
//! | `outcome`   | how it came and how it ended                             |
//! | `note`      | what is noted of a request for the log                   |
//! | `sheet`     | what one worker has counted                              |
//! | `kind`      | what is told apart where it is counted                   |
//! | `count`     | one count                                                |
//! | `http2`     | HTTP/2 connections, and the streams on them              |
//! | `durations` | how long things took, in buckets                         |
//! | `totals`    | what all workers have counted                            |
//! | `lookups`   | what one worker's short cuts led to                      |
//! | `transfers` | long responses under way                                 |

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::telemetry::access_log::record::AccessLogSink;
use crate::telemetry::metrics::lookups::{LookupCounts, WorkerLookups};
use crate::telemetry::metrics::totals::MetricTotals;
use crate::telemetry::metrics::transfers::{SlowestTransfers, Transfer};
use crate::telemetry::metrics::worker::WorkerMetrics;

/// The sheets of all workers. Cheap to clone; every clone is the same.
#[derive(Clone, Default)]
pub struct Metrics {
    sheets: Arc<Mutex<Vec<Arc<WorkerMetrics>>>>,
    lookups: Arc<Mutex<Vec<Arc<WorkerLookups>>>>,
    register: Option<Arc<dyn AccessLogSink>>,
}

impl Metrics {
    /// A ledger that hands the notes of exchanges to `register` once they have ended.
    pub(crate) fn writing(register: Arc<dyn AccessLogSink>) -> Self {
        Self { register: Some(register), ..Self::default() }
    }

    /// A sheet for one more worker.
    pub(crate) fn sheet(&self) -> Arc<WorkerMetrics> {
        let sheet = Arc::new(WorkerMetrics::handing_to(self.register.clone()));
        self.sheets.lock().push(Arc::clone(&sheet));
        sheet
    }

    /// The same for the short cuts of one more worker.
    pub(crate) fn lookups(&self) -> Arc<WorkerLookups> {
        let lookups = Arc::new(WorkerLookups::default());
        self.lookups.lock().push(Arc::clone(&lookups));
        lookups
    }

    /// What all workers' short cuts led to.
    pub(crate) fn lookup_counts(&self) -> LookupCounts {
        let mut counts = LookupCounts::default();
        for lookups in &*self.lookups.lock() {
            lookups.add_to(&mut counts);
        }
        counts
    }

    /// What all workers have counted.
    pub(crate) fn totals(&self) -> MetricTotals {
        let mut totals = MetricTotals::default();
        for sheet in self.sheets() {
            sheet.add_to(&mut totals);
        }
        totals
    }

    /// The long responses under way: at most [`TRANSFERS_SHOWN`], the slowest first.
    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        let mut slowest = SlowestTransfers::new(Instant::now(), TRANSFERS_SHOWN);
        for sheet in self.sheets() {
            sheet.transfers.look(&mut slowest);
        }
        slowest.into_transfers()
    }

    /// How many long responses are under way.
    pub(crate) fn transfers_under_way(&self) -> usize {
        self.sheets().iter().map(|sheet| sheet.transfers.len()).sum()
    }

    /// The sheets of all workers that there ever were.
    fn sheets(&self) -> Vec<Arc<WorkerMetrics>> {
        self.sheets.lock().clone()
    }
}

/// Most transfers that are shown at once.
pub(crate) const TRANSFERS_SHOWN: usize = 100;
