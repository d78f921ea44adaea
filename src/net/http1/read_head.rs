//! Waits for the head of a request.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::connection::Http1Connection;
use crate::http::canned_response::{self as canned, CannedResponse};
use crate::net::head::parse;
use crate::net::http2::PREFACE;
use crate::net::{ParsedHead, Scan, Scanner, WorkerContext};
use crate::telemetry::access_log::record::AccessLogRecord;

/// What a client sent.
pub(super) enum Arrival {
    Request(ParsedHead),
    /// No acceptable request: the response to it, whether it has no body since the method is HEAD, and the log record.
    Rejected(CannedResponse, bool, Option<Box<AccessLogRecord>>),
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
        // Blank lines alone are no request.
        let is_blank = self.input.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        Poll::Ready((!is_blank).then(|| self.reject(canned::REQUEST_TIMEOUT, &self.input)))
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
        loop {
            let left = &bytes[start..];
            match self.scanner.scan(left, limits) {
                Scan::Partial if start == 0 => return None,
                // Blank lines stay in the buffer with what follows them, and are scanned again.
                Scan::Partial => {
                    self.scanner = Scanner::default();
                    return (bytes.len() >= limits.bytes)
                        .then(|| (self.reject(canned::BAD_REQUEST, left), bytes.len()));
                }
                Scan::Blank(length) => start += length,
                Scan::Rejected(response) => {
                    return Some((self.reject(response, left), bytes.len()));
                }
                Scan::Complete(length) => {
                    let head = &left[..length];
                    context.metrics.counts.longest_head.raise(length as u64);
                    let arrival = match parse(head, limits, &context.last_host) {
                        Ok(parsed) => Arrival::Request(parsed),
                        // The preface of HTTP/2 looks like a head of HTTP/1.1 with a body (RFC 9113 §3.4).
                        Err(canned::VERSION_NOT_SUPPORTED)
                            if context.settings().http2.http2.is_on() && PREFACE.starts_with(head) =>
                        {
                            return Some((Arrival::Http2, start));
                        }
                        Err(response) => self.reject(response, head),
                    };
                    return Some((arrival, start + length));
                }
            }
        }
    }

    fn reject(&self, response: CannedResponse, head: &[u8]) -> Arrival {
        Arrival::Rejected(response, head.starts_with(b"HEAD "), self.record_rejected(head))
    }

    /// The record of bytes that are no acceptable request.
    pub(super) fn record_rejected(&self, head: &[u8]) -> Option<Box<AccessLogRecord>> {
        let context = self.context();
        context.log_options.get().record_rejected(head, &self.socket, &context.limits)
    }

    /// True if the buffer holds the whole head of a pipelined request.
    pub(super) fn has_whole_head(&self) -> bool {
        // Two blank lines before a head are not the end of one.
        let start = self.input.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        start.is_some_and(|start| memchr::memmem::find(&self.input[start..], b"\r\n\r\n").is_some())
    }
}
