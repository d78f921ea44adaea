//! One request and its response.

use std::cell::Cell;
use std::time::Instant;

pub(crate) use super::outcome::{ExchangeOutcome, Protocol};
use crate::http::method::Method;
use crate::telemetry::access_log::record::{AccessLogRecord, EndedExchange};

/// An exchange under way (RFC 9110 §3.9).
pub(crate) struct Exchange {
    /// When the request's head was whole.
    pub(crate) began: Instant,
    /// When the first bytes of the response were handed to the kernel.
    pub(crate) first_byte: Option<Instant>,
    /// None where no request could be made of what came.
    pub(crate) method: Option<Method>,
    pub(crate) protocol: Protocol,
    /// 0 until there is a response.
    pub(crate) status: u16,
    /// Bytes of the response that were handed to the kernel, its head included.
    pub(crate) sent: u64,
    /// What is noted of it for the log, if anything; taken once it has ended.
    pub(crate) note: Cell<Option<Box<AccessLogRecord>>>,
}

impl Exchange {
    /// What is told of it, once it has ended at `now`.
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

    /// An exchange that begins now.
    pub(crate) fn new(began: Instant, method: Option<Method>, protocol: Protocol) -> Self {
        Self { began, first_byte: None, method, protocol, status: 0, sent: 0, note: Cell::default() }
    }
}
