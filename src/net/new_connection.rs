//! A connection before its first request.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::net::{Deadline, Socket, WorkerContext, WorkerRegistration};

/// A connection on which no request has begun.
pub(super) struct NewConnection {
    pub(super) registration: WorkerRegistration,
    pub(super) socket: Socket,
    /// Bytes received that belong to no request yet.
    pub(super) input: Vec<u8>,
    /// Since when the connection has been waiting for its present phase to end: PROXY header, handshake, first request.
    pub(super) since: Instant,
    pub(super) deadline: Deadline,
}

impl NewConnection {
    /// Registers a connection that was accepted just now.
    pub(super) fn register(context: &Rc<WorkerContext>, socket: Socket) -> Self {
        let since = Instant::now();
        let deadline = Deadline::after(since, context.settings().connections.head_timeout.get());
        Self {
            registration: WorkerRegistration::new(context, since),
            socket,
            input: Vec::new(),
            since,
            deadline,
        }
    }

    /// Begins a phase that must end within `timeout`.
    pub(super) fn begin_phase(&mut self, timeout: Duration) {
        self.since = Instant::now();
        self.deadline.set(self.since, timeout);
    }
}
