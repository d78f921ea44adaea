//! One HTTP/2 connection, from its preface to its close (RFC 9113). The frames are `h2`'s; what is done about them is here.
//!
//! | room       | what it knows                                                        |
//! |------------|----------------------------------------------------------------------|
//! | `link`     | the socket as frames see it: few reads, one write a turn             |
//! | `watch`    | frames as they arrive: floods, and what has begun and is not whole   |
//! | `request`  | a request becomes one for the App, or is refused                     |
//! | `response` | a response becomes the head and content that are sent                |
//! | `source`   | the content, a piece at a time                                       |
//! | `piece`    | such a piece on its way through the frames, counted                  |
//! | `stream`   | one request and its response                                         |
//! | `turn_waker` | who wakes the connection, and when nobody need                    |

mod chunk;
mod connection_waker;
mod flood_guard;
mod io;
mod request;
mod response;
mod source;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection as Frames, Handshake, SendResponse};
use h2::{Reason, RecvStream};

pub(crate) use self::response::HeaderMapCache;
use self::stream::{ConnectionContext, OpenStream};
use super::deadline::Deadline;
use super::socket::Socket;
use super::stall::{ReceiveRate, StallTimer};
use super::worker::{ConnectionSettings, Http2Bounds, LAST_CHANCE, WorkerRegistration};
use crate::http::client_key::ClientKey;
use crate::http::transport_info::TransportInfo;
pub(crate) use crate::net::http2::chunk::Buffers;
use crate::net::http2::chunk::{BodyChunk, ConnectionMeter};
use crate::net::http2::connection_waker::ConnectionWaker;
pub(super) use crate::net::http2::flood_guard::PREFACE;
use crate::net::http2::flood_guard::{ConnectionError, FloodGuard};
use crate::net::http2::io::{FrameIo, Io};
use crate::telemetry::metrics::exchange::ExchangeOutcome;
use crate::telemetry::metrics::http2::{ConnectionState, CountedConnection, ProtocolViolation};
use crate::telemetry::metrics::worker::{RejectedHead, SendPath};

/// Serves one connection until it ends, from `arrived` on, which was read from it already. Never fails: whatever happens ends the
/// connection and is logged.
pub(super) async fn serve<S, B>(
    place: WorkerRegistration<S>,
    socket: Socket,
    client: ClientKey,
    arrived: Vec<u8>,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let worker = Rc::clone(place.worker());
    let bounds = worker.bounds();
    let Some(own) = bounds.http2 else { return };
    let now = Instant::now();
    let peer = socket.peer;
    let carriage = TransportInfo { is_secure: socket.is_encrypted(), is_copied: true };
    // What waits in the socket is ahead of every stream, so little of it may.
    socket.keep_unsent_below(UNSENT);
    let link = FrameIo::new(socket, arrived, FloodGuard::new(own.resets, now), now);
    let link = Rc::new(RefCell::new(link));
    let shared = Rc::new(ConnectionContext {
        worker: Rc::clone(&worker),
        link: Rc::clone(&link),
        totals: ConnectionMeter::new(Arc::clone(&worker.metrics)),
        own: Arc::default(),
        client,
        peer,
        carriage,
        windowless: Cell::new(0),
        paced: Cell::new(0),
        end: Cell::new(ExchangeOutcome::Drained),
    });
    let counted = worker.metrics.http2_connection();
    let mut connection = Http2Connection {
        stage: Stage::Preface(builder(bounds, own).handshake(Io::new(Rc::clone(&link), worker))),
        shared,
        place,
        counted,
        streams: FuturesUnordered::new(),
        settling: VecDeque::new(),
        framing: 0,
        deadline: Deadline::after(now, bounds.head_timeout),
        looked: now,
        idle_since: now,
        is_idle: true,
        leaving: None,
        said_goodbye: false,
        stall: None,
        uptake: ReceiveRate::default(),
    };
    let turns = ConnectionWaker::new();
    let waker = turns.waker();
    let end = poll_fn(|cx| {
        turns.begin(cx);
        let end = connection.poll(&mut Context::from_waker(&waker), &turns);
        turns.end();
        end
    })
    .await;
    let Http2Connection { shared, place, streams, settling, stage, .. } = connection;
    shared.end.set(match end {
        Http2End::Linger | Http2End::Gone => ExchangeOutcome::ClientGone,
        Http2End::Cut(outcome) => outcome,
    });
    drop((streams, settling, stage));
    if matches!(end, Http2End::Linger) {
        linger(&shared, &place).await;
    }
}

