//! Bandwidth limits of one connection: how much of a response may be sent now, and when the next part.
//!
//! The kernel paces a connection if it does that evenly, which costs no wakeups. All other rates are reserved here a
//! few milliseconds ahead, and what is not sent is given back.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_http::Response;
use actix_web::body::BoxBody;
use tokio::time::Sleep;

use crate::http::client_key::ClientKey;
use crate::limits::bandwidth::{ClientPace, ResponsePace};
use crate::limits::byte_rate::{LATE, chunk, nanoseconds};
use crate::limits::client_limits::{Limits, RequestPermit};
use crate::limits::clients::ClientState;
use crate::limits::total_bandwidth::{RateGrant, Ticket};
use crate::net::{PacedResponse, Socket};
use crate::sys::gcra::AtomicGcra;

/// The rates of the response that a connection sends, and the bytes that are reserved and not sent.
pub(super) struct Pacer {
    limits: Limits,
    pace: ResponsePace,
    client_key: ClientKey,
    client: Option<RateReservation>,
    connection: Option<RateReservation>,
    /// The bucket of the connection, which outlives its responses.
    connection_bucket: Arc<AtomicGcra>,
    total: Option<TotalReservation>,
    timer: Option<Pin<Box<Sleep>>>,
    was_held_back: bool,
    is_waiting: bool,
}

/// The pace of `response` to the client of `permit`, else to that at `peer`.
pub(super) fn pace_of(
    limits: &Limits,
    response: &Response<BoxBody>,
    permit: Option<&RequestPermit>,
    peer: Option<SocketAddr>,
) -> ResponsePace {
    let is_exempt = permit.map_or_else(|| limits.is_unlimited(peer), |permit| permit.is_exempt);
    match PacedResponse::of(response) {
        Some(PacedResponse(rates)) if !is_exempt => limits.bandwidth.pace(rates.as_deref()),
        _ => ResponsePace::default(),
    }
}

impl Pacer {
    pub(super) fn new(limits: &Limits) -> Self {
        Self::with_bucket(limits, Arc::default())
    }

    /// One of several pacers of a connection that share `connection_bucket`.
    pub(super) fn with_bucket(limits: &Limits, connection_bucket: Arc<AtomicGcra>) -> Self {
        Self {
            limits: limits.clone(),
            pace: ResponsePace::default(),
            client_key: ClientKey::Local,
            client: None,
            connection: None,
            connection_bucket,
            total: None,
            timer: None,
            was_held_back: false,
            is_waiting: false,
        }
    }

    /// True if a response to `client` with `pace` may follow the present one without a break.
    pub(super) fn has_pace(&self, pace: &ResponsePace, client: ClientKey) -> bool {
        self.pace == *pace && (self.client_key == client || !self.is_limited())
    }

    /// True if a rate limit applies.
    pub(super) fn is_limited(&self) -> bool {
        self.pace != ResponsePace::default()
    }

    /// Begins a response to `client`.
    pub(super) fn begin(&mut self, pace: ResponsePace, client: ClientKey, socket: &mut Socket) {
        let by_kernel = socket.pace(pace.connection);
        self.begin_shared(pace, client, by_kernel);
    }

    /// Begins a response to `client` on a connection that the kernel paces if `by_kernel`, and must not pace as a whole
    /// otherwise.
    pub(super) fn begin_shared(&mut self, pace: ResponsePace, client: ClientKey, by_kernel: bool) {
        self.finish();
        self.client = pace.client.map(|pace| {
            let client = self.limits.clients.get(client);
            RateReservation::of_client(client, pace)
        });
        let bucket = &self.connection_bucket;
        let connection = pace.connection.filter(|_| !by_kernel);
        self.connection = connection.map(|rate| RateReservation::of_connection(Arc::clone(bucket), rate));
        self.total = pace.has_total.then(|| TotalReservation::new(self.limits.clone(), client));
        (self.pace, self.client_key) = (pace, client);
    }

    /// Returns how many of `pending` bytes may be sent now. Waits if there are none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, pending: u64) -> Poll<usize> {
        let room = self.poll_room(cx, pending);
        self.is_waiting = room.is_pending();
        if self.is_waiting && !self.was_held_back {
            self.was_held_back = true;
            self.limits.bandwidth.delayed.inc();
        }
        room.map(|room| usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Counts `bytes` that were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        for reservation in [&mut self.client, &mut self.connection].into_iter().flatten() {
            reservation.left = reservation.left.saturating_sub(bytes);
        }
        if let Some(total) = &mut self.total {
            total.left = total.left.saturating_sub(bytes);
        }
    }

