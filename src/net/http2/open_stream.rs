//! An HTTP/2 exchange as it is counted and logged, for how long its response may wait, and what it shares with the others
//! of its connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::chunk::{ConnectionMeter, ResponseMeter};
use super::io::FrameIo;
use super::source::BodySource;
use crate::http::client_key::ClientKey;
use crate::net::{Deadline, SendError, WorkerContext};
use crate::sys::gcra::AtomicGcra;
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome};

/// State that the streams of one connection share.
pub(super) struct ConnectionContext {
    pub(super) worker: Rc<WorkerContext>,
    pub(super) io: Rc<RefCell<FrameIo>>,
    pub(super) meter: Rc<ConnectionMeter>,
    /// The rate of the connection, for all of its responses.
    pub(super) bucket: Arc<AtomicGcra>,
    pub(super) client: ClientKey,
    pub(super) peer: Option<SocketAddr>,
    /// Each stream that waits for a flow-control window holds a clone.
    pub(super) without_window: Rc<()>,
    /// Each response under way with a limited rate holds a clone.
    pub(super) paced: Rc<()>,
    /// Outcome of exchanges that are dropped unfinished.
    pub(super) end: Cell<ExchangeOutcome>,
}

/// An exchange of the connection, counted when dropped.
pub(super) struct OpenStream {
    pub(super) connection: Rc<ConnectionContext>,
    pub(super) client: ClientKey,
    pub(super) exchange: Exchange,
    pub(super) meter: Rc<ResponseMeter>,
    /// Position at which its response begins at the earliest, in bytes since the connection began to send.
    pub(super) start: Option<u64>,
    /// Position at which its response ends, once known.
    end: Option<u64>,
    pub(super) outcome: Option<ExchangeOutcome>,
    wait: Wait,
}

/// The present wait of a response: for the disk, for the client to give it a flow-control window, or for the server.
/// The latter is its turn, its pace or the connection, which has a deadline of its own.
struct Wait {
    kind: Option<WaitKind>,
    deadline: Deadline,
    /// What the client had taken of the connection when the wait for a window began, or when it was last extended.
    taken: u64,
    /// How often it was extended since the connection made progress without this stream.
    rounds: usize,
}

impl ConnectionContext {
    /// The peer, for log messages.
    pub(super) fn peer_name(&self) -> String {
        self.io.borrow().socket.peer_name()
    }

    /// Number of streams that wait for a flow-control window.
    pub(super) fn without_window(&self) -> usize {
        Rc::strong_count(&self.without_window) - 1
    }

    /// Bytes that the client has taken.
    pub(super) fn taken(&self) -> u64 {
        self.io.borrow().taken()
    }
}

impl OpenStream {
    pub(super) fn new(connection: Rc<ConnectionContext>, exchange: Exchange) -> Self {
        let deadline = Deadline::after(exchange.began, Duration::ZERO);
        Self {
            client: connection.client,
            exchange,
            meter: ResponseMeter::new(&connection.meter),
            start: None,
            end: None,
            outcome: None,
            wait: Wait { kind: None, deadline, taken: 0, rounds: 0 },
            connection,
        }
    }

    /// Ends the exchange if its response was sent or lost; returns true if it has ended. Everything before the position
    /// `sent` was sent, and the next write begins at `pushed`.
    pub(super) fn end_if_sent(&mut self, sent: u64, pushed: u64) -> bool {
        if self.outcome.is_none() && self.meter.is_lost.get() {
            self.outcome = Some(ExchangeOutcome::ClientGone);
        }
        if self.outcome.is_none() && self.meter.is_empty() && sent >= *self.end.get_or_insert(pushed) {
            self.record_first_byte();
            self.outcome = Some(ExchangeOutcome::Complete);
        }
        self.outcome.is_some()
    }

    /// Lists the response among the transfers: it has to wait.
    pub(super) fn list_waiting(&mut self, source: &BodySource) {
        let sent = self.meter.taken.get();
        let start = || {
            let total = source.left().checked_add(sent).filter(|total| *total < u64::MAX);
            (self.client, source.file().cloned(), total)
        };
        self.exchange.list(&self.connection.worker.metrics.transfers, sent, start);
    }

    /// Records the time of the first byte if some of the response was sent.
    pub(super) fn record_first_byte(&mut self) {
        let io = self.connection.io.borrow();
        if self.exchange.first_byte.is_none() && self.start.is_some_and(|start| io.sent() > start) {
            self.exchange.first_byte = Some(io.now);
        }
    }

    /// Ends the wait: the response goes on.
    pub(super) fn end_wait(&mut self) {
        if self.wait.kind.take().is_some() {
            self.exchange.set_wait(Instant::now, None);
        }
    }

    /// Waits for `kind`. Ready with the error of the response once it has waited for too long.
    pub(super) fn poll_overdue(
        &mut self,
        cx: &mut Context<'_>,
        kind: WaitKind,
        source: &BodySource,
    ) -> Poll<SendError> {
        if self.wait.kind != Some(kind) {
            self.begin_wait(kind, source);
        }
        let Self { wait, connection, .. } = self;
        loop {
            if kind == WaitKind::Throttle {
                return Poll::Pending;
            }
            ready!(wait.deadline.poll(cx));
            if kind == WaitKind::Disk {
                connection.worker.files.count_disk_timeout();
                return Poll::Ready(match source.cursor.waits_since() {
                    Some(_) => SendError::disk_timeout(),
                    None => SendError::chunk_timeout(),
                });
            }
            // The window of the connection is shared: a stream that waits for it among others waits longer.
            let taken = connection.taken();
            if taken == wait.taken || wait.rounds >= connection.without_window() {
                return Poll::Ready(SendError::Stalled);
            }
            (wait.taken, wait.rounds) = (taken, wait.rounds + 1);
            wait.deadline.set(Instant::now(), connection.worker.settings().connections.stall_timeout.get());
        }
    }

    fn begin_wait(&mut self, kind: WaitKind, source: &BodySource) {
        let Self { wait, connection, .. } = self;
        wait.kind = Some(kind);
        self.exchange.set_wait(Instant::now, wait.kind);
        let settings = connection.worker.settings();
        match kind {
            WaitKind::Disk => {
                let since = source.cursor.waits_since().unwrap_or_else(Instant::now);
                wait.deadline.set(since, settings.sending.disk_timeout.get());
            }
            WaitKind::Client => {
                (wait.taken, wait.rounds) = (connection.taken(), 0);
                wait.deadline.set(Instant::now(), settings.connections.stall_timeout.get());
            }
            WaitKind::Throttle => {}
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(self.connection.end.get());
        self.exchange.sent = self.meter.taken.get();
        self.connection.worker.metrics.end(&self.exchange, outcome, Instant::now());
    }
}
