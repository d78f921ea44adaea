//! One request and its response, from the end of the request head to the last byte sent.

use std::cell::Cell;
use std::time::Instant;

pub(crate) use super::kind::{ExchangeOutcome, Protocol};
use super::transfers::{ListedTransfer, Transfer, Transfers};
use crate::http::client_key::ClientKey;
use crate::http::method::Method;
use crate::http::target::SitePath;
use crate::telemetry::access_log::record::{AccessLogRecord, EndedExchange, WaitKind};

/// An HTTP exchange in progress (RFC 9110 §3.9).
pub(crate) struct Exchange {
    /// When the request head was complete.
    pub(crate) began: Instant,
    /// When the kernel accepted the first bytes of the response.
    pub(crate) first_byte: Option<Instant>,
    /// `None` if the request could not be parsed.
    pub(crate) method: Option<Method>,
    pub(crate) protocol: Protocol,
    /// Response status; 0 until there is a response.
    pub(crate) status: u16,
    /// Bytes of the response accepted by the kernel, response head included.
    pub(crate) sent: u64,
    /// Data for the access log, if the request is logged. Taken when the exchange ends.
    pub(crate) record: Cell<Option<Box<AccessLogRecord>>>,
    /// Entry in the list of transfers, once the response has had to wait.
    pub(crate) listed: Option<ListedTransfer>,
}

impl Exchange {
    /// Returns the result of the exchange, which ends at `now`.
    pub(crate) fn ended(&self, outcome: ExchangeOutcome, now: Instant) -> EndedExchange {
        EndedExchange {
            at: now,
            took: now.saturating_duration_since(self.began),
            first_byte: self.first_byte.map(|first| first.saturating_duration_since(self.began)),
            protocol: self.protocol,
            status: self.status,
            sent: self.sent,
            outcome,
            sample: 1,
        }
    }

    /// Creates an exchange that started at `began`.
    pub(crate) fn new(began: Instant, method: Option<Method>, protocol: Protocol) -> Self {
        let record = Cell::default();
        Self { began, first_byte: None, method, protocol, status: 0, sent: 0, record, listed: None }
    }

    /// Returns the record for the access log. `None` if nothing is recorded.
    pub(crate) fn record(&mut self) -> Option<&mut AccessLogRecord> {
        self.record.get_mut().as_deref_mut()
    }

    /// Records that the response waits from `now` on, or that it goes on.
    pub(crate) fn set_wait(&mut self, now: impl FnOnce() -> Instant, wait: Option<WaitKind>) {
        if let Some(record) = self.record() {
            record.set_wait(now(), wait);
        }
    }

    /// Records that `bytes` of the response were requested from the disk.
    pub(crate) fn add_cold_bytes(&mut self, bytes: u64) {
        if let Some(record) = self.record() {
            record.cold_bytes += bytes;
        }
    }

    /// Lists the response in `transfers`, with `sent` bytes sent so far. `start` gives the client, the file and the
    /// length in bytes as far as known.
    pub(crate) fn list(
        &mut self,
        transfers: &Transfers,
        sent: u64,
        start: impl FnOnce() -> (ClientKey, Option<SitePath<'static>>, Option<u64>),
    ) {
        if let Some(listed) = &mut self.listed {
            return listed.transfer.sent.set(sent);
        }
        let (client, path, total) = start();
        let (Self { began: started, protocol, .. }, sent) = (&*self, sent.into());
        let transfer = Transfer { client, path, total, started: *started, protocol: *protocol, sent };
        self.listed = Some(transfers.add(transfer));
    }
}
