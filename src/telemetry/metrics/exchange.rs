//! One request and its response, from the end of the request head to the last byte sent.

use std::cell::Cell;
use std::time::Instant;

pub(crate) use super::outcome::{ExchangeOutcome, Protocol};
use crate::http::method::Method;
use crate::telemetry::access_log::record::{AccessLogRecord, EndedExchange};

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
        Self { began, first_byte: None, method, protocol, status: 0, sent: 0, record: Cell::default() }
    }
}
