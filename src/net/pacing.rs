//! The pace of one connection: how much of a response may be sent now, and when the next part of it.
//!
//! The rate of a connection is kept by the kernel where it does that evenly, without waking anybody. Everything else is
//! reserved here in parts of a few milliseconds' worth, and given back where it is not sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use super::socket::Socket;
use crate::http::client_key::ClientKey;
use crate::limits::bandwidth::{ClientPace, ResponsePace};
use crate::limits::byte_rate::{LATE, chunk, nanoseconds};
use crate::limits::client_limits::Limits;
use crate::limits::clients::ClientState;
use crate::limits::total_bandwidth::{RateGrant, Ticket};
use crate::sys::gcra::AtomicGcra;

/// What holds for the response that a connection sends, and what it was allowed and has not sent.
pub(super) struct Pacer {
    guard: Limits,
    pace: ResponsePace,
    client_key: ClientKey,
    client: Option<RateReservation>,
    connection: Option<RateReservation>,
    /// The connection's own bucket, which outlives its responses.
    own: Arc<AtomicGcra>,
    total: Option<TotalReservation>,
    timer: Option<Pin<Box<Sleep>>>,
    was_held_back: bool,
    is_waiting: bool,
}

impl Pacer {
    pub(super) fn new(guard: &Limits) -> Self {
        Self::sharing(guard, Arc::default())
    }

    /// One of several on a connection whose bucket is `own`.
    pub(super) fn sharing(guard: &Limits, own: Arc<AtomicGcra>) -> Self {
        Self {
            guard: guard.clone(),
            pace: ResponsePace::default(),
            client_key: ClientKey::Local,
            client: None,
            connection: None,
            own,
            total: None,
            timer: None,
            was_held_back: false,
            is_waiting: false,
        }
    }

    /// Whether the next response to `client` may follow the ones before without a break.
    pub(super) fn holds(&self, pace: &ResponsePace, client: ClientKey) -> bool {
        self.pace == *pace && (self.client_key == client || !self.is_limited())
    }

    /// Whether any rate holds.
    pub(super) fn is_limited(&self) -> bool {
        self.pace != ResponsePace::default()
    }

    /// A response to `client` begins.
    pub(super) fn begin(&mut self, pace: ResponsePace, client: ClientKey, socket: &mut Socket) {
        let by_kernel = socket.pace(pace.connection);
        self.begin_beside(pace, client, by_kernel);
    }

    /// A response to `client` begins, on a connection that the kernel paces already or that nobody may have paced as a whole.
    pub(super) fn begin_beside(&mut self, pace: ResponsePace, client: ClientKey, by_kernel: bool) {
        self.finish();
        self.client = pace.client.map(|pace| {
            let client = self.guard.client(client);
            RateReservation::of_client(client, pace)
        });
        let own = &self.own;
        let connection = pace.connection.filter(|_| !by_kernel);
        self.connection = connection.map(|rate| RateReservation::of_connection(Arc::clone(own), rate));
        self.total = pace.has_total.then(|| TotalReservation::new(self.guard.clone(), client));
        (self.pace, self.client_key) = (pace, client);
    }

    /// How many of `pending` bytes may be sent now. Waits where none may.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, pending: u64) -> Poll<usize> {
        let room = self.poll_room(cx, pending);
        self.is_waiting = room.is_pending();
        if self.is_waiting && !self.was_held_back {
            self.was_held_back = true;
            self.guard.bandwidth().count_delayed();
        }
        room.map(|room| usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// So many bytes were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        for lane in [&mut self.client, &mut self.connection].into_iter().flatten() {
            lane.left = lane.left.saturating_sub(bytes);
        }
        if let Some(total) = &mut self.total {
            total.left = total.left.saturating_sub(bytes);
        }
    }

    /// All that there was is sent: what is left over goes to others.
    pub(super) fn finish(&mut self) {
        for lane in [&mut self.client, &mut self.connection].into_iter().flatten() {
            lane.give_back();
        }
        if let Some(total) = &mut self.total {
            total.give_back();
        }
        self.was_held_back = false;
        self.is_waiting = false;
    }

    /// Whether it is the pace that the response waits for.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, pending: u64) -> Poll<u64> {
        let (mut room, mut due) = (u64::MAX, 0);
        for lane in [&mut self.client, &mut self.connection].into_iter().flatten() {
            if lane.left == 0 {
                lane.reserve(self.guard.bandwidth().now(), pending);
            }
            room = room.min(lane.left);
            due = due.max(lane.due);
        }
        if due > 0 {
            ready!(self.poll_until(cx, due));
        }
        // Last: while others of its limits hold a response back it takes nobody's share.
        match &mut self.total {
            Some(total) => total.poll(cx, pending).map(|left| room.min(left)),
            None => Poll::Ready(room),
        }
    }

    /// Waits until the moment `due` of the guard's clock.
    fn poll_until(&mut self, cx: &mut Context<'_>, due: u64) -> Poll<()> {
        let bandwidth = self.guard.bandwidth();
        if bandwidth.now() >= due {
            return Poll::Ready(());
        }
        let moment = tokio::time::Instant::from_std(bandwidth.moment(due));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(moment)));
        if timer.deadline() != moment {
            timer.as_mut().reset(moment);
        }
        timer.as_mut().poll(cx)
    }
}

