//! The state of one HTTP/1.1 connection.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::http::client_key::ClientKey;
use crate::net::{
    Deadline, Exchanges, NewConnection, ReceiveRate, Scanner, SendQueue, Socket, StallTimer, WorkerContext,
    WorkerRegistration,
};
use crate::telemetry::metrics::exchange::ExchangeOutcome;

/// The state of one connection.
pub(super) struct Http1Connection {
    pub(super) registration: WorkerRegistration,
    pub(super) socket: Socket,
    /// The TCP peer.
    pub(super) peer: ClientKey,
    /// Bytes received that belong to no request yet.
    pub(super) input: Vec<u8>,
    pub(super) scanner: Scanner,
    pub(super) queue: SendQueue,
    pub(super) exchanges: Exchanges,
    pub(super) deadline: Deadline,
    /// How fast the client takes the present response.
    pub(super) receive_rate: ReceiveRate,
    /// Since when the client has taken nothing of it.
    pub(super) stall: StallTimer,
    /// When bytes last arrived or were sent.
    pub(super) now: Instant,
    /// Nothing has arrived since the task was last woken, so the deadline may have woken it.
    pub(super) is_woken: bool,
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    /// All responses are complete.
    Close,
    /// A response is incomplete: the end must not look like that of a complete one.
    Abort,
    /// The client may still be sending: a close now could destroy the response on its way.
    Linger,
    /// The client began with HTTP/2.
    Http2,
}

impl Http1Connection {
    pub(super) fn new(connection: NewConnection) -> Self {
        let NewConnection { registration, socket, input, since, deadline } = connection;
        let context = &registration.context;
        let peer = context.limits.client_at(socket.peer);
        Self {
            deadline,
            peer,
            queue: SendQueue::new(peer),
            exchanges: Exchanges::new(Arc::clone(&context.metrics)),
            registration,
            socket,
            input,
            scanner: Scanner::default(),
            receive_rate: ReceiveRate::default(),
            stall: StallTimer::new(since),
            now: since,
            is_woken: true,
        }
    }

    pub(super) fn context(&self) -> &Rc<WorkerContext> {
        &self.registration.context
    }

    /// Restarts the time within which the next request must come, or be complete if it has begun.
    pub(super) fn restart_idle_timeout(&mut self) {
        let timeout = {
            let connections = &self.context().settings().connections;
            if self.input.is_empty() { connections.idle_timeout } else { connections.head_timeout }
        };
        self.deadline.set(self.now, timeout.get());
    }

    /// Ends all exchanges under way with `outcome`.
    pub(super) fn abort(&mut self, outcome: ExchangeOutcome, end: ConnectionEnd) -> ConnectionEnd {
        self.exchanges.add_cold_bytes(self.queue.cursor.take_cold_bytes());
        self.exchanges.abort(outcome, self.queue.sent(), Instant::now());
        end
    }

    /// The peer, and the client that it speaks for, for log messages.
    pub(super) fn peer_name(&self) -> String {
        match self.queue.client {
            client if client == self.peer => self.socket.peer_name(),
            client => format!("{} for {client}", self.socket.peer_name()),
        }
    }
}
