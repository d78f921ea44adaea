//! What the connections of one worker share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::head::{HeadLimits, LastHost};
use super::prefix::Prefixes;
use super::turn::Turns;
use crate::config::Config;
use crate::files::Files;
use crate::files::resident::{Memo, PageTable, SCRATCH};
use crate::guard::Guard;

/// Bounds of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest request head, in bytes.
    pub head_bytes: usize,
    /// Most header fields in a request.
    pub head_fields: usize,
    /// A request body is read and dropped up to this many bytes.
    pub body_bytes: u64,
    /// From the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// Between a response and the next request.
    pub idle_timeout: Duration,
    /// Without a byte taken by the client.
    pub stall_timeout: Duration,
    /// For what a client still sends after the last response.
    pub linger_timeout: Duration,
    /// What one response may send before the worker looks at the next connection.
    pub turn_bytes: usize,
    /// Bytes a second that the long responses of one worker send while short ones are about; 0 is no limit.
    pub long_rate: u64,
}

impl Bounds {
    /// What `config` says.
    pub fn of(config: &Config) -> Self {
        Self {
            head_bytes: config.head_bytes.as_usize(),
            head_fields: config.head_fields.as_usize(),
            body_bytes: config.body_bytes.get(),
            head_timeout: config.head_timeout.get(),
            idle_timeout: config.idle_timeout.get(),
            stall_timeout: config.stall_timeout.get(),
            linger_timeout: config.linger_timeout.get(),
            turn_bytes: config.turn_bytes.as_usize(),
            long_rate: config.long_rate.get(),
        }
    }
}

/// One worker's connections and what they share. Lives on the worker's thread.
pub struct Worker<S> {
    /// The App, as a service.
    pub(super) app: S,
    pub(super) files: Files,
    bounds: Cell<Bounds>,
    pub(super) guard: Guard,
    pub(super) prefixes: Prefixes,
    pub(super) memo: RefCell<Memo>,
    pub(super) page_table: PageTable,
    pub(super) last_host: LastHost,
    pub(super) turns: Rc<Turns>,
    granting: JoinHandle<()>,
    /// For reads and probes that end within one poll.
    pub(super) scratch: RefCell<Box<[u8]>>,
    connections: RefCell<HashMap<u64, Rc<Entry>, foldhash::fast::RandomState>>,
    next_id: Cell<u64>,
    is_closing: Cell<bool>,
    emptied: Notify,
}

/// How a connection is reached from outside its own task.
struct Entry {
    waker: RefCell<Option<Waker>>,
    is_busy: Cell<bool>,
}

impl<S> Worker<S> {
    /// A worker that calls `app` and sends from `files` within `bounds`, as `guard` allows. Made on an actix `System` or arbiter.
    pub fn new(app: S, files: Files, bounds: Bounds, guard: Guard) -> Rc<Self> {
        let turns = Rc::new(Turns::new(bounds.turn_bytes, bounds.long_rate));
        Rc::new(Self {
            app,
            files,
            bounds: Cell::new(bounds),
            guard,
            prefixes: Prefixes::new(),
            memo: RefCell::new(Memo::new()),
            page_table: PageTable::open(),
            last_host: LastHost::default(),
            granting: actix_rt::spawn({
                let turns = Rc::clone(&turns);
                async move { turns.grant().await }
            }),
            turns,
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            connections: RefCell::default(),
            next_id: Cell::new(0),
            is_closing: Cell::new(false),
            emptied: Notify::new(),
        })
    }

    /// From now on idle connections close, and every response is its connection's last.
    pub fn close(&self) {
        self.is_closing.set(true);
        // Cloned: a waker may run whatever it likes.
        let wakers: Vec<Waker> =
            self.connections.borrow().values().filter_map(|entry| entry.waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until a worker that closes has no connection left.
    pub async fn emptied(&self) {
        while self.connections() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Connections with a request that is not answered in full.
    pub fn responses_under_way(&self) -> usize {
        self.connections.borrow().values().filter(|entry| entry.is_busy.get()).count()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// From now on `bounds` hold; a deadline that runs already keeps its moment.
    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        self.bounds.set(bounds);
        self.turns.set(bounds.turn_bytes, bounds.long_rate);
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds.get()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    pub(super) fn head_limits(&self) -> HeadLimits {
        let Bounds { head_bytes, head_fields, .. } = self.bounds();
        HeadLimits { bytes: head_bytes, fields: head_fields }
    }

    pub(super) fn register(self: &Rc<Self>) -> Registration<S> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let entry = Rc::new(Entry { waker: RefCell::new(None), is_busy: Cell::new(false) });
        self.connections.borrow_mut().insert(id, Rc::clone(&entry));
        Registration { worker: Rc::clone(self), id, entry }
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.granting.abort();
    }
}

/// A connection's place among the worker's; left when dropped.
pub(super) struct Registration<S> {
    worker: Rc<Worker<S>>,
    id: u64,
    entry: Rc<Entry>,
}

impl<S> Registration<S> {
    pub(super) fn worker(&self) -> &Rc<Worker<S>> {
        &self.worker
    }

    /// The connection waits for a request; it may be woken to close.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether a request of the connection is not answered in full.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.entry.is_busy.set(is_busy);
    }
}

impl<S> Drop for Registration<S> {
    fn drop(&mut self) {
        let is_last = {
            let mut connections = self.worker.connections.borrow_mut();
            connections.remove(&self.id);
            connections.is_empty()
        };
        if is_last && self.worker.is_closing() {
            self.worker.emptied.notify_one();
        }
    }
}