/// What is reserved of one rate.
struct RateReservation {
    bucket: Arc<AtomicGcra>,
    rate: u64,
    /// Bytes that are reserved at once.
    chunk: u64,
    /// Time without sending that is made up for, in nanoseconds.
    credit: u64,
    /// Bytes that are reserved and not sent, and from when on they may be.
    left: u64,
    due: u64,
    /// Whose it is: not forgotten meanwhile, or a further connection would begin with an allowance of its own.
    _client: Option<Arc<ClientState>>,
}

impl RateReservation {
    fn of_client(client: Arc<ClientState>, ClientPace { rate, burst, rule }: ClientPace) -> Self {
        let bucket = client.bandwidth.bucket(rule);
        let chunk = chunk(rate, CLIENT_CHUNKS, CHUNK_MAX);
        let mut lane = Self::new(bucket, rate, chunk, burst);
        lane._client = Some(client);
        lane
    }

    fn of_connection(bucket: Arc<AtomicGcra>, rate: u64) -> Self {
        Self::new(bucket, rate, chunk(rate, CONNECTION_CHUNKS, CHUNK_MAX), rate / CONNECTION_CHUNKS)
    }

    /// One that lets `burst` bytes go at once: a chunk, and what is made up for.
    fn new(bucket: Arc<AtomicGcra>, rate: u64, chunk: u64, burst: u64) -> Self {
        let credit = nanoseconds(burst.saturating_sub(chunk), rate).max(LATE);
        Self { bucket, rate, chunk, credit, left: 0, due: 0, _client: None }
    }

    fn reserve(&mut self, now: u64, pending: u64) {
        self.left = self.chunk.min(pending).max(1);
        let cost = nanoseconds(self.left, self.rate);
        self.due = self.bucket.update(|gcra| gcra.reserve(now, cost, self.credit));
    }

    fn give_back(&mut self) {
        let left = std::mem::take(&mut self.left);
        if left > 0 {
            let cost = nanoseconds(left, self.rate);
            self.bucket.update(|gcra| gcra.give_back(cost));
        }
    }
}

impl Drop for RateReservation {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What is granted of the rate of all clients.
struct TotalReservation {
    guard: Limits,
    client: ClientKey,
    left: u64,
    /// A place in the queue, where there is one.
    ticket: Option<Arc<Ticket>>,
    /// The last turn, where others want more than there is.
    turn: u64,
}

impl TotalReservation {
    fn new(guard: Limits, client: ClientKey) -> Self {
        Self { guard, client, left: 0, ticket: None, turn: 0 }
    }

    /// How many of `pending` bytes may be sent. Waits where none may.
    fn poll(&mut self, cx: &Context<'_>, pending: u64) -> Poll<u64> {
        if let Some(bytes) = self.ticket.as_ref().and_then(|ticket| ticket.granted(cx.waker())) {
            self.ticket = None;
            self.left += bytes;
            self.turn = bytes;
        }
        // Where clients take turns, the next one is asked for while this one is used: who is not there loses theirs. No
        // further one: a client that takes nothing would have its share pile up here.
        let is_short = self.left == 0 || (self.left <= self.turn && self.left < pending);
        if is_short && self.ticket.is_none() {
            let bandwidth = self.guard.bandwidth();
            let wanted = pending.saturating_sub(self.left).max(1);
            match bandwidth.total.request(bandwidth.now(), self.client, wanted, cx.waker()) {
                RateGrant::Granted(bytes) => self.left += bytes,
                RateGrant::Waiting(ticket) => self.ticket = Some(ticket),
            }
        }
        if self.left > 0 { Poll::Ready(self.left) } else { Poll::Pending }
    }

    fn give_back(&mut self) {
        let total = &self.guard.bandwidth().total;
        if let Some(ticket) = self.ticket.take() {
            total.cancel(&ticket);
        }
        let left = std::mem::take(&mut self.left);
        if left > 0 {
            total.give_back(left);
        }
    }
}

impl Drop for TotalReservation {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Parts of a second that are reserved of the rate of a client.
const CLIENT_CHUNKS: u64 = 100;

/// The same of the rate of a connection: fewer, since nobody shares it.
const CONNECTION_CHUNKS: u64 = 20;

/// The most that is reserved at once, which is as much as a turn is of.
const CHUNK_MAX: u64 = 256 * 1024;
