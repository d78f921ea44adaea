//! Registration of a connection with its worker.

use std::ops::Deref;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::limits::connections::ConnectionSlot;
use crate::net::{Deadline, WorkerContext};

/// A connection's slot among those of its worker, freed when dropped.
pub(super) struct WorkerRegistration {
    pub(super) context: Rc<WorkerContext>,
    slot: ConnectionSlot,
}

impl WorkerRegistration {
    /// Registers a connection accepted at `now`.
    pub(super) fn new(context: &Rc<WorkerContext>, now: Instant) -> Self {
        Self {
            context: Rc::clone(context),
            slot: context.connections.add(context.limits.connections.millis(now)),
        }
    }

    /// Returns true if the worker closes. Then sets `deadline` to the end of the last chance of a client that has been
    /// waiting since `since`.
    pub(super) fn closes_after(&self, since: Instant, deadline: &mut Deadline) -> bool {
        let is_closing = self.context.is_closing.get();
        if is_closing {
            deadline.set(since, LAST_CHANCE);
        }
        is_closing
    }

    /// Records that the connection has been waiting for a request since `since`, and that it may be woken in order to
    /// close.
    pub(super) fn await_request(&self, cx: &Context<'_>, since: Instant) {
        self.slot.set_idle(cx, self.context.limits.connections.millis(since));
    }
}

impl Deref for WorkerRegistration {
    type Target = ConnectionSlot;

    fn deref(&self) -> &ConnectionSlot {
        &self.slot
    }
}

impl Drop for WorkerRegistration {
    fn drop(&mut self) {
        self.context.report_closed();
    }
}

/// Time for which a connection that was just accepted or answered is kept while the worker closes: its client can't
/// know yet.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(1);
