//! State that the streams of one HTTP/2 connection share.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::chunk::ConnectionMeter;
use super::io::FrameIo;
use crate::http::client_key::ClientKey;
use crate::http::transport_info::TransportInfo;
use crate::net::WorkerContext;
use crate::sys::gcra::AtomicGcra;
use crate::telemetry::metrics::exchange::ExchangeOutcome;

/// State that the streams of one connection share.
pub(super) struct ConnectionContext {
    pub(super) worker: Rc<WorkerContext>,
    pub(super) io: Rc<RefCell<FrameIo>>,
    pub(super) meter: Rc<ConnectionMeter>,
    /// The rate of the connection, for all of its responses.
    pub(super) bucket: Arc<AtomicGcra>,
    pub(super) client: ClientKey,
    pub(super) peer: Option<SocketAddr>,
    pub(super) transport: TransportInfo,
    /// Number of streams that wait for a flow-control window.
    pub(super) without_window: Rc<Cell<usize>>,
    /// Number of responses under way with a limited rate.
    pub(super) paced: Rc<Cell<usize>>,
    /// Outcome of exchanges that are dropped unfinished.
    pub(super) end: Cell<ExchangeOutcome>,
}

impl ConnectionContext {
    /// The peer, for log messages.
    pub(super) fn peer_name(&self) -> String {
        self.io.borrow().socket.peer_name()
    }

    /// Bytes that the client has taken.
    pub(super) fn taken(&self) -> u64 {
        self.io.borrow().taken()
    }
}

/// Counts one while it lives.
pub(super) struct Counted(Rc<Cell<usize>>);

impl Counted {
    pub(super) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
