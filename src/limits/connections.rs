//! How many connections there may be, over all workers, and which of them goes where another one wants in.
//!
//! At the limit a newcomer takes the place of a connection that nobody uses: one whose client has been silent since it
//! came, else the one that has idled the longest. What a connection does is one word, stored without a lock when it
//! changes; all words are looked at only where the limit is reached, once for many newcomers.

use std::cell::{Cell, RefCell};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Instant;

use parking_lot::Mutex;

use super::clients::take;
use crate::telemetry::log_throttle::SampledCounter;

/// A bound on connections, shared by the workers.
#[derive(Clone)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    max: AtomicUsize,
    /// Room above `max` for those whose place is still being left by another.
    overlap: usize,
    /// Room above that for those who are told to come back.
    refusing_max: usize,
    started: Instant,
    open: AtomicUsize,
    refusing: AtomicUsize,
    rooms: Mutex<Vec<Arc<WorkerConnections>>>,
    leaving: Mutex<EvictionQueue>,
    evicted: AtomicU64,
    refused: SampledCounter,
    too_slow: AtomicU64,
}

/// A connection's share of the bound; returned when dropped.
pub(crate) struct ConnectionPermit {
    shared: Arc<Shared>,
    is_refusal: bool,
}

/// How many connections do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ActivityCounts {
    pub(crate) handshaking: u64,
    pub(crate) reading: u64,
    pub(crate) answering: u64,
    pub(crate) idle: u64,
    pub(crate) closing: u64,
}

/// What a newcomer gets.
pub(crate) enum ConnectionAdmission {
    /// It is served.
    Serve(ConnectionPermit),
    /// The bound is reached: it is told so.
    Refuse(ConnectionPermit),
    /// Too many are being told already: it hears it in passing.
    RefuseAtOnce,
}

/// What became of the bound on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Open now, those that are about to leave included.
    pub open: usize,
    /// Served at once at most.
    pub max: usize,
    /// Closed for a newcomer since the start.
    pub evicted: u64,
    /// Told to come back since the start.
    pub refused: u64,
    /// Responses that were cut since the start because their clients took too little while connections ran short.
    pub too_slow: u64,
}

