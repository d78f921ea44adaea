//! The limit on open connections over all workers, and the eviction of unused ones.
//!
//! At the limit a new connection replaces an unused one: first those whose clients never sent anything, then the one that
//! has been idle longest. The activity of a connection is one word, stored without a lock when it changes. All words are
//! read only when the limit is reached, once for many new connections.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Instant;

use parking_lot::Mutex;

use super::clients::CountedSlot;
use crate::telemetry::log_throttle::SampledCounter;
use crate::telemetry::metrics::counter::Counter;

/// The limit on connections, shared by all workers.
pub(crate) struct Connections {
    pub(crate) max: AtomicUsize,
    /// Connections above `max` that replace an evicted one which is not closed yet.
    overlap: usize,
    /// Connections beyond those that are answered with 503.
    refusing_max: usize,
    started: Instant,
    /// Open connections, including evicted ones that are not closed yet.
    pub(crate) open: AtomicUsize,
    refusing: AtomicUsize,
    workers: Mutex<Vec<Arc<WorkerConnections>>>,
    eviction: Mutex<EvictionQueue>,
    /// Evicted for a new connection since the start.
    pub(crate) evicted: Counter,
    /// Refused with 503 since the start.
    pub(crate) refused: SampledCounter,
    /// Responses aborted since the start because their clients received too slowly while connections ran short.
    pub(crate) too_slow: Counter,
}

/// Counts one connection against the limit until it is dropped.
pub(crate) type ConnectionPermit = CountedSlot<Arc<Connections>>;

/// Number of connections in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ActivityCounts {
    pub(crate) handshaking: u64,
    pub(crate) reading: u64,
    pub(crate) answering: u64,
    pub(crate) idle: u64,
    pub(crate) closing: u64,
}

/// The decision on a new connection.
pub(crate) enum ConnectionAdmission {
    /// Serve it.
    Serve(ConnectionPermit),
    /// The limit is reached: answer 503 with Retry-After.
    Refuse(ConnectionPermit),
    /// Too many are being refused already: send the 503 without waiting for the client, and close.
    RefuseAtOnce,
}

impl Connections {
    /// Serves at most `max` connections. `spare` more may be open: half of them replace evicted ones that are not closed yet,
    /// half are answered with 503.
    pub(crate) fn new(max: usize, spare: usize) -> Arc<Self> {
        let overlap = spare / 2;
        Arc::new(Self {
            max: AtomicUsize::new(max),
            overlap,
            refusing_max: spare - overlap,
            started: Instant::now(),
            open: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            workers: Mutex::default(),
            eviction: Mutex::default(),
            evicted: Counter::default(),
            refused: SampledCounter::default(),
            too_slow: Counter::default(),
        })
    }

    /// Changes the limit. Connections that are being served stay, even above it.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Decides on one more connection. At the limit it evicts an unused one.
    pub(crate) fn admit(self: &Arc<Self>) -> ConnectionAdmission {
        let max = self.max.load(Ordering::Relaxed);
        let open = |max| CountedSlot::take(Arc::clone(self), |all| &all.open, max);
        let over = || open(max.saturating_add(self.overlap)).filter(|_| self.evict());
        if let Some(permit) = open(max).or_else(over) {
            return ConnectionAdmission::Serve(permit);
        }
        let (number, is_due) = self.refused.count();
        if is_due {
            log::warn!(
                "all {max} connections are in use: a connection was refused with 503, number {number}"
            );
        }
        let refusing = CountedSlot::take(Arc::clone(self), |all| &all.refusing, self.refusing_max);
        refusing.map_or(ConnectionAdmission::RefuseAtOnce, ConnectionAdmission::Refuse)
    }

    /// The registry for the connections of one more worker.
    pub(crate) fn add_worker(&self) -> Arc<WorkerConnections> {
        let worker = Arc::new(WorkerConnections { slots: Mutex::default() });
        let mut workers = self.workers.lock();
        // Those of workers that have ended.
        workers.retain(|worker| Arc::strong_count(worker) > 1);
        workers.push(Arc::clone(&worker));
        worker
    }

