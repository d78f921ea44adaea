//! State that all connections of one worker share.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::files::Files;
use crate::files::residency::{PageTable, RecentlyResident, SCRATCH};
use crate::limits::client_limits::Limits;
use crate::limits::connections::{ConnectionSlot, WorkerConnections};
use crate::net::{
    BulkScheduler, ConnectionSettings, CopyBuffers, HeadLimits, HeaderMapCache, LastHost, RequestLogOptions,
    StatusLines,
};
use crate::telemetry::metrics::registry::Metrics;
use crate::telemetry::metrics::worker::WorkerMetrics;

/// Everything that the connections of one worker share but the App, so that it has no type parameter. Lives on the
/// worker's thread.
pub struct WorkerContext {
    pub(crate) files: Files,
    pub(crate) limits: Limits,
    pub(super) metrics: Arc<WorkerMetrics>,
    settings: RefCell<ConnectionSettings>,
    /// Derived from `settings` once, since every response needs it.
    check_interval: Cell<Duration>,
    log_options: Cell<RequestLogOptions>,
    pub(super) status_lines: StatusLines,
    /// Rendered headers as HTTP/2 needs them.
    pub(super) header_cache: HeaderMapCache,
    /// Buffers for file content that HTTP/2 copies.
    pub(super) copy_buffers: Rc<CopyBuffers>,
    pub(super) recently_resident: RefCell<RecentlyResident>,
    pub(super) page_table: PageTable,
    pub(super) last_host: LastHost,
    pub(super) bulk_scheduler: Rc<BulkScheduler>,
    bulk_task: JoinHandle<()>,
    /// Buffer for reads and probes that end within one poll.
    pub(super) scratch: RefCell<Box<[u8]>>,
    connections: Arc<WorkerConnections>,
    is_retiring: Cell<bool>,
    is_closing: Cell<bool>,
    emptied: Notify,
}

impl WorkerContext {
    pub(super) fn new(
        files: Files,
        settings: ConnectionSettings,
        limits: Limits,
        metrics: &Metrics,
    ) -> Rc<Self> {
        let bulk_scheduler = Rc::new(BulkScheduler::new(&settings.sending));
        Rc::new(Self {
            files,
            connections: limits.connections().add_worker(),
            limits,
            metrics: metrics.worker(),
            check_interval: Cell::new(settings.check_interval()),
            settings: RefCell::new(settings),
            log_options: Cell::default(),
            status_lines: StatusLines::new(),
            header_cache: HeaderMapCache::default(),
            copy_buffers: Rc::default(),
            recently_resident: RefCell::new(RecentlyResident::new()),
            page_table: PageTable::open(),
            last_host: LastHost::default(),
            bulk_task: actix_rt::spawn({
                let scheduler = Rc::clone(&bulk_scheduler);
                async move { scheduler.run().await }
            }),
            bulk_scheduler,
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            is_retiring: Cell::new(false),
            is_closing: Cell::new(false),
            emptied: Notify::new(),
        })
    }

    /// Makes every response the last of its connection. Clients of HTTP/2 are notified at once.
    pub fn retire(&self) {
        if !self.is_retiring.replace(true) {
            self.connections.wake_all();
        }
    }

    /// Closes idle connections, too; those whose next request may be on its way after a last chance.
    pub fn close(&self) {
        self.is_retiring.set(true);
        self.is_closing.set(true);
        self.connections.wake_all();
    }

    /// Waits until a worker that retires or closes has no connections.
    pub async fn emptied(&self) {
        while self.connections() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Number of connections with a request that is not fully answered.
    pub fn responses_under_way(&self) -> usize {
        self.connections.answering()
    }

    /// Replaces the settings. A deadline that is running keeps its moment.
    pub(crate) fn set_settings(&self, settings: ConnectionSettings) {
        self.check_interval.set(settings.check_interval());
        self.bulk_scheduler.configure(&settings.sending);
        self.settings.replace(settings);
    }

    /// Replaces what is recorded of each request.
    pub(crate) fn set_log_options(&self, options: RequestLogOptions) {
        self.log_options.set(options);
    }

    /// The settings. Don't hold them over an await.
    pub(super) fn settings(&self) -> Ref<'_, ConnectionSettings> {
        self.settings.borrow()
    }

    /// Interval at which a response under way is checked.
    pub(super) fn check_interval(&self) -> Duration {
        self.check_interval.get()
    }

    pub(super) fn log_options(&self) -> RequestLogOptions {
        self.log_options.get()
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        let requests = &self.settings().requests;
        HeadLimits { bytes: requests.head_bytes.as_usize(), headers: requests.head_fields.as_usize() }
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.is_retiring.get()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Enters a connection accepted at `now` among the worker's.
    pub(super) fn enter(&self, now: Instant) -> ConnectionSlot {
        self.connections.add(self.limits.connections().millis(now))
    }

    /// Reports that a connection has left.
    pub(super) fn note_left(&self) {
        if self.is_retiring() {
            self.emptied.notify_one();
        }
    }
}

impl Drop for WorkerContext {
    fn drop(&mut self) {
        self.bulk_task.abort();
    }
}