impl Connections {
    /// At most `max` connections are served. Beyond them there is `room` for some more: half of it for newcomers whose
    /// place is being left, half for those who are told to come back.
    pub(crate) fn new(max: usize, room: usize) -> Self {
        let overlap = room / 2;
        let shared = Shared {
            max: AtomicUsize::new(max),
            overlap,
            refusing_max: room - overlap,
            started: Instant::now(),
            open: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            rooms: Mutex::default(),
            leaving: Mutex::default(),
            evicted: AtomicU64::new(0),
            refused: SampledCounter::default(),
            too_slow: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// From now on at most `max` connections are served. Those beyond it that are being served stay.
    pub(crate) fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
    }

    /// Room for one more connection, if need be that of one which nobody uses.
    pub(crate) fn admit(&self) -> ConnectionAdmission {
        let (shared, max) = (&self.shared, self.shared.max());
        let share = |is_refusal| ConnectionPermit { shared: Arc::clone(shared), is_refusal };
        if take(&shared.open, max) {
            return ConnectionAdmission::Serve(share(false));
        }
        if take(&shared.open, max.saturating_add(shared.overlap)) {
            let taken = share(false);
            if self.evict() {
                return ConnectionAdmission::Serve(taken);
            }
        }
        shared.count_refusal();
        if take(&shared.refusing, shared.refusing_max) {
            ConnectionAdmission::Refuse(share(true))
        } else {
            ConnectionAdmission::RefuseAtOnce
        }
    }

    /// A room for the connections of one worker.
    pub(crate) fn room(&self) -> Arc<WorkerConnections> {
        let room = Arc::new(WorkerConnections { slots: Mutex::default() });
        let mut rooms = self.shared.rooms.lock();
        // Workers that ended have left theirs.
        rooms.retain(|room| Arc::strong_count(room) > 1);
        rooms.push(Arc::clone(&room));
        room
    }

    /// Whether connections run short: seven of eight are taken.
    pub(crate) fn is_short(&self) -> bool {
        let shared = &self.shared;
        shared.open.load(Ordering::Relaxed) >= shared.max() - shared.max() / SHORT_SHARE
    }

    pub(crate) fn count_too_slow(&self) {
        self.shared.too_slow.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> ConnectionCounts {
        let shared = &self.shared;
        ConnectionCounts {
            open: shared.open.load(Ordering::Relaxed),
            max: shared.max(),
            evicted: shared.evicted.load(Ordering::Relaxed),
            refused: shared.refused.get(),
            too_slow: shared.too_slow.load(Ordering::Relaxed),
        }
    }

    /// How many connections do what, those of all workers together. Looked at a few at a time: nobody waits for it for long.
    pub(crate) fn activities(&self) -> ActivityCounts {
        let mut activities = ActivityCounts::default();
        let rooms = self.shared.rooms.lock().clone();
        for room in rooms {
            room.add_to(&mut activities);
        }
        activities
    }

    /// Milliseconds from the start to `now`.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.shared.started);
        since.as_secs() * 1000 + u64::from(since.subsec_millis())
    }

    /// Tells the connection that is used least to close; false where all are in use.
    fn evict(&self) -> bool {
        let Some(entry) = self.choose() else { return false };
        self.shared.evicted.fetch_add(1, Ordering::Relaxed);
        let waker = entry.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    fn choose(&self) -> Option<Arc<Entry>> {
        let mut leaving = self.shared.leaving.lock();
        leaving.next().or_else(|| {
            let begun = Instant::now();
            if leaving.rests_until.is_some_and(|until| begun < until) {
                return None;
            }
            self.look(&mut leaving, self.millis(begun));
            let found = leaving.next();
            if leaving.candidates.is_empty() {
                // Looking again and again for what is not there must not take up the workers.
                let now = Instant::now();
                leaving.rests_until = Some(now + now.duration_since(begun) * LOOK_SHARE);
            }
            found
        })
    }

    /// Looks at all connections for those that may go. For each that is found some sixteen are looked at.
    fn look(&self, leaving: &mut EvictionQueue, now_ms: u64) {
        let most = CANDIDATES.max(self.shared.open.load(Ordering::Relaxed) / 16);
        let mut oldest = BinaryHeap::new();
        for room in &*self.shared.rooms.lock() {
            for entry in room.slots.lock().entries.iter().flatten() {
                let Some((order, seen)) = entry.may_go(now_ms) else { continue };
                let is_among = oldest.len() < most
                    || oldest.peek().is_some_and(|last: &Candidate| (order, seen) < (last.order, last.seen));
                if is_among {
                    oldest.push(Candidate { order, seen, entry: Arc::clone(entry) });
                    if oldest.len() > most {
                        oldest.pop();
                    }
                }
            }
        }
        leaving.candidates = oldest.into_sorted_vec();
        leaving.candidates.reverse();
    }
}

impl Shared {
    fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn count_refusal(&self) {
        let (number, is_told) = self.refused.count();
        if is_told {
            let max = self.max();
            log::warn!("all {max} connections are in use: a newcomer was told to come back, number {number}");
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let count = if self.is_refusal { &self.shared.refusing } else { &self.shared.open };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who goes next.
#[derive(Default)]
struct EvictionQueue {
    /// The first to go at the end.
    candidates: Vec<Candidate>,
    /// Before then connections are not looked at again.
    rests_until: Option<Instant>,
}

/// A connection that may go, unless it does something else by now.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    order: EvictionOrder,
    /// What it did.
    seen: u64,
    entry: Arc<Entry>,
}

impl EvictionQueue {
    fn next(&mut self) -> Option<Arc<Entry>> {
        while let Some(candidate) = self.candidates.pop() {
            if candidate.entry.goes(candidate.seen) {
                return Some(candidate.entry);
            }
        }
        None
    }
}

/// In which order connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionOrder {
    /// Those that never said a word.
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

/// How a connection is reached from outside its own task.
struct Entry {
    /// What it does: [`READING`], [`ANSWERING`], [`CLOSING`], or since when it idles and as what (see [`idle`]).
    activity: AtomicU64,
    is_evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// A connection's place in a room, on the worker's thread; left when dropped.
pub(crate) struct ConnectionSlot {
    room: Arc<WorkerConnections>,
    slot: usize,
    entry: Arc<Entry>,
    /// The waker that the entry has.
    known: RefCell<Option<Waker>>,
    kind: Cell<u64>,
}

impl WorkerConnections {
    /// A place for a connection that has said nothing yet.
    pub(crate) fn enter(self: &Arc<Self>, now_ms: u64) -> ConnectionSlot {
        let entry = Arc::new(Entry {
            activity: AtomicU64::new(idle(now_ms, SILENT)),
            is_evicted: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let slot = self.slots.lock().put(Arc::clone(&entry));
        ConnectionSlot {
            room: Arc::clone(self),
            slot,
            entry,
            known: RefCell::new(None),
            kind: Cell::new(SILENT),
        }
    }

    fn add_to(&self, activities: &mut ActivityCounts) {
        let mut start = 0;
        loop {
            let slots = self.slots.lock();
            let Some(piece) = slots.entries.get(start..).filter(|rest| !rest.is_empty()) else { return };
            for entry in piece.iter().take(LOOKED_AT).flatten() {
                *match entry.activity.load(Ordering::Relaxed) {
                    READING => &mut activities.reading,
                    ANSWERING => &mut activities.answering,
                    CLOSING => &mut activities.closing,
                    idle if idle % KINDS == HANDSHAKING => &mut activities.handshaking,
                    _ => &mut activities.idle,
                } += 1;
            }
            start += LOOKED_AT;
        }
    }

    /// Connections in it.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.lock();
        slots.entries.len() - slots.free.len()
    }

    /// Connections whose request is not answered in full.
    pub(crate) fn answering(&self) -> usize {
        let is_answering = |entry: &&Arc<Entry>| entry.activity.load(Ordering::Relaxed) == ANSWERING;
        self.slots.lock().entries.iter().flatten().filter(is_answering).count()
    }

    /// Wakes all that have waited for a request.
    pub(crate) fn wake_all(&self) {
        // Cloned: a waker may run whatever it likes.
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
    fn put(&mut self, entry: Arc<Entry>) -> usize {
        let slot = self.free.pop().unwrap_or(self.entries.len());
        match self.entries.get_mut(slot) {
            Some(place) => *place = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        slot
    }

    fn clear(&mut self, slot: usize) {
        if self.entries.get_mut(slot).and_then(Option::take).is_some() {
            self.free.push(slot);
        }
        if self.free.len() == self.entries.len() {
            *self = Self::default();
        }
    }
}

impl ConnectionSlot {
    /// The head of a request is arriving.
    pub(crate) fn reads(&self) {
        self.entry.activity.store(READING, Ordering::Relaxed);
    }

    /// All is said, and the client is waited for to hear it.
    pub(crate) fn closes(&self) {
        self.entry.activity.store(CLOSING, Ordering::Relaxed);
    }

    /// A TLS handshake begins or has ended. While it lasts, the connection may be evicted like one that has sent nothing.
    pub(crate) fn set_handshaking(&self, is_handshaking: bool) {
        let kind = if is_handshaking { HANDSHAKING } else { SILENT };
        self.kind.set(kind);
        let activity = self.entry.activity.load(Ordering::Relaxed);
        if activity >= idle(0, 0) {
            self.entry.activity.store(activity / KINDS * KINDS + kind, Ordering::Relaxed);
        }
    }

    /// A whole request has arrived and is not answered in full.
    pub(crate) fn answers(&self) {
        let kind = if self.kind.get() == SILENT { ONCE } else { REGULAR };
        self.kind.set(kind);
        self.entry.activity.store(ANSWERING, Ordering::Relaxed);
    }

    /// The connection waits for a request since `now_ms`; it may be woken to close.
    pub(crate) fn idles(&self, cx: &Context<'_>, now_ms: u64) {
        let mut known = self.known.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *known = Some(cx.waker().clone());
            self.entry.waker.lock().clone_from(&known);
        }
        self.entry.activity.store(idle(now_ms, self.kind.get()), Ordering::Relaxed);
    }

    /// Whether a newcomer has its place: it closes as soon as nothing is owed to its client.
    pub(crate) fn is_evicted(&self) -> bool {
        self.entry.is_evicted.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.room.slots.lock().clear(self.slot);
    }
}

impl Entry {
    /// Whether it may go now, before which others, and what it does.
    fn may_go(&self, now_ms: u64) -> Option<(EvictionOrder, u64)> {
        let seen = self.activity.load(Ordering::Relaxed);
        if seen < idle(0, 0) || self.is_evicted.load(Ordering::Relaxed) {
            return None;
        }
        let has_rested = now_ms.saturating_sub(seen / KINDS - 1) >= RESTED_MS;
        match seen % KINDS {
            SILENT | HANDSHAKING => has_rested.then_some((EvictionOrder::Silent, seen)),
            REGULAR => has_rested.then_some((EvictionOrder::Idle, seen)),
            _ => Some((EvictionOrder::Idle, seen)),
        }
    }

    /// Marks it as evicted if it still does what was seen.
    fn goes(&self, seen: u64) -> bool {
        self.activity.load(Ordering::Relaxed) == seen && !self.is_evicted.swap(true, Ordering::Relaxed)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Candidates are told apart by what comes before; among equals any may go.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        std::ptr::from_ref(self).cmp(&std::ptr::from_ref(other))
    }
}

/// The word of a connection that idles since `since_ms`. The earlier, the less.
fn idle(since_ms: u64, kind: u64) -> u64 {
    (since_ms + 1) * KINDS + kind
}

/// The words of those who do not idle.
const READING: u64 = 0;
const ANSWERING: u64 = 1;
const CLOSING: u64 = 2;

/// Connections that are looked at under one lock.
const LOOKED_AT: usize = 256;

/// Kinds of connections that idle: those that never said a word, those that have asked once, and those that have asked
/// again.
const SILENT: u64 = 0;
const ONCE: u64 = 1;
const REGULAR: u64 = 2;
/// As [`SILENT`], in a TLS handshake.
const HANDSHAKING: u64 = 3;
const KINDS: u64 = 4;

/// A client that comes again and again is not between two requests for good before this, nor is a new one silent: its
/// request may be on its way.
const RESTED_MS: u64 = 1000;

/// Connections run short once no more than one in so many is left.
const SHORT_SHARE: usize = 8;

/// Who goes next is settled for at least so many newcomers at once.
const CANDIDATES: usize = 256;

/// Where too few may go, looking for them takes one part in so many of the time at most.
const LOOK_SHARE: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn served(connections: &Connections) -> ConnectionPermit {
        match connections.admit() {
            ConnectionAdmission::Serve(share) => share,
            _ => panic!("there is room"),
        }
    }

    fn idles(place: &ConnectionSlot, now_ms: u64) {
        place.idles(&Context::from_waker(Waker::noop()), now_ms);
    }

    /// A connection that has asked once and idles since then.
    fn asked(room: &Arc<WorkerConnections>, since_ms: u64) -> ConnectionSlot {
        let place = room.enter(0);
        place.answers();
        idles(&place, since_ms);
        place
    }

    #[test]
    fn newcomers_are_served_then_told_then_told_in_passing_and_a_share_comes_back() {
        let connections = Connections::new(1, 2);
        let first = served(&connections);
        let ConnectionAdmission::Refuse(_told) = connections.admit() else { panic!("the second is told") };
        assert!(matches!(connections.admit(), ConnectionAdmission::RefuseAtOnce));
        drop(first);
        let _again = served(&connections);
        assert_eq!(connections.counts().refused, 2);
    }

    #[test]
    fn the_one_that_idles_the_longest_goes_whichever_room_it_is_in() {
        let connections = Connections::new(4, 16);
        let rooms = [connections.room(), connections.room()];
        let _shares: Vec<ConnectionPermit> = (0..4).map(|_| served(&connections)).collect();
        let places = [asked(&rooms[0], 30), asked(&rooms[1], 10), asked(&rooms[0], 20), asked(&rooms[1], 40)];
        places[3].answers();
        let mut order = Vec::new();
        let mut newcomers = Vec::new();
        while let ConnectionAdmission::Serve(share) = connections.admit() {
            newcomers.push(share);
            let gone = (0..4).filter(|index| places[*index].is_evicted() && !order.contains(index));
            order.extend(gone.collect::<Vec<_>>());
        }
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(connections.counts().evicted, 3);
    }

    #[test]
    fn those_that_asked_again_meanwhile_are_passed_over() {
        let connections = Connections::new(2, 4);
        let room = connections.room();
        let _shares = [served(&connections), served(&connections)];
        let (older, newer) = (asked(&room, 10), asked(&room, 20));
        let mut leaving = EvictionQueue::default();
        connections.look(&mut leaving, 30);
        older.answers();
        assert!(leaving.next().is_some_and(|entry| std::ptr::eq(&*entry, &*newer.entry)));
        assert!(leaving.next().is_none());
        assert!(!older.is_evicted() && newer.is_evicted());
    }

    #[test]
    fn who_may_go_depends_on_what_was_heard_of_it() {
        let connections = Connections::new(8, 8);
        let room = connections.room();
        let silent = room.enter(5000);
        let once = asked(&room, 5000);
        let again = asked(&room, 4000);
        again.answers();
        idles(&again, 5000);
        let reading = asked(&room, 10);
        reading.reads();
        for (place, now_ms, expected) in [
            (&silent, 5999, None),
            (&silent, 6000, Some(EvictionOrder::Silent)),
            (&once, 5000, Some(EvictionOrder::Idle)),
            (&again, 5999, None),
            (&again, 6000, Some(EvictionOrder::Idle)),
            (&reading, 9000, None),
        ] {
            assert_eq!(place.entry.may_go(now_ms).map(|(order, _)| order), expected, "{now_ms}");
        }
    }

    #[test]
    fn the_silent_go_before_those_that_have_asked() {
        let connections = Connections::new(8, 8);
        let room = connections.room();
        let asked = asked(&room, 10);
        let silent = room.enter(500);
        let mut leaving = EvictionQueue::default();
        connections.look(&mut leaving, 2000);
        for place in [&silent, &asked] {
            assert!(leaving.next().is_some_and(|entry| std::ptr::eq(&*entry, &*place.entry)));
        }
    }

    #[test]
    fn of_many_the_oldest_are_kept_in_mind() {
        let connections = Connections::new(8, 8);
        let room = connections.room();
        let places: Vec<ConnectionSlot> =
            (0..1000).map(|index| asked(&room, 1 + index * 7919 % 1000)).collect();
        let mut leaving = EvictionQueue::default();
        connections.look(&mut leaving, 2000);
        assert_eq!(leaving.candidates.len(), CANDIDATES);
        while leaving.next().is_some() {}
        for (index, place) in (0_u64..).zip(&places) {
            assert_eq!(place.is_evicted(), index * 7919 % 1000 < CANDIDATES as u64, "{index}");
        }
    }

    #[test]
    fn places_are_used_again_and_a_room_that_is_empty_holds_nothing() {
        let room = Connections::new(8, 8).room();
        let first = room.enter(0);
        let second = room.enter(0);
        second.answers();
        drop(first);
        let third = room.enter(0);
        assert_eq!((room.len(), room.answering(), third.slot), (2, 1, 0));
        drop((second, third));
        assert_eq!((room.len(), room.slots.lock().entries.capacity()), (0, 0));
    }

    #[test]
    fn connections_run_short_once_seven_of_eight_are_taken() {
        let connections = Connections::new(16, 0);
        let mut shares: Vec<ConnectionPermit> = (0..13).map(|_| served(&connections)).collect();
        assert!(!connections.is_short());
        shares.push(served(&connections));
        assert!(connections.is_short());
    }

    #[test]
    fn a_lower_bound_lets_those_stay_who_are_served_and_a_higher_one_newcomers_in() {
        let connections = Connections::new(2, 2);
        let (one, _other) = (served(&connections), served(&connections));
        connections.set_max(1);
        drop(one);
        assert!(matches!(connections.admit(), ConnectionAdmission::Refuse(_)));
        connections.set_max(2);
        assert!(matches!(connections.admit(), ConnectionAdmission::Serve(_)));
    }
}
