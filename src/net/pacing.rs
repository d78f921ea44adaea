//! Bandwidth limits of one connection: how much of a response may be sent now, and when the next part.
//!
//! The kernel paces a connection if it does that evenly, which costs no wakeups. All other rates are reserved here a
//! few milliseconds ahead, and what is not sent is given back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_http::Response;
use actix_web::body::BoxBody;

use crate::http::client_key::ClientKey;
use crate::limits::bandwidth::{Bandwidth, ClientPace, ResponsePace};
use crate::limits::byte_rate::{LATE, chunk, nanoseconds};
use crate::limits::client_limits::{Limits, RequestPermit};
use crate::limits::clients::ClientState;
use crate::limits::total_bandwidth::{RateGrant, Ticket};
use crate::net::{Deadline, PacedResponse};
use crate::sys::gcra::AtomicGcra;

/// The rates of the response that a connection sends, and the bytes that are reserved and not sent.
pub(super) struct Pacer {
    limits: Limits,
    pace: ResponsePace,
    client: ClientKey,
    /// Kept while the client's rate is, or another connection would begin with an allowance of its own.
    client_state: Option<Arc<ClientState>>,
    /// The bucket of the connection, which outlives its responses.
    connection_bucket: Arc<AtomicGcra>,
    /// Reservations of the rates of the client and of the connection.
    rates: [Option<RateReservation>; 2],
    total: Option<TotalReservation>,
    timer: Deadline,
    was_held_back: bool,
    /// The response waits for its pace.
    pub(super) is_waiting: bool,
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
    /// A pacer of a connection with `connection_bucket`, which several pacers may share.
    pub(super) fn new(limits: &Limits, connection_bucket: Arc<AtomicGcra>) -> Self {
        Self {
            limits: limits.clone(),
            pace: ResponsePace::default(),
            client: ClientKey::Local,
            client_state: None,
            connection_bucket,
            rates: [None, None],
            total: None,
            timer: Deadline::after(Instant::now(), Duration::ZERO),
            was_held_back: false,
            is_waiting: false,
        }
    }

    /// True if a response to `client` with `pace` may follow the present one without a break.
    pub(super) fn has_pace(&self, pace: &ResponsePace, client: ClientKey) -> bool {
        self.pace == *pace && (self.client == client || !self.is_limited())
    }

    /// True if a rate limit applies.
    pub(super) fn is_limited(&self) -> bool {
        self.pace != ResponsePace::default()
    }

    /// Begins a response to `client` on a connection that the kernel paces if `by_kernel`, and must not pace as a whole
    /// otherwise.
    pub(super) fn begin(&mut self, pace: ResponsePace, client: ClientKey, by_kernel: bool) {
        self.finish();
        let state = pace.client.map(|pace| (self.limits.clients.get(client), pace));
        let of_client = state.as_ref().map(|(state, ClientPace { rate, burst, rule })| {
            RateReservation::new(state.bandwidth.bucket(*rule), *rate, CLIENT_CHUNKS, *burst)
        });
        let of_connection = pace.connection.filter(|_| !by_kernel).map(|rate| {
            let bucket = Arc::clone(&self.connection_bucket);
            RateReservation::new(bucket, rate, CONNECTION_CHUNKS, rate / CONNECTION_CHUNKS)
        });
        self.rates = [of_client, of_connection];
        self.total = pace.has_total.then(TotalReservation::default);
        self.client_state = state.map(|(state, _)| state);
        (self.pace, self.client) = (pace, client);
    }

    /// Returns how many of `pending` bytes may be sent now. Waits if there are none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, pending: u64) -> Poll<usize> {
        let room = self.poll_room(cx, pending);
        self.is_waiting = room.is_pending();
        if self.is_waiting && !self.was_held_back {
            self.was_held_back = true;
            self.limits.bandwidth.delayed.add_shared(1);
        }
        room.map(|room| usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Counts `bytes` that were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        for reservation in self.rates.iter_mut().flatten() {
            reservation.left = reservation.left.saturating_sub(bytes);
        }
        if let Some(total) = &mut self.total {
            total.left = total.left.saturating_sub(bytes);
        }
    }

