//! An HTTP/2 exchange as it is counted and logged.

use std::rc::Rc;
use std::time::Instant;

use super::chunk::ResponseMeter;
use super::context::ConnectionContext;
use super::source::BodySource;
use crate::http::client_key::ClientKey;
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome};

/// An exchange of the connection, counted when dropped.
pub(super) struct OpenStream {
    pub(super) connection: Rc<ConnectionContext>,
    pub(super) exchange: Exchange,
    pub(super) meter: Rc<ResponseMeter>,
    /// Position at which its response begins at the earliest, in bytes since the connection began to send.
    pub(super) start: Option<u64>,
    pub(super) outcome: Option<ExchangeOutcome>,
}

impl OpenStream {
    pub(super) fn new(connection: &Rc<ConnectionContext>, exchange: Exchange) -> Self {
        Self {
            exchange,
            meter: ResponseMeter::new(&connection.meter),
            start: None,
            outcome: None,
            connection: Rc::clone(connection),
        }
    }

    /// Returns true if the exchange has ended. Its response ends at the position `end`, and everything before `sent`
    /// was sent.
    pub(super) fn settle(&mut self, sent: u64, end: u64) -> bool {
        if self.outcome.is_none() && self.meter.is_lost() {
            self.outcome = Some(ExchangeOutcome::ClientGone);
        }
        if self.outcome.is_none() && self.meter.is_empty() && sent >= end {
            self.note_first_byte();
            self.outcome = Some(ExchangeOutcome::Complete);
        }
        self.outcome.is_some()
    }

    /// Records how much of the response was requested from the disk.
    pub(super) fn note_cold(&mut self, source: &mut BodySource) {
        self.exchange.add_cold_bytes(source.cursor.take_cold_bytes());
    }

    /// Lists the response among the transfers: it has to wait.
    pub(super) fn list_waiting(&mut self, client: ClientKey, source: &BodySource) {
        let sent = self.meter.taken();
        let start = || {
            let total = source.left().checked_add(sent).filter(|total| *total < u64::MAX);
            (client, source.file().cloned(), total)
        };
        self.exchange.list(&self.connection.worker.metrics.transfers, sent, start);
    }

    /// Notes the first byte if some of the response was sent.
    pub(super) fn note_first_byte(&mut self) {
        let io = self.connection.io.borrow();
        let exchange = &mut self.exchange;
        if exchange.first_byte.is_none() && self.start.is_some_and(|start| io.sent > start) {
            exchange.first_byte = Some(io.now);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(self.connection.end.get());
        self.exchange.sent = self.meter.taken();
        self.connection.worker.metrics.end(&self.exchange, outcome, Instant::now());
    }
}