    /// Whether connections run short: seven of eight are in use.
    pub(crate) fn is_short(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        self.open.load(Ordering::Relaxed) >= max - max / SHORT_SHARE
    }

    /// Number of connections in each state, over all workers. The locks are held for a few connections at a time.
    pub(crate) fn activities(&self) -> ActivityCounts {
        let mut activities = ActivityCounts::default();
        let workers = self.workers.lock().clone();
        for worker in workers {
            worker.add_to(&mut activities);
        }
        activities
    }

    /// Milliseconds from the start to `now`.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        since.as_secs() * 1000 + u64::from(since.subsec_millis())
    }

    /// Makes the least used connection close. False if all are in use.
    fn evict(&self) -> bool {
        let Some(entry) = self.choose() else { return false };
        self.evicted.add_shared(1);
        let waker = entry.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn choose(&self) -> Option<Arc<Entry>> {
        let mut eviction = self.eviction.lock();
        eviction.next().or_else(|| {
            let start = Instant::now();
            if eviction.paused_until.is_some_and(|until| start < until) {
                return None;
            }
            self.find_candidates(&mut eviction, self.millis(start));
            let found = eviction.next();
            if eviction.candidates.is_empty() {
                // Repeated searches without result must not occupy the workers.
                let now = Instant::now();
                eviction.paused_until = Some(now + now.duration_since(start) * SEARCH_SHARE);
            }
            found
        })
    }

    /// Searches all connections for candidates to evict: about one for every sixteen that are open.
    fn find_candidates(&self, eviction: &mut EvictionQueue, now_ms: u64) {
        let most = CANDIDATES.max(self.open.load(Ordering::Relaxed) / 16);
        let mut candidates = BTreeMap::new();
        for worker in &*self.workers.lock() {
            for entry in worker.slots.lock().entries.iter().flatten() {
                let Some(rank) = entry.evictable(now_ms) else { continue };
                let is_full = candidates.len() >= most;
                if !is_full || candidates.last_key_value().is_some_and(|(last, _)| rank < *last) {
                    candidates.insert(rank, Arc::clone(entry));
                }
                if candidates.len() > most {
                    candidates.pop_last();
                }
            }
        }
        eviction.candidates = candidates;
    }
}

/// Connections to evict next, unless their activity has changed meanwhile.
///
/// Decision: docs/decisions/040-connection-eviction.md.
#[derive(Default)]
struct EvictionQueue {
    candidates: BTreeMap<EvictionRank, Arc<Entry>>,
    /// No new search before then.
    paused_until: Option<Instant>,
}

/// Place in the order of eviction: the order of its kind, its activity when it was chosen, and its address, which only
/// distinguishes equals.
type EvictionRank = (EvictionOrder, u64, usize);

impl EvictionQueue {
    fn next(&mut self) -> Option<Arc<Entry>> {
        while let Some(((_, seen, _), entry)) = self.candidates.pop_first() {
            if entry.mark_evicted(seen) {
                return Some(entry);
            }
        }
        None
    }
}

/// The order in which connections are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionOrder {
    /// Those that never sent anything.
    Silent,
    /// Those between two requests.
    Idle,
}

/// The connections of one worker.
pub(crate) struct WorkerConnections {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
}