    /// Ends the response and gives back what is left over.
    pub(super) fn finish(&mut self) {
        for reservation in [&mut self.client, &mut self.connection].into_iter().flatten() {
            reservation.give_back();
        }
        if let Some(total) = &mut self.total {
            total.give_back();
        }
        self.was_held_back = false;
        self.is_waiting = false;
    }

    /// True if the response waits for its pace.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, pending: u64) -> Poll<u64> {
        let (mut room, mut due) = (u64::MAX, 0);
        for reservation in [&mut self.client, &mut self.connection].into_iter().flatten() {
            if reservation.left == 0 {
                reservation.reserve(self.limits.bandwidth.clock.now(), pending);
            }
            room = room.min(reservation.left);
            due = due.max(reservation.due);
        }
        if due > 0 {
            ready!(self.poll_until(cx, due));
        }
        // Last, so that a response held back by its other limits takes no share of the total rate.
        match &mut self.total {
            Some(total) => total.poll(cx, pending).map(|left| room.min(left)),
            None => Poll::Ready(room),
        }
    }

    /// Waits until the moment `due` of the limits' clock.
    fn poll_until(&mut self, cx: &mut Context<'_>, due: u64) -> Poll<()> {
        let bandwidth = &self.limits.bandwidth;
        if bandwidth.clock.now() >= due {
            return Poll::Ready(());
        }
        let moment = tokio::time::Instant::from_std(bandwidth.clock.instant(due));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(moment)));
        if timer.deadline() != moment {
            timer.as_mut().reset(moment);
        }
        timer.as_mut().poll(cx)
    }
}

/// Bytes reserved of one rate.
struct RateReservation {
    bucket: Arc<AtomicGcra>,
    rate: u64,
    /// Bytes reserved at once.
    chunk: u64,
    /// Time without sending that is made up for, in nanoseconds.
    credit: u64,
    /// Bytes reserved and not sent, and the moment from which they may be sent.
    left: u64,
    due: u64,
    /// Keeps the client's state, or another connection would begin with an allowance of its own.
    _client: Option<Arc<ClientState>>,
}

impl RateReservation {
    fn of_client(client: Arc<ClientState>, ClientPace { rate, burst, rule }: ClientPace) -> Self {
        let bucket = client.bandwidth.bucket(rule);
        let chunk = chunk(rate, CLIENT_CHUNKS, CHUNK_MAX);
        let mut reservation = Self::new(bucket, rate, chunk, burst);
        reservation._client = Some(client);
        reservation
    }

    fn of_connection(bucket: Arc<AtomicGcra>, rate: u64) -> Self {
        Self::new(bucket, rate, chunk(rate, CONNECTION_CHUNKS, CHUNK_MAX), rate / CONNECTION_CHUNKS)
    }

    /// Allows `burst` bytes at once: a chunk and the credit.
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

/// Bytes granted of the rate of all clients together.
struct TotalReservation {
    limits: Limits,
    client: ClientKey,
    left: u64,
    /// The entry in the queue, while there is one.
    ticket: Option<Arc<Ticket>>,
    /// Bytes of the last grant, if clients compete for the rate.
    last_grant: u64,
}

impl TotalReservation {
    fn new(limits: Limits, client: ClientKey) -> Self {
        Self { limits, client, left: 0, ticket: None, last_grant: 0 }
    }

    /// Returns how many of `pending` bytes may be sent. Waits if there are none.
    fn poll(&mut self, cx: &Context<'_>, pending: u64) -> Poll<u64> {
        if let Some(bytes) = self.ticket.as_ref().and_then(|ticket| ticket.granted(cx.waker())) {
            self.ticket = None;
            self.left += bytes;
            self.last_grant = bytes;
        }
        // If clients compete, the next grant is requested while this one is used, so that no turn is missed. Not more
        // than one: the share of a client that takes nothing would pile up here.
        let is_short = self.left == 0 || (self.left <= self.last_grant && self.left < pending);
        if is_short && self.ticket.is_none() {
            let bandwidth = &self.limits.bandwidth;
            let wanted = pending.saturating_sub(self.left).max(1);
            match bandwidth.total.request(bandwidth.clock.now(), self.client, wanted, cx.waker()) {
                RateGrant::Granted(bytes) => self.left += bytes,
                RateGrant::Waiting(ticket) => self.ticket = Some(ticket),
            }
        }
        if self.left > 0 { Poll::Ready(self.left) } else { Poll::Pending }
    }

    fn give_back(&mut self) {
        let total = &self.limits.bandwidth.total;
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

/// Chunks per second of the rate of a client.
const CLIENT_CHUNKS: u64 = 100;

/// Chunks per second of the rate of a connection: fewer, since nothing shares it.
const CONNECTION_CHUNKS: u64 = 20;

/// Most bytes reserved at once, as many as a bulk turn has.
const CHUNK_MAX: u64 = 256 * 1024;
