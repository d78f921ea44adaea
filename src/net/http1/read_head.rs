//! Waits for the head of a request.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::connection::Http1Connection;
use crate::http::canned_response::{self as canned, CannedResponse};
use crate::net::http2::PREFACE;
use crate::net::{ParsedHead, Scan, Scanner, WorkerContext, request_log};
use crate::telemetry::metrics::exchange::{Exchange, Protocol};
use crate::telemetry::metrics::kind::RejectedHead;

/// Input at the start of an exchange: a head, or the preface of HTTP/2.
pub(super) enum Arrival {
    Request(ParsedHead),
    /// A rejected head: the response to it, and true if the method is HEAD.
    Rejected(CannedResponse, bool),
    /// The preface of HTTP/2, which stays in the buffer.
    Http2,
}

impl Http1Connection {
    /// Waits for the next request. `None` if the connection ends without one.
    pub(super) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        let context = Rc::clone(self.context());
        loop {
            if let Some(arrival) = self.take_head(&context) {
                return Poll::Ready(Some(arrival));
            }
            let mut scratch = context.scratch.borrow_mut();
            let read = match self.socket.poll_read(cx, &mut scratch) {
                Poll::Pending if context.is_closing.get() => self.socket.read_now(&mut scratch),
                read => read,
            };
            let Poll::Ready(read) = read else {
                drop(scratch);
                return self.poll_deadline(cx);
            };
            let Ok(length @ 1..) = read else { return Poll::Ready(None) };
            let is_first = self.input.is_empty();
            self.now = Instant::now();
            self.is_woken = false;
            if is_first {
                // Usually one read brings one whole head, which never enters the buffer.
                self.deadline.set(self.now, context.settings().connections.head_timeout.get());
                let Some((arrival, used)) = self.head_in(&scratch[..length], &context) else {
                    self.input.extend_from_slice(&scratch[..length]);
                    self.registration.set_reading();
                    continue;
                };
                self.input.extend_from_slice(&scratch[used..length]);
                return Poll::Ready(Some(arrival));
            }
            self.input.extend_from_slice(&scratch[..length]);
        }
    }

    /// Nothing has arrived: ready once the connection must end, or its request has taken too long.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrival>> {
        if self.input.is_empty() {
            self.input = Vec::new();
            self.queue.shrink();
            self.registration.await_request(cx, self.now);
            // If the slot is needed, a request that has arrived meanwhile is answered first.
            if self.registration.is_evicted() && !self.socket.has_arrived() {
                return Poll::Ready(None);
            }
            if self.registration.closes_after(self.now, &mut self.deadline) {
                return self.deadline.poll(cx).map(|()| None);
            }
        }
        // A timer that was armed before needs no poll if bytes woke the task: if it fired too, it wakes the task again.
        let is_armed = !std::mem::replace(&mut self.is_woken, true) && self.deadline.is_armed();
        if is_armed {
            return Poll::Pending;
        }
        ready!(self.deadline.poll(cx));
        let input = std::mem::take(&mut self.input);
        // Blank lines alone are no request.
        let is_blank = input.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        Poll::Ready((!is_blank).then(|| self.reject(canned::REQUEST_TIMEOUT, &input)))
    }

    /// Takes a whole head from the front of the buffer.
    fn take_head(&mut self, context: &WorkerContext) -> Option<Arrival> {
        if self.input.is_empty() {
            return None;
        }
        let input = std::mem::take(&mut self.input);
        let found = self.head_in(&input, context);
        self.input = input;
        let (arrival, used) = found?;
        self.input.drain(..used);
        Some(arrival)
    }

    /// Finds a whole head at the front of `bytes`, and returns it with its length.
    fn head_in(&mut self, bytes: &[u8], context: &WorkerContext) -> Option<(Arrival, usize)> {
        let limits = context.head_limits();
        let mut start = 0;
        while bytes[start..].starts_with(b"\r\n") {
            start += 2;
        }
        if start > 0 {
            // Blank lines stay in the buffer with what follows them, and are scanned again.
            self.scanner = Scanner::default();
        }
        let left = &bytes[start..];
        let length = match self.scanner.scan(left, limits) {
            Scan::Complete(length) => length,
            Scan::Partial if start == 0 || bytes.len() < limits.bytes => return None,
            Scan::Partial => return Some((self.reject(canned::BAD_REQUEST, left), bytes.len())),
            Scan::Rejected(response) => return Some((self.reject(response, left), bytes.len())),
        };
        let head = &left[..length];
        context.metrics.counts.longest_head.raise(length as u64);
        let arrival = match limits.parse(head, &context.last_host) {
            Ok(parsed) => Arrival::Request(parsed),
            // The preface of HTTP/2 looks like a head of HTTP/1.1 with a body (RFC 9113 §3.4).
            Err(canned::VERSION_NOT_SUPPORTED)
                if context.settings().http2.http2.is_on() && PREFACE.starts_with(head) =>
            {
                return Some((Arrival::Http2, start));
            }
            Err(response) => self.reject(response, head),
        };
        Some((arrival, start + length))
    }

    /// Counts and records what is no acceptable request: `head`.
    pub(super) fn reject(&mut self, response: CannedResponse, head: &[u8]) -> Arrival {
        let context = &self.registration.context;
        let rejected = match response.status {
            414 | 431 => RejectedHead::TooLarge,
            408 => RejectedHead::TooSlow,
            _ => RejectedHead::Malformed,
        };
        context.metrics.counts.rejected_heads[rejected as usize].add(1);
        let exchange = Exchange::new(Instant::now(), None, Protocol::Http11);
        request_log::record_rejected(context, &exchange, head, &self.socket);
        self.exchanges.begin(exchange, self.queue.pushed);
        Arrival::Rejected(response, head.starts_with(b"HEAD "))
    }

    /// True if the buffer holds the whole head of a pipelined request.
    pub(super) fn has_whole_head(&self) -> bool {
        // Two blank lines before a head are not the end of one.
        let start = self.input.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        start.is_some_and(|start| memchr::memmem::find(&self.input[start..], b"\r\n\r\n").is_some())
    }
}
