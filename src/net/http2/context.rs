//! State that the streams of one HTTP/2 connection share.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::chunk::ConnectionMeter;
use super::io::FrameIo;
use crate::http::client_key::ClientKey;
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
    /// Each stream that waits for a flow-control window holds a clone.
    pub(super) without_window: Rc<()>,
    /// Each response under way with a limited rate holds a clone.
    pub(super) paced: Rc<()>,
    /// Outcome of exchanges that are dropped unfinished.
    pub(super) end: Cell<ExchangeOutcome>,
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
