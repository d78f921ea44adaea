//! An exchange under way as it is counted, logged and listed, for both protocols.

use std::time::Instant;

use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::telemetry::access_log::record::{AccessLogRecord, WaitKind};
use crate::telemetry::metrics::exchange::Exchange;
use crate::telemetry::metrics::transfers::{ListedTransfer, Transfer};
use crate::telemetry::metrics::worker::WorkerMetrics;

/// An exchange under way.
pub(super) struct TrackedExchange {
    pub(super) exchange: Exchange,
    /// Its entry in the list of transfers, once it has had to wait.
    listed: Option<ListedTransfer>,
}

impl TrackedExchange {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self { exchange, listed: None }
    }

    /// The record for the access log. `None` if nothing is recorded.
    pub(super) fn record(&mut self) -> Option<&mut AccessLogRecord> {
        self.exchange.record.get_mut().as_deref_mut()
    }

    /// Records that the response waits from `now` on, or that it goes on.
    pub(super) fn note_wait(&mut self, now: impl FnOnce() -> Instant, wait: Option<WaitKind>) {
        if let Some(record) = self.record() {
            record.set_wait(now(), wait);
        }
    }

    /// Records that `bytes` of the response were requested from the disk.
    pub(super) fn note_cold(&mut self, bytes: u64) {
        if let Some(record) = self.record() {
            record.cold_bytes += bytes;
        }
    }

    /// Lists the response among the transfers, with `sent` bytes sent so far. `start` gives the client, the file and
    /// the length in bytes as far as known.
    pub(super) fn list(
        &mut self,
        metrics: &WorkerMetrics,
        sent: u64,
        start: impl FnOnce() -> (ClientKey, Option<SitePath<'static>>, Option<u64>),
    ) {
        if let Some(listed) = &mut self.listed {
            return listed.set_sent(sent);
        }
        let (client, path, total) = start();
        let Exchange { began: started, protocol, .. } = self.exchange;
        let sent = sent.into();
        self.listed = Some(metrics.transfers.add(Transfer { client, path, total, started, protocol, sent }));
    }
}