/// What `h2` is told. Its own bounds on resets are those of the connection's lifetime; ours are by time.
fn builder(bounds: ConnectionSettings, own: Http2Bounds) -> Builder {
    let resets = usize::try_from(own.resets).unwrap_or(usize::MAX);
    let list = bounds.head_bytes.saturating_add(bounds.head_fields.saturating_mul(FIELD_OVERHEAD));
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(own.streams)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(Some(resets))
        .max_pending_accept_reset_streams(resets.min(PENDING_RESETS))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

struct Http2Connection<S> {
    stage: Stage<S>,
    shared: Rc<ConnectionContext<S>>,
    place: WorkerRegistration<S>,
    counted: CountedConnection,
    streams: FuturesUnordered<LocalBoxFuture<'static, OpenStream<S>>>,
    /// Exchanges whose response is on its way, and where that ends, once it is known.
    settling: VecDeque<(OpenStream<S>, Option<u64>)>,
    /// Bytes written that are no content, as far as they are counted.
    framing: u64,
    deadline: Deadline,
    /// When the connection was last looked at: whether its client takes what it is sent.
    looked: Instant,
    idle_since: Instant,
    is_idle: bool,
    /// Since when the client knows that the connection will end.
    leaving: Option<Instant>,
    /// Nothing is read any more, and the last frame is on its way.
    said_goodbye: bool,
    stall: Option<StallTimer>,
    /// How fast the responses since the connection was last idle are taken.
    uptake: ReceiveRate,
}

enum Stage<S> {
    Preface(Handshake<Io<S>, BodyChunk>),
    Open(Frames<Io<S>, BodyChunk>),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Http2End {
    /// The client has heard or will hear why.
    Linger,
    /// Nobody is left, or nobody that is owed anything.
    Gone,
    /// The server has had enough.
    Cut(ExchangeOutcome),
}

impl<S, B> Http2Connection<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    /// One turn: what has arrived is read, responses go on, all that there is to send is sent at once.
    fn poll(&mut self, cx: &mut Context<'_>, turns: &ConnectionWaker) -> Poll<Http2End> {
        self.shared.link.borrow_mut().begin_turn();
        self.leave_if_told();
        let before = self.shared.link.borrow().sent();
        let mut is_done = false;
        let mut is_full = false;
        for _ in 0..ROUNDS {
            if let Some(end) = self.poll_frames(cx, turns) {
                return Poll::Ready(end);
            }
            while let Poll::Ready(Some(open)) = self.streams.poll_next_unpin(cx) {
                self.settling.push_back((open, None));
            }
            if turns.was_woken() {
                continue;
            }
            let mut link = self.shared.link.borrow_mut();
            let Ok(sent) = ready_or_full(link.poll_send(cx)) else { return Poll::Ready(Http2End::Gone) };
            is_full = !sent;
            if link.take_blocked() && sent {
                continue;
            }
            is_done = true;
            break;
        }
        if !is_done || self.shared.link.borrow().has_read_enough() {
            // Others have their turn.
            cx.waker().wake_by_ref();
        }
        self.settle();
        self.count();
        let sent = self.shared.link.borrow().sent() - before;
        self.note_sent(usize::try_from(sent).unwrap_or(usize::MAX), is_full);
        self.poll_deadline(cx)
    }

    /// Reads frames, begins streams and writes frames, until nothing of that can be done at once.
    fn poll_frames(&mut self, cx: &mut Context<'_>, turns: &ConnectionWaker) -> Option<Http2End> {
        loop {
            turns.look();
            let frames = match &mut self.stage {
                Stage::Open(frames) => frames,
                Stage::Preface(preface) => match Pin::new(preface).poll(cx) {
                    Poll::Ready(Ok(frames)) => {
                        self.stage = Stage::Open(frames);
                        self.leave_if_told();
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Some(self.ended(Some(&error))),
                    Poll::Pending => return None,
                },
            };
            match frames.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(cx, request, respond),
                Poll::Ready(Some(Err(error))) => return Some(self.ended(Some(&error))),
                Poll::Ready(None) => return Some(self.ended(None)),
                Poll::Pending => {
                    let ConnectionError { breach, reason } = self.shared.link.borrow_mut().take_breach()?;
                    self.note_breach(breach, reason.description());
                    self.say_goodbye(reason);
                }
            }
        }
    }

    /// A request has come. Most are answered at once.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        request: http1::Request<RecvStream>,
        respond: SendResponse<BodyChunk>,
    ) {
        if self.is_idle {
            self.is_idle = false;
            self.place.set_answering();
            self.looked = self.shared.link.borrow().now;
        }
        let mut stream: LocalBoxFuture<'static, OpenStream<S>> =
            Box::pin(stream::serve(Rc::clone(&self.shared), request, respond));
        match stream.as_mut().poll(cx) {
            Poll::Ready(open) => self.settling.push_back((open, None)),
            Poll::Pending => self.streams.push(stream),
        }
    }

    fn count(&mut self) {
        let link = self.shared.link.borrow();
        self.counted.update(ConnectionState {
            streams: (self.streams.len() + self.settling.len()) as u64,
            resets: link.watch.resets(),
            recent_resets: link.watch.recent_resets(link.now),
        });
    }

    /// Exchanges whose responses have left have ended.
    fn settle(&mut self) {
        let (pushed, sent) = {
            let link = self.shared.link.borrow();
            (link.pushed(), link.sent())
        };
        self.settling.retain_mut(|(open, end)| {
            if end.is_none() && open.is_taken() {
                *end = Some(pushed);
            }
            !open.settle(sent, end.unwrap_or(u64::MAX))
        });
        let framing = pushed.saturating_sub(self.shared.totals.taken());
        let more = framing.saturating_sub(self.framing);
        self.framing = framing.max(self.framing);
        self.shared.totals.metrics().count_sent(SendPath::Heap, usize::try_from(more).unwrap_or(usize::MAX));
    }

    /// So many bytes have left in this turn, and the socket took all there was, or not.
    fn note_sent(&mut self, sent: usize, is_full: bool) {
        let now = self.shared.link.borrow().now;
        self.uptake.sent(sent);
        let for_client = is_full || self.shared.windowless.get() > 0;
        if for_client || self.uptake.is_waiting() {
            self.uptake.waits(Instant::now(), for_client);
        }
        if !is_full {
            self.stall = None;
            return;
        }
        let stall = self.stall.get_or_insert_with(|| StallTimer::new(now));
        if sent > 0 && self.shared.paced.get() > 0 {
            // A socket takes at that pace for long without anybody at the other end.
            stall.sent(sent);
        } else if sent > 0 {
            *stall = StallTimer::new(now);
        }
    }

    /// What is due: the end of a connection that stands still, in whatever state.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Http2End> {
        loop {
            let bounds = self.shared.worker.bounds();
            let is_busy = !self.streams.is_empty() || !self.settling.is_empty();
            let (since, now) = {
                let link = self.shared.link.borrow();
                (link.watch.waits_since(), link.now)
            };
            if !is_busy && !self.is_idle {
                (self.is_idle, self.idle_since) = (true, now);
                self.uptake = ReceiveRate::default();
            }
            if self.is_idle {
                self.idle(cx, since.is_some());
                match &self.stage {
                    Stage::Preface(_) if self.is_unwanted() => return Poll::Ready(Http2End::Gone),
                    Stage::Open(_) if self.is_unwanted() => {
                        self.say_goodbye(Reason::NO_ERROR);
                        cx.waker().wake_by_ref();
                    }
                    _ => {}
                }
            }
            let (from, span) = self.due(since, bounds);
            self.deadline.set(from, span);
            if self.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if let Some(end) = self.overdue(since, bounds) {
                return Poll::Ready(end);
            }
            if self.said_goodbye {
                // The frames that say so are written in the next turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// The moment at which something must have happened.
    fn due(&self, since: Option<Instant>, bounds: ConnectionSettings) -> (Instant, Duration) {
        match (self.leaving, since) {
            _ if self.is_awaited() => (self.idle_since, LAST_CHANCE),
            (Some(since), _) if self.said_goodbye || self.is_idle => (since, bounds.linger_timeout),
            (_, Some(since)) if self.is_idle => (since, bounds.head_timeout),
            (_, None) if self.is_idle => (self.idle_since, bounds.idle_timeout),
            (_, since) => {
                let look_every = self.shared.worker.look_every();
                match since {
                    Some(since) if since + bounds.head_timeout < self.looked + look_every => {
                        (since, bounds.head_timeout)
                    }
                    _ => (self.looked, look_every),
                }
            }
        }
    }

    /// That moment has come. None where the connection goes on, if only to say goodbye.
    fn overdue(&mut self, since: Option<Instant>, bounds: ConnectionSettings) -> Option<Http2End> {
        let now = Instant::now();
        let is_head_late = since.is_some_and(|since| now.duration_since(since) >= bounds.head_timeout);
        if self.said_goodbye || matches!(self.stage, Stage::Preface(_)) {
            return Some(Http2End::Gone);
        }
        if is_head_late {
            log::debug!("{}: the connection ends: {NOT_WHOLE}", self.who());
            self.shared.worker.metrics.count_rejected_head(RejectedHead::TooSlow);
            self.say_goodbye(Reason::ENHANCE_YOUR_CALM);
            return None;
        }
        if self.is_idle {
            self.say_goodbye(Reason::NO_ERROR);
            return None;
        }
        self.looked = now;
        let untaken = self.shared.link.borrow().socket.untaken();
        if let Some(stall) = &mut self.stall
            && stall.goes_on(now, untaken, bounds.stall_timeout)
        {
            log::debug!("{}: the connection ended: {NOTHING_TAKEN}", self.who());
            return Some(Http2End::Cut(ExchangeOutcome::Stalled));
        }
        if self.is_held_back(now, bounds) {
            log::debug!("{}: the connection ended: {NOTHING_TAKEN}", self.who());
            return Some(Http2End::Cut(ExchangeOutcome::Stalled));
        }
        self.is_too_slow(bounds, untaken).then_some(Http2End::Cut(ExchangeOutcome::TooSlow))
    }

    /// Whether frames hold back what there was a window for when they got it: the client has taken that window back.
    fn is_held_back(&self, now: Instant, bounds: ConnectionSettings) -> bool {
        let oldest = self.settling.front().map(|(open, _)| open.began());
        self.shared.link.borrow().is_empty()
            && oldest.is_some_and(|began| now.duration_since(began) >= bounds.stall_timeout)
    }

    /// Whether the client takes less than it must while connections run short.
    fn is_too_slow(&self, bounds: ConnectionSettings, untaken: Option<usize>) -> bool {
        let ConnectionSettings { min_rate, min_rate_after, .. } = bounds;
        let connections = self.shared.worker.guard.connections();
        let is_asked = min_rate > 0 && self.uptake.waited() >= min_rate_after && connections.is_short();
        let is_slow = is_asked && untaken.is_some_and(|untaken| self.uptake.is_below(min_rate, untaken));
        if is_slow {
            connections.count_too_slow();
            log::debug!("{}: the connection ended: {TOO_LITTLE}", self.who());
        }
        is_slow
    }

    /// No stream is open.
    fn idle(&mut self, cx: &mut Context<'_>, is_reading: bool) {
        if is_reading {
            self.place.set_reading();
        } else {
            self.shared.link.borrow_mut().release();
            self.place.waits(cx, self.idle_since);
        }
    }

    /// Whether the connection's place is wanted and nobody uses it.
    fn is_unwanted(&self) -> bool {
        let has_arrived = || self.shared.link.borrow_mut().socket.has_arrived();
        self.leaving.is_none() && self.place.is_evicted() && !has_arrived()
    }

    /// The worker closes, and the client has only just come: nothing can be said to it before its preface.
    fn is_awaited(&self) -> bool {
        self.shared.worker.is_closing() && matches!(self.stage, Stage::Preface(_))
    }

    /// The worker retires: the client hears that it should go elsewhere, and what it has asked for is finished.
    fn leave_if_told(&mut self) {
        if self.leaving.is_some() || !self.shared.worker.is_retiring() {
            return;
        }
        if let Stage::Open(frames) = &mut self.stage {
            frames.graceful_shutdown();
            self.leaving = Some(Instant::now());
        }
    }

    /// Nothing more is read: the client hears why, and which of its requests were heard.
    fn say_goodbye(&mut self, reason: Reason) {
        if let Stage::Open(frames) = &mut self.stage {
            frames.abrupt_shutdown(reason);
        }
        self.leaving = Some(Instant::now());
        self.said_goodbye = true;
    }

    fn ended(&self, error: Option<&h2::Error>) -> Http2End {
        match error {
            Some(error) => {
                match error.reason() {
                    Some(reason) if error.is_library() && error.is_go_away() => {
                        self.note_breach(ConnectionError::of(reason).breach, reason.description());
                    }
                    _ => log::debug!("{}: the connection ended: {error}", self.who()),
                }
                if error.is_io() { Http2End::Gone } else { Http2End::Linger }
            }
            None => Http2End::Linger,
        }
    }

    fn note_breach(&self, breach: ProtocolViolation, why: &str) {
        self.counted.count_violation(breach);
        self.shared.worker.guard.count_refused_frames(&self.who(), why);
    }

    fn who(&self) -> String {
        self.shared.link.borrow().socket.who()
    }
}

/// Whether all was sent.
fn ready_or_full(sent: Poll<std::io::Result<()>>) -> std::io::Result<bool> {
    match sent {
        Poll::Ready(sent) => sent.map(|()| true),
        Poll::Pending => Ok(false),
    }
}

/// Reads on until the client has heard the last frames, or its time is up: closing now could destroy them.
async fn linger<S>(shared: &ConnectionContext<S>, place: &WorkerRegistration<S>) {
    place.set_reading();
    let mut deadline = Deadline::after(Instant::now(), shared.worker.bounds().linger_timeout);
    let mut room = LINGER_BYTES;
    poll_fn(|cx| {
        let link = &mut *shared.link.borrow_mut();
        match link.poll_send(cx) {
            Poll::Ready(Ok(())) => link.socket.shutdown(),
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => {}
        }
        while room > 0 {
            match link.socket.poll_read(cx, &mut shared.worker.scratch.borrow_mut()) {
                Poll::Ready(Ok(length @ 1..)) => room = room.saturating_sub(length),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return deadline.poll(cx),
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// What the kernel keeps that it has not sent, beside what is on its way.
const UNSENT: u32 = 256 * 1024;

/// Rounds of one connection before others have their turn.
const ROUNDS: usize = 8;

/// What every field counts beyond its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// What of one response waits for frames to take it.
const SEND_BUFFER: usize = 128 * 1024;

/// Streams that were reset before they were looked at.
const PENDING_RESETS: usize = 128;

/// What is read and thrown away from a client that goes on sending.
const LINGER_BYTES: usize = 1024 * 1024;

const NOT_WHOLE: &str = "what the client has begun did not become whole in time";

const NOTHING_TAKEN: &str = "the client took nothing for too long";

const TOO_LITTLE: &str = "the client took less than it must while connections run short";
