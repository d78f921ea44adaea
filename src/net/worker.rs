//! What the connections of one worker share.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::deadline::Deadline;
use super::head::{HeadLimits, LastHost};
use super::http2::{Buffers, HeaderMapCache};
use super::stall::STALL_LOOKS;
use crate::config::Config;
use crate::files::Files;
use crate::files::residency::{PageTable, RecentlyResident, SCRATCH};
use crate::limits::client_limits::Limits;
use crate::limits::connections::{ConnectionSlot, WorkerConnections};
use crate::net::bulk_scheduler::BulkScheduler;
use crate::net::request_log::RequestLogOptions;
use crate::net::status_line::Prefixes;
use crate::telemetry::metrics::registry::Metrics;
use crate::telemetry::metrics::worker::WorkerMetrics;

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionSettings {
    /// Largest request head, in bytes.
    pub head_bytes: usize,
    /// Most header fields in a request.
    pub head_fields: usize,
    /// A request body is read and dropped up to this many bytes.
    pub body_bytes: u64,
    /// For a TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// Between a response and the next request.
    pub idle_timeout: Duration,
    /// Without a byte taken by the client.
    pub stall_timeout: Duration,
    /// Without a window that the disk gives.
    pub disk_timeout: Duration,
    /// Bytes a second that a client must take while connections run short; 0 is no bound.
    pub min_rate: u64,
    /// For so long a client is waited for before the rate is asked of it.
    pub min_rate_after: Duration,
    /// For what a client still sends after the last response.
    pub linger_timeout: Duration,
    /// What one response may send before the worker looks at the next connection.
    pub turn_bytes: usize,
    /// Bytes a second that the long responses of one worker send while short ones are about; 0 is no limit.
    pub long_rate: u64,
    /// None where HTTP/2 is not spoken.
    pub http2: Option<Http2Bounds>,
}

/// Bounds of a connection over HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Http2Bounds {
    /// Streams that are open at once.
    pub streams: u32,
    /// Streams that the client may reset, or have reset, in ten seconds.
    pub resets: u32,
}

impl ConnectionSettings {
    /// What `config` says.
    pub fn of(config: &Config) -> Self {
        Self {
            head_bytes: config.requests.head_bytes.as_usize(),
            head_fields: config.requests.head_fields.as_usize(),
            body_bytes: config.requests.body_bytes.get(),
            tls_handshake_timeout: config.tls.tls_handshake_timeout.get(),
            head_timeout: config.connections.head_timeout.get(),
            idle_timeout: config.connections.idle_timeout.get(),
            stall_timeout: config.connections.stall_timeout.get(),
            disk_timeout: config.sending.disk_timeout.get(),
            min_rate: config.connections.min_rate.given().map_or(0, |rate| rate.get()),
            min_rate_after: config.connections.min_rate_after.get(),
            linger_timeout: config.connections.linger_timeout.get(),
            turn_bytes: config.sending.turn_bytes.as_usize(),
            long_rate: config.sending.long_rate.get(),
            http2: config.http2.http2.is_on().then(|| Http2Bounds::of(config)),
        }
    }

    /// How often a response under way is looked at: whether its client takes it, and fast enough, and whether the disk gives it.
    fn look_every(&self) -> Duration {
        let rate_from = if self.min_rate > 0 { self.min_rate_after } else { Duration::MAX };
        self.stall_timeout.min(self.disk_timeout).min(rate_from) / STALL_LOOKS
    }
}

impl Http2Bounds {
    fn of(config: &Config) -> Self {
        let bound = |count: crate::config::Count| u32::try_from(count.get()).unwrap_or(u32::MAX);
        Self { streams: bound(config.http2.http2_streams), resets: bound(config.http2.http2_resets) }
    }
}

/// One worker's connections and what they share. Lives on the worker's thread.
pub struct Worker<S> {
    /// The App, as a service.
    pub(super) app: S,
    pub(super) files: Files,
    bounds: Cell<ConnectionSettings>,
    /// Reckoned once: it is asked for at every response.
    look_every: Cell<Duration>,
    pub(super) guard: Limits,
    pub(super) metrics: Arc<WorkerMetrics>,
    pub(super) noting: Cell<RequestLogOptions>,
    pub(super) prefixes: Prefixes,
    /// Field lines as HTTP/2 has them.
    pub(super) maps: HeaderMapCache,
    /// For bytes of files that HTTP/2 copies.
    pub(super) buffers: Rc<Buffers>,
    pub(super) memo: RefCell<RecentlyResident>,
    pub(super) page_table: PageTable,
    pub(super) last_host: LastHost,
    pub(super) turns: Rc<BulkScheduler>,
    granting: JoinHandle<()>,
    /// For reads and probes that end within one poll.
    pub(super) scratch: RefCell<Box<[u8]>>,
    connections: Arc<WorkerConnections>,
    is_retiring: Cell<bool>,
    is_closing: Cell<bool>,
    emptied: Notify,
}