/// The part of a connection that other threads see.
struct Entry {
    /// Its state: [`READING`], [`ANSWERING`], [`CLOSING`], or since when it has been idle and of which kind it is (see [`idle`]).
    activity: AtomicU64,
    is_evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A connection in the registry of its worker, removed when dropped. Stays on the worker's thread.
pub(crate) struct ConnectionSlot {
    worker: Arc<WorkerConnections>,
    slot: usize,
    entry: Arc<Entry>,
    /// Copy of the waker in the entry.
    waker: RefCell<Option<Waker>>,
    kind: Cell<u64>,
}

impl WorkerConnections {
    /// Adds a connection that has not sent anything yet.
    pub(crate) fn add(self: &Arc<Self>, now_ms: u64) -> ConnectionSlot {
        let entry = Arc::new(Entry {
            activity: AtomicU64::new(idle(now_ms, SILENT)),
            is_evicted: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let slot = self.slots.lock().add(Arc::clone(&entry));
        ConnectionSlot {
            worker: Arc::clone(self),
            slot,
            entry,
            waker: RefCell::new(None),
            kind: Cell::new(SILENT),
        }
    }

    fn add_to(&self, activities: &mut ActivityCounts) {
        let mut start = 0;
        loop {
            let slots = self.slots.lock();
            let Some(piece) = slots.entries.get(start..).filter(|rest| !rest.is_empty()) else { return };
            for entry in piece.iter().take(BATCH).flatten() {
                *match entry.activity.load(Ordering::Relaxed) {
                    READING => &mut activities.reading,
                    ANSWERING => &mut activities.answering,
                    CLOSING => &mut activities.closing,
                    idle if idle % KINDS == HANDSHAKING => &mut activities.handshaking,
                    _ => &mut activities.idle,
                } += 1;
            }
            start += BATCH;
        }
    }

    /// Number of connections.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.lock();
        slots.entries.len() - slots.free.len()
    }

    /// Connections whose response has not been sent in full.
    pub(crate) fn answering(&self) -> usize {
        let is_answering = |entry: &&Arc<Entry>| entry.activity.load(Ordering::Relaxed) == ANSWERING;
        self.slots.lock().entries.iter().flatten().filter(is_answering).count()
    }

    /// Wakes all connections that wait for a request.
    pub(crate) fn wake_all(&self) {
        // Cloned, so that no lock is held while a waker runs.
        let wakers: Vec<Waker> = self
            .slots
            .lock()
            .entries
            .iter()
            .flatten()
            .filter_map(|entry| entry.waker.lock().clone())
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Slots {
    fn add(&mut self, entry: Arc<Entry>) -> usize {
        let slot = self.free.pop().unwrap_or(self.entries.len());
        match self.entries.get_mut(slot) {
            Some(free) => *free = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        slot
    }

    fn remove(&mut self, slot: usize) {
        if self.entries.get_mut(slot).and_then(Option::take).is_some() {
            self.free.push(slot);
        }
        if self.free.len() == self.entries.len() {
            *self = Self::default();
        }
    }
}

impl ConnectionSlot {
    /// Sets the state: the head of a request is arriving.
    pub(crate) fn set_reading(&self) {
        self.entry.activity.store(READING, Ordering::Relaxed);
    }

    /// Sets the state: everything was sent, and the client has yet to receive it.
    pub(crate) fn set_closing(&self) {
        self.entry.activity.store(CLOSING, Ordering::Relaxed);
    }

    /// Sets whether a TLS handshake is in progress. During it the connection may be evicted like one that sent nothing.
    pub(crate) fn set_handshaking(&self, is_handshaking: bool) {
        let kind = if is_handshaking { HANDSHAKING } else { SILENT };
        self.kind.set(kind);
        let activity = self.entry.activity.load(Ordering::Relaxed);
        if activity >= idle(0, 0) {
            self.entry.activity.store(activity / KINDS * KINDS + kind, Ordering::Relaxed);
        }
    }

    /// Sets the state: a request has arrived and its response has not been sent in full.
    pub(crate) fn set_answering(&self) {
        let kind = if self.kind.get() == SILENT { ONCE } else { REGULAR };
        self.kind.set(kind);
        self.entry.activity.store(ANSWERING, Ordering::Relaxed);
    }

    /// Sets the state: waiting for a request since `now_ms`. The task is woken when the connection is evicted.
    pub(crate) fn set_idle(&self, cx: &Context<'_>, now_ms: u64) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
            self.entry.waker.lock().clone_from(&waker);
        }
        self.entry.activity.store(idle(now_ms, self.kind.get()), Ordering::Relaxed);
    }

    /// Whether it was evicted: it closes as soon as its client has received everything.
    pub(crate) fn is_evicted(&self) -> bool {
        self.entry.is_evicted.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.worker.slots.lock().remove(self.slot);
    }
}

impl Entry {
    /// Its place in the order of eviction; `None` if it may not be evicted now.
    fn evictable(&self, now_ms: u64) -> Option<EvictionRank> {
        let seen = self.activity.load(Ordering::Relaxed);
        if seen < idle(0, 0) || self.is_evicted.load(Ordering::Relaxed) {
            return None;
        }
        let is_idle_long = now_ms.saturating_sub(seen / KINDS - 1) >= EVICTION_IDLE_MS;
        let (order, may_go) = match seen % KINDS {
            SILENT | HANDSHAKING => (EvictionOrder::Silent, is_idle_long),
            REGULAR => (EvictionOrder::Idle, is_idle_long),
            _ => (EvictionOrder::Idle, true),
        };
        may_go.then(|| (order, seen, std::ptr::from_ref(self).addr()))
    }

    /// Marks it as evicted if its activity is still `seen`.
    fn mark_evicted(&self, seen: u64) -> bool {
        self.activity.load(Ordering::Relaxed) == seen && !self.is_evicted.swap(true, Ordering::Relaxed)
    }
}

/// The activity word of a connection that has been idle since `since_ms`. Earlier means lower.
fn idle(since_ms: u64, kind: u64) -> u64 {
    (since_ms + 1) * KINDS + kind
}

/// Activity words of connections that are not idle.
const READING: u64 = 0;
const ANSWERING: u64 = 1;
const CLOSING: u64 = 2;

/// Connections examined under one lock.
const BATCH: usize = 256;

/// Kinds of idle connections: without a request, with one request, and with several.
const SILENT: u64 = 0;
const ONCE: u64 = 1;
const REGULAR: u64 = 2;
/// As [`SILENT`], in a TLS handshake.
const HANDSHAKING: u64 = 3;
const KINDS: u64 = 4;

/// Idle time before a new connection, or one that sent several requests, may be evicted: its next request may be on its way.
const EVICTION_IDLE_MS: u64 = 1000;

/// Connections run short when at most one in this many is left.
const SHORT_SHARE: usize = 8;

/// Minimum number of candidates that one search collects.
const CANDIDATES: usize = 256;

/// Searches that find nothing take at most one part in this many of the time.
const SEARCH_SHARE: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn served(connections: &Arc<Connections>) -> ConnectionPermit {
        match connections.admit() {
            ConnectionAdmission::Serve(permit) => permit,
            _ => panic!("the limit is not reached"),
        }
    }

    fn set_idle(slot: &ConnectionSlot, now_ms: u64) {
        slot.set_idle(&Context::from_waker(Waker::noop()), now_ms);
    }

    /// A connection that has been idle since its first request.
    fn after_one_request(worker: &Arc<WorkerConnections>, since_ms: u64) -> ConnectionSlot {
        let slot = worker.add(0);
        slot.set_answering();
        set_idle(&slot, since_ms);
        slot
    }

    #[test]
    fn connections_are_served_then_refused_then_refused_at_once() {
        let connections = Connections::new(1, 2);
        let first = served(&connections);
        let ConnectionAdmission::Refuse(_refused) = connections.admit() else {
            panic!("the second is refused")
        };
        assert!(matches!(connections.admit(), ConnectionAdmission::RefuseAtOnce));
        drop(first);
        let _again = served(&connections);
        assert_eq!(connections.refused.get(), 2);
    }

    #[test]
    fn the_longest_idle_connection_of_all_workers_is_evicted() {
        let connections = Connections::new(4, 16);
        let workers = [connections.add_worker(), connections.add_worker()];
        let _permits: Vec<ConnectionPermit> = (0..4).map(|_| served(&connections)).collect();
        let slots = [
            after_one_request(&workers[0], 30),
            after_one_request(&workers[1], 10),
            after_one_request(&workers[0], 20),
            after_one_request(&workers[1], 40),
        ];
        slots[3].set_answering();
        let mut order = Vec::new();
        let mut admitted = Vec::new();
        while let ConnectionAdmission::Serve(permit) = connections.admit() {
            admitted.push(permit);
            let gone = (0..4).filter(|index| slots[*index].is_evicted() && !order.contains(index));
            order.extend(gone.collect::<Vec<_>>());
        }
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(connections.evicted.get(), 3);
    }

    #[test]
    fn connections_that_became_active_are_not_evicted() {
        let connections = Connections::new(2, 4);
        let worker = connections.add_worker();
        let _permits = [served(&connections), served(&connections)];
        let (older, newer) = (after_one_request(&worker, 10), after_one_request(&worker, 20));
        let mut eviction = EvictionQueue::default();
        connections.find_candidates(&mut eviction, 30);
        older.set_answering();
        assert!(eviction.next().is_some_and(|entry| std::ptr::eq(&*entry, &*newer.entry)));
        assert!(eviction.next().is_none());
        assert!(!older.is_evicted() && newer.is_evicted());
    }

    #[test]
    fn eviction_depends_on_the_requests_so_far() {
        let connections = Connections::new(8, 8);
        let worker = connections.add_worker();
        let silent = worker.add(5000);
        let once = after_one_request(&worker, 5000);
        let again = after_one_request(&worker, 4000);
        again.set_answering();
        set_idle(&again, 5000);
        let reading = after_one_request(&worker, 10);
        reading.set_reading();
        for (slot, now_ms, expected) in [
            (&silent, 5999, None),
            (&silent, 6000, Some(EvictionOrder::Silent)),
            (&once, 5000, Some(EvictionOrder::Idle)),
            (&again, 5999, None),
            (&again, 6000, Some(EvictionOrder::Idle)),
            (&reading, 9000, None),
        ] {
            assert_eq!(slot.entry.evictable(now_ms).map(|(order, ..)| order), expected, "{now_ms}");
        }
    }

    #[test]
    fn silent_connections_are_evicted_before_used_ones() {
        let connections = Connections::new(8, 8);
        let worker = connections.add_worker();
        let used = after_one_request(&worker, 10);
        let silent = worker.add(500);
        let mut eviction = EvictionQueue::default();
        connections.find_candidates(&mut eviction, 2000);
        for slot in [&silent, &used] {
            assert!(eviction.next().is_some_and(|entry| std::ptr::eq(&*entry, &*slot.entry)));
        }
    }

    #[test]
    fn the_oldest_of_many_become_candidates() {
        let connections = Connections::new(8, 8);
        let worker = connections.add_worker();
        let slots: Vec<ConnectionSlot> =
            (0..1000).map(|index| after_one_request(&worker, 1 + index * 7919 % 1000)).collect();
        let mut eviction = EvictionQueue::default();
        connections.find_candidates(&mut eviction, 2000);
        assert_eq!(eviction.candidates.len(), CANDIDATES);
        while eviction.next().is_some() {}
        for (index, slot) in (0_u64..).zip(&slots) {
            assert_eq!(slot.is_evicted(), index * 7919 % 1000 < CANDIDATES as u64, "{index}");
        }
    }

    #[test]
    fn slots_are_reused_and_an_empty_registry_is_freed() {
        let worker = Connections::new(8, 8).add_worker();
        let first = worker.add(0);
        let second = worker.add(0);
        second.set_answering();
        drop(first);
        let third = worker.add(0);
        assert_eq!((worker.len(), worker.answering(), third.slot), (2, 1, 0));
        drop((second, third));
        assert_eq!((worker.len(), worker.slots.lock().entries.capacity()), (0, 0));
    }

    #[test]
    fn connections_run_short_when_seven_of_eight_are_in_use() {
        let connections = Connections::new(16, 0);
        let mut permits: Vec<ConnectionPermit> = (0..13).map(|_| served(&connections)).collect();
        assert!(!connections.is_short());
        permits.push(served(&connections));
        assert!(connections.is_short());
    }

    #[test]
    fn a_lower_limit_closes_nothing_and_a_higher_one_admits_more() {
        let connections = Connections::new(2, 2);
        let (one, _other) = (served(&connections), served(&connections));
        connections.set_max(1);
        drop(one);
        assert!(matches!(connections.admit(), ConnectionAdmission::Refuse(_)));
        connections.set_max(2);
        assert!(matches!(connections.admit(), ConnectionAdmission::Serve(_)));
    }
}
