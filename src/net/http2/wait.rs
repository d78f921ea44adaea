//! What an HTTP/2 response waits for, and for how long it may.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::open_stream::OpenStream;
use super::source::BodySource;
use crate::net::{Deadline, SendError};
use crate::telemetry::access_log::record::WaitKind;

/// The present wait of a response: for the disk, for the client to give it a flow-control window, or for the server.
/// The latter is its turn, its pace or the connection, which has a deadline of its own.
pub(super) struct Wait {
    kind: Option<WaitKind>,
    deadline: Deadline,
    /// What the client had taken of the connection when the wait for a window began, or when it was last extended.
    taken: u64,
    /// How often it was extended since the connection made progress without this stream.
    rounds: usize,
}

impl Wait {
    pub(super) fn new(now: Instant) -> Self {
        Self { kind: None, deadline: Deadline::after(now, Duration::ZERO), taken: 0, rounds: 0 }
    }

    /// Ends the wait: the response goes on.
    pub(super) fn end(&mut self, open: &mut OpenStream) {
        if self.kind.take().is_some() {
            open.exchange.set_wait(Instant::now, None);
        }
    }

    /// Waits for `kind`. Ready with the error of the response once it has waited for too long.
    pub(super) fn poll_overdue(
        &mut self,
        cx: &mut Context<'_>,
        kind: WaitKind,
        open: &mut OpenStream,
        source: &BodySource,
    ) -> Poll<SendError> {
        if self.kind != Some(kind) {
            self.begin(kind, open, source);
        }
        let worker = &open.connection.worker;
        loop {
            if kind == WaitKind::Throttle {
                return Poll::Pending;
            }
            ready!(self.deadline.poll(cx));
            if kind == WaitKind::Disk {
                worker.files.count_disk_timeout();
                return Poll::Ready(match source.cursor.waits_since() {
                    Some(_) => SendError::disk_timeout(),
                    None => SendError::chunk_timeout(),
                });
            }
            // The window of the connection is shared: a stream that waits for it among others waits longer.
            let taken = open.connection.taken();
            if taken == self.taken || self.rounds >= open.connection.without_window.get() {
                return Poll::Ready(SendError::Stalled);
            }
            (self.taken, self.rounds) = (taken, self.rounds + 1);
            self.deadline.set(Instant::now(), worker.settings().connections.stall_timeout.get());
        }
    }

    fn begin(&mut self, kind: WaitKind, open: &mut OpenStream, source: &BodySource) {
        self.kind = Some(kind);
        open.exchange.set_wait(Instant::now, self.kind);
        let settings = open.connection.worker.settings();
        match kind {
            WaitKind::Disk => {
                let since = source.cursor.waits_since().unwrap_or_else(Instant::now);
                self.deadline.set(since, settings.sending.disk_timeout.get());
            }
            WaitKind::Client => {
                (self.taken, self.rounds) = (open.connection.taken(), 0);
                self.deadline.set(Instant::now(), settings.connections.stall_timeout.get());
            }
            WaitKind::Throttle => {}
        }
    }
}
