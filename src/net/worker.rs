//! One worker: the App, and the state that its connections share.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::files::Files;
use crate::files::residency::{PageTable, RecentlyResident, SCRATCH};
use crate::limits::client_limits::Limits;
use crate::limits::connections::WorkerConnections;
use crate::net::{BulkScheduler, CopyBuffers, HeadLimits, HeaderMapCache, LastHost, StatusLines};
use crate::telemetry::metrics::worker::WorkerMetrics;

/// The App as a service `S`, and the state that the connections of one worker share. Lives on the worker's thread.
pub struct Worker<S> {
    pub(super) app: S,
    pub(crate) context: Rc<WorkerContext>,
}

/// Everything that the connections of one worker share but the App, so that it has no type parameter.
pub struct WorkerContext {
    pub(crate) files: Files,
    pub(crate) limits: Limits,
    pub(super) metrics: Arc<WorkerMetrics>,
    settings: RefCell<Arc<Config>>,
    /// Interval at which a response under way is checked. Derived from the settings once, since every response needs it.
    pub(super) check_interval: Cell<Duration>,
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
    pub(crate) connections: Arc<WorkerConnections>,
    pub(super) is_retiring: Cell<bool>,
    pub(super) is_closing: Cell<bool>,
    emptied: Notify,
}

impl<S> Worker<S> {
    /// Creates a worker that calls `app`, sends from `files` and counts in `metrics`. Call it on an actix `System` or
    /// arbiter.
    pub fn new(
        app: S,
        files: Files,
        config: Arc<Config>,
        limits: Limits,
        metrics: Arc<WorkerMetrics>,
    ) -> Rc<Self> {
        let bulk_scheduler = Rc::new(BulkScheduler::new(&config.sending));
        let context = WorkerContext {
            files,
            connections: limits.connections.add_worker(),
            limits,
            metrics,
            check_interval: Cell::new(check_interval(&config)),
            settings: RefCell::new(config),
            status_lines: StatusLines::new(),
            header_cache: HeaderMapCache::new(),
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
        };
        Rc::new(Self { app, context: Rc::new(context) })
    }
}

impl WorkerContext {
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
        while self.connections.len() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Replaces the settings. A deadline that is running keeps its moment.
    pub(crate) fn set_settings(&self, config: Arc<Config>) {
        self.check_interval.set(check_interval(&config));
        self.bulk_scheduler.configure(&config.sending);
        self.settings.replace(config);
    }

    /// The settings. Don't hold them over an await.
    pub(super) fn settings(&self) -> Ref<'_, Config> {
        Ref::map(self.settings.borrow(), |config| &**config)
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        let requests = &self.settings().requests;
        HeadLimits { bytes: requests.head_bytes.as_usize(), headers: requests.head_fields.as_usize() }
    }

    /// Reports that a connection has closed.
    pub(super) fn report_closed(&self) {
        if self.is_retiring.get() {
            self.emptied.notify_one();
        }
    }
}

impl Drop for WorkerContext {
    fn drop(&mut self) {
        self.bulk_task.abort();
    }
}

/// Interval at which a response under way is checked: whether its client takes it, fast enough, and whether the disk
/// delivers it.
fn check_interval(Config { connections, sending, .. }: &Config) -> Duration {
    let rate_from = connections.min_rate.given().map(|_| connections.min_rate_after.get());
    let shortest = connections.stall_timeout.get().min(sending.disk_timeout.get());
    rate_from.map_or(shortest, |from| shortest.min(from)) / CHECKS_PER_TIMEOUT
}

/// Number of checks within the stall timeout.
const CHECKS_PER_TIMEOUT: u32 = 4;
