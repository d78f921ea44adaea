//! Ends HTTP/2 connections that stand still, in whatever state.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use h2::Reason;

use super::connection::{Http2Connection, Http2End, Stage};
use crate::net::{LAST_CHANCE, ReceiveRate, SendError, StallTimer};
use crate::telemetry::metrics::kind::RejectedHead;

impl Http2Connection {
    /// Does what is due: ends the connection, sends GOAWAY, or checks the client's progress.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Http2End> {
        loop {
            let (incomplete_since, now) = {
                let io = self.shared.io.borrow();
                (io.flood_guard.incomplete_since, io.now)
            };
            if !self.is_busy() && self.idle_since.is_none() {
                self.idle_since = Some(now);
                self.receive_rate = ReceiveRate::default();
            }
            if let Some(since) = self.idle_since
                && let Some(end) = self.idle(cx, since, incomplete_since.is_some())
            {
                return Poll::Ready(end);
            }
            let (from, span) = self.due(incomplete_since);
            self.deadline.set(from, span);
            ready!(self.deadline.poll(cx));
            if let Some(end) = self.overdue(incomplete_since) {
                return Poll::Ready(end);
            }
            if self.is_ending {
                // The next poll writes the GOAWAY.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// No stream is open: frees buffers, and makes room if the connection's slot is needed.
    fn idle(&mut self, cx: &mut Context<'_>, since: Instant, is_reading: bool) -> Option<Http2End> {
        if is_reading {
            self.registration.set_reading();
        } else {
            self.shared.io.borrow_mut().release();
            self.registration.await_request(cx, since);
        }
        let has_arrived = || self.shared.io.borrow_mut().socket.has_arrived();
        if self.leaving_since.is_some() || !self.registration.is_evicted() || has_arrived() {
            return None;
        }
        if matches!(self.stage, Stage::Preface(_)) {
            return Some(Http2End::Gone);
        }
        self.send_goaway(Reason::NO_ERROR);
        cx.waker().wake_by_ref();
        None
    }

    /// The next deadline, as a moment and a time after it. `incomplete_since` is when a frame began that is not
    /// complete.
    fn due(&self, incomplete_since: Option<Instant>) -> (Instant, Duration) {
        let settings = &self.shared.worker.settings().connections;
        // The worker closes and the client has just connected: GOAWAY can't be sent before its preface.
        if let (Stage::Preface(_), Some(since)) = (&self.stage, self.idle_since)
            && self.shared.worker.is_closing.get()
        {
            return (since, LAST_CHANCE);
        }
        if let Some(since) = self.leaving_since
            && (self.is_ending || self.idle_since.is_some())
        {
            return (since, settings.linger_timeout.get());
        }
        let check_interval = self.shared.worker.check_interval.get();
        match (incomplete_since, self.idle_since) {
            (Some(since), Some(_)) => (since, settings.head_timeout.get()),
            (None, Some(since)) => (since, settings.idle_timeout.get()),
            (Some(since), None) if since + settings.head_timeout.get() < self.checked + check_interval => {
                (since, settings.head_timeout.get())
            }
            _ => (self.checked, check_interval),
        }
    }

    /// The deadline has passed. `None` if the connection goes on, if only to send GOAWAY.
    fn overdue(&mut self, incomplete_since: Option<Instant>) -> Option<Http2End> {
        if self.is_ending || matches!(self.stage, Stage::Preface(_)) {
            return Some(Http2End::Gone);
        }
        let now = Instant::now();
        let head_timeout = self.shared.worker.settings().connections.head_timeout.get();
        if incomplete_since.is_some_and(|since| now.duration_since(since) >= head_timeout) {
            log::debug!("{}: the connection ends: {INCOMPLETE}", self.shared.peer_name());
            self.shared.worker.metrics.counts.rejected_heads[RejectedHead::TooSlow as usize].add(1);
            self.send_goaway(Reason::ENHANCE_YOUR_CALM);
            return None;
        }
        if self.idle_since.is_some() {
            self.send_goaway(Reason::NO_ERROR);
            return None;
        }
        let error = self.check_progress(now)?;
        error.log(None, &self.shared.worker.files.loader.faults, "", || self.shared.peer_name());
        Some(Http2End::Abort(error))
    }

    /// Why the client is given up, if it takes nothing or too little.
    fn check_progress(&mut self, now: Instant) -> Option<SendError> {
        self.checked = now;
        let settings = &self.shared.worker.settings().connections;
        let stall_timeout = settings.stall_timeout.get();
        let untaken = self.shared.io.borrow().socket.untaken();
        let is_stalled = |stall: &mut StallTimer| stall.is_expired(now, untaken, stall_timeout);
        if self.stall.as_mut().is_some_and(is_stalled) || self.is_blocked(now, stall_timeout) {
            return Some(SendError::Stalled);
        }
        let connections = &self.shared.worker.limits.connections;
        let is_too_slow = self.receive_rate.is_too_slow(settings, connections, || untaken);
        is_too_slow.then_some(SendError::TooSlow)
    }

    /// True if frames hold data for which there was a window when they got it: the client has taken that window back.
    fn is_blocked(&self, now: Instant, stall_timeout: Duration) -> bool {
        let oldest = self.sending.front().map(|open| open.exchange.began);
        self.shared.io.borrow().is_empty()
            && oldest.is_some_and(|began| now.duration_since(began) >= stall_timeout)
    }
}

const INCOMPLETE: &str = "a frame or header block was not complete within head_timeout";