    /// Ends the response and gives back what is left over.
    pub(super) fn finish(&mut self) {
        self.rates.iter_mut().flatten().for_each(RateReservation::give_back);
        if let Some(total) = &mut self.total {
            total.give_back(&self.limits.bandwidth);
        }
        (self.was_held_back, self.is_waiting) = (false, false);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, pending: u64) -> Poll<u64> {
        let (mut room, mut due) = (u64::MAX, 0);
        for reservation in self.rates.iter_mut().flatten() {
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
            Some(total) => total.poll(cx, &self.limits, self.client, pending).map(|left| room.min(left)),
            None => Poll::Ready(room),
        }
    }

    /// Waits until the moment `due` of the limits' clock.
    fn poll_until(&mut self, cx: &mut Context<'_>, due: u64) -> Poll<()> {
        let bandwidth = &self.limits.bandwidth;
        if bandwidth.clock.now() >= due {
            return Poll::Ready(());
        }
        self.timer.set(bandwidth.clock.instant(due), Duration::ZERO);
        self.timer.poll(cx)
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.finish();
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
}

impl RateReservation {
    /// Allows `burst` bytes at once: a chunk and the credit. `chunks` is the number of chunks in a second.
    fn new(bucket: Arc<AtomicGcra>, rate: u64, chunks: u64, burst: u64) -> Self {
        let chunk = chunk(rate, chunks, CHUNK_MAX);
        let credit = nanoseconds(burst.saturating_sub(chunk), rate).max(LATE);
        Self { bucket, rate, chunk, credit, left: 0, due: 0 }
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

/// Bytes granted of the rate of all clients together.
#[derive(Default)]
struct TotalReservation {
    left: u64,
    /// The entry in the queue, while there is one.
    ticket: Option<Arc<Ticket>>,
    /// Bytes of the last grant, if clients compete for the rate.
    last_grant: u64,
}

impl TotalReservation {
    /// Returns how many of `pending` bytes may be sent. Waits if there are none.
    fn poll(&mut self, cx: &Context<'_>, limits: &Limits, client: ClientKey, pending: u64) -> Poll<u64> {
        let bandwidth = &limits.bandwidth;
        if let Some(bytes) = self.ticket.as_ref().and_then(|ticket| ticket.granted(cx.waker())) {
            self.ticket = None;
            self.left += bytes;
            self.last_grant = bytes;
        }
        // If clients compete, the next grant is requested while this one is used, so that no turn is missed. Not more
        // than one: the share of a client that takes nothing would pile up here.
        let is_short = self.left == 0 || (self.left <= self.last_grant && self.left < pending);
        if is_short && self.ticket.is_none() {
            let wanted = pending.saturating_sub(self.left).max(1);
            match bandwidth.total.request(bandwidth.clock.now(), client, wanted, cx.waker()) {
                RateGrant::Granted(bytes) => self.left += bytes,
                RateGrant::Waiting(ticket) => self.ticket = Some(ticket),
            }
        }
        if self.left > 0 { Poll::Ready(self.left) } else { Poll::Pending }
    }

    fn give_back(&mut self, bandwidth: &Bandwidth) {
        if let Some(ticket) = self.ticket.take() {
            bandwidth.total.cancel(&ticket);
        }
        let left = std::mem::take(&mut self.left);
        if left > 0 {
            bandwidth.total.give_back(left);
        }
    }
}

/// Chunks per second of the rate of a client.
const CLIENT_CHUNKS: u64 = 100;

/// Chunks per second of the rate of a connection: fewer, since nothing shares it.
const CONNECTION_CHUNKS: u64 = 20;

/// Most bytes reserved at once, as many as a bulk turn has.
const CHUNK_MAX: u64 = 256 * 1024;