impl<S> Worker<S> {
    /// A worker that calls `app` and sends from `files` within `bounds`, as `guard` allows, and counts in a `metrics`. Made on an
    /// actix `System` or arbiter.
    pub fn new(
        app: S,
        files: Files,
        bounds: ConnectionSettings,
        guard: Limits,
        metrics: &Metrics,
    ) -> Rc<Self> {
        let turns = Rc::new(BulkScheduler::new(bounds.turn_bytes, bounds.long_rate));
        Rc::new(Self {
            app,
            files,
            bounds: Cell::new(bounds),
            look_every: Cell::new(bounds.look_every()),
            connections: guard.connections().add_worker(),
            guard,
            metrics: metrics.worker(),
            noting: Cell::default(),
            prefixes: Prefixes::new(),
            maps: HeaderMapCache::default(),
            buffers: Rc::default(),
            memo: RefCell::new(RecentlyResident::new()),
            page_table: PageTable::open(),
            last_host: LastHost::default(),
            granting: actix_rt::spawn({
                let turns = Rc::clone(&turns);
                async move { turns.grant().await }
            }),
            turns,
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            is_retiring: Cell::new(false),
            is_closing: Cell::new(false),
            emptied: Notify::new(),
        })
    }

    /// From now on every response is its connection's last; over HTTP/2, where that can be said at once, it is.
    pub fn retire(&self) {
        if !self.is_retiring.replace(true) {
            self.connections.wake_all();
        }
    }

    /// From now on idle connections close, too; those whose next request may be on its way get a last chance.
    pub fn close(&self) {
        self.is_retiring.set(true);
        self.is_closing.set(true);
        self.connections.wake_all();
    }

    /// Waits until a worker that retires or closes has no connection left.
    pub async fn emptied(&self) {
        while self.connections() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Connections with a request that is not answered in full.
    pub fn responses_under_way(&self) -> usize {
        self.connections.answering()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn guard(&self) -> &Limits {
        &self.guard
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.is_retiring.get()
    }

    /// From now on `bounds` hold; a deadline that runs already keeps its moment.
    pub(crate) fn set_bounds(&self, bounds: ConnectionSettings) {
        self.bounds.set(bounds);
        self.look_every.set(bounds.look_every());
        self.turns.set(bounds.turn_bytes, bounds.long_rate);
    }

    /// From now on so much is noted of each request.
    pub(crate) fn set_noting(&self, noting: RequestLogOptions) {
        self.noting.set(noting);
    }

    /// How often a response under way is looked at.
    pub(super) fn look_every(&self) -> Duration {
        self.look_every.get()
    }

    pub(super) fn bounds(&self) -> ConnectionSettings {
        self.bounds.get()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        let ConnectionSettings { head_bytes, head_fields, .. } = self.bounds();
        HeadLimits { bytes: head_bytes, fields: head_fields }
    }

    pub(super) fn register(self: &Rc<Self>, now: Instant) -> WorkerRegistration<S> {
        let place = self.connections.add(self.guard.connections().millis(now));
        WorkerRegistration { worker: Rc::clone(self), place }
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.granting.abort();
    }
}

/// How long a connection that was just accepted or answered is kept when the worker closes: its client can't know yet.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(1);

/// A connection's place among the worker's; left when dropped.
pub(super) struct WorkerRegistration<S> {
    worker: Rc<Worker<S>>,
    place: ConnectionSlot,
}

impl<S> WorkerRegistration<S> {
    pub(super) fn worker(&self) -> &Rc<Worker<S>> {
        &self.worker
    }

    /// Whether the worker closes. Then `deadline` becomes the end of the last chance of who has waited since `since`.
    pub(super) fn closes_after(&self, since: Instant, deadline: &mut Deadline) -> bool {
        let is_closing = self.worker.is_closing();
        if is_closing {
            deadline.set(since, LAST_CHANCE);
        }
        is_closing
    }

    /// The connection waits for a request since `now`; it may be woken to close.
    pub(super) fn waits(&self, cx: &Context<'_>, now: Instant) {
        self.place.set_idle(cx, self.worker.guard.connections().millis(now));
    }
}

impl<S> Deref for WorkerRegistration<S> {
    type Target = ConnectionSlot;

    fn deref(&self) -> &ConnectionSlot {
        &self.place
    }
}

impl<S> Drop for WorkerRegistration<S> {
    fn drop(&mut self) {
        if self.worker.is_retiring() {
            self.worker.emptied.notify_one();
        }
    }
}
