//! One stream: a request and its response (RFC 9113 §8.1).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_http::{HttpMessage as _, Request, Response};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use futures_util::FutureExt;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::request::{RequestError, build};
use super::response::{OutgoingResponse, outgoing, refusal};
use super::source::BodySource;
use crate::http::client_key::ClientKey;
use crate::http::method::Method;
use crate::http::transport_info::TransportInfo;
use crate::limits::bandwidth::ResponsePace;
use crate::limits::client_limits::RequestPermit;
use crate::net::abort::{no_piece, refusal_of, tell};
use crate::net::app_response::response_of;
use crate::net::bulk_scheduler::BulkTurn;
use crate::net::deadline::Deadline;
use crate::net::http2::chunk::{BUFFER, BodyChunk, ConnectionMeter, CopySlot, ResponseMeter};
use crate::net::http2::io::FrameIo;
use crate::net::pacing::Pacer;
use crate::net::prerendered::PacedResponse;
use crate::net::request_log;
use crate::net::send::SendError;
use crate::net::worker::Worker;
use crate::sys::gcra::AtomicGcra;
use crate::telemetry::access_log::record::{AccessLogRecord, WaitKind};
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};
use crate::telemetry::metrics::transfers::{ListedTransfer, TransferStart};

/// What the streams of one connection share.
pub(super) struct ConnectionContext<S> {
    pub(super) worker: Rc<Worker<S>>,
    pub(super) link: Rc<RefCell<FrameIo>>,
    pub(super) totals: Rc<ConnectionMeter>,
    /// The connection's bucket, for all of its responses.
    pub(super) own: Arc<AtomicGcra>,
    pub(super) client: ClientKey,
    pub(super) peer: Option<SocketAddr>,
    pub(super) carriage: TransportInfo,
    /// Streams whose client gives them no window.
    pub(super) windowless: Cell<usize>,
    /// Responses under way that keep to a pace.
    pub(super) paced: Cell<usize>,
    /// What becomes of exchanges that are dropped unfinished.
    pub(super) end: Cell<ExchangeOutcome>,
}

impl<S> ConnectionContext<S> {
    fn who(&self) -> String {
        self.link.borrow().socket.who()
    }

    /// What the client has taken.
    fn taken(&self) -> u64 {
        self.link.borrow().taken()
    }
}

/// An exchange of the connection, counted when dropped.
pub(super) struct OpenStream<S> {
    shared: Rc<ConnectionContext<S>>,
    exchange: Exchange,
    meter: Rc<ResponseMeter>,
    /// Where its response begins among all that the connection sends, at the earliest.
    start: Option<u64>,
    outcome: Option<ExchangeOutcome>,
    /// Its place among the transfers, once it had to wait.
    shown: Option<ListedTransfer>,
}

impl<S> OpenStream<S> {
    /// Whether frames have taken all of its response.
    pub(super) fn is_taken(&self) -> bool {
        self.meter.is_empty()
    }

    /// Since when it is under way.
    pub(super) fn began(&self) -> Instant {
        self.exchange.began
    }

    /// Whether it has ended, now that frames have taken all there was to take and `sent` of what they wrote has left; if not, it
    /// ends once `pushed` has.
    pub(super) fn settle(&mut self, sent: u64, end: u64) -> bool {
        if self.outcome.is_none() && self.meter.is_lost() {
            self.outcome = Some(ExchangeOutcome::ClientGone);
        }
        if self.outcome.is_none() && self.meter.is_empty() && sent >= end {
            self.note_first_byte();
            self.outcome = Some(ExchangeOutcome::Complete);
        }
        self.outcome.is_some()
    }

    /// What is noted of it for the log, if anything.
    fn noted(&mut self) -> Option<&mut AccessLogRecord> {
        self.exchange.record.get_mut().as_deref_mut()
    }

    fn note_wait(&mut self, waits: WaitReason) {
        if let Some(note) = self.noted() {
            note.set_wait(Instant::now(), waits.noted());
        }
    }

    fn note_cold(&mut self, source: &mut BodySource) {
        let cold = source.take_cold_bytes();
        if let Some(note) = self.noted() {
            note.cold_bytes += cold;
        }
    }

    /// It is shown among the transfers from its first wait on.
    fn show(&mut self, client: ClientKey, source: &BodySource) {
        let sent = self.meter.taken();
        match &mut self.shown {
            Some(shown) => shown.set_sent(sent),
            None => {
                let Exchange { began: at, protocol, .. } = self.exchange;
                let total = source.left().checked_add(sent).filter(|total| *total < u64::MAX);
                let begun = TransferStart { client, path: source.file().cloned(), total, at, protocol };
                self.shown = Some(self.shared.totals.metrics().transfers.add(begun, sent));
            }
        }
    }

    fn note_first_byte(&mut self) {
        let (sent, now) = {
            let link = self.shared.link.borrow();
            (link.sent(), link.now)
        };
        if self.exchange.first_byte.is_none() && self.start.is_some_and(|start| sent > start) {
            self.exchange.first_byte = Some(now);
        }
    }
}

impl<S> Drop for OpenStream<S> {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(self.shared.end.get());
        self.exchange.sent = self.meter.taken();
        self.shared.totals.metrics().end(&self.exchange, outcome, Instant::now());
    }
}

/// Serves one request. What it gives back is held until the response has left.
pub(super) async fn serve<S, B>(
    shared: Rc<ConnectionContext<S>>,
    request: http1::Request<RecvStream>,
    respond: SendResponse<BodyChunk>,
) -> OpenStream<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    let now = shared.link.borrow().now;
    let (parts, body) = request.into_parts();
    let method = Method::classify(parts.method.as_str().as_bytes());
    let open = OpenStream {
        exchange: Exchange::new(now, Some(method), Protocol::Http2),
        meter: ResponseMeter::new(&shared.totals),
        start: None,
        outcome: None,
        shown: None,
        shared: Rc::clone(&shared),
    };
    let client = shared.client;
    let is_head = method == Method::Head;
    let deadline = Deadline::after(now, Duration::ZERO);
    let (waits, windowless, place) = (WaitReason::No, None, CopySlot::new(&shared.totals));
    let mut stream = Stream { shared, respond, open, client, is_head, deadline, waits, windowless, place };
    if let Err(outcome) = stream.exchange(parts, body).await {
        stream.open.outcome = Some(outcome);
    }
    stream.open
}

struct Stream<S> {
    shared: Rc<ConnectionContext<S>>,
    respond: SendResponse<BodyChunk>,
    open: OpenStream<S>,
    client: ClientKey,
    is_head: bool,
    deadline: Deadline,
    waits: WaitReason,
    windowless: Option<WithoutWindow<S>>,
    place: CopySlot,
}

/// What a response waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitReason {
    No,
    /// A disk.
    Disk,
    /// Its client, who gives it no window.
    Window {
        /// What the client had taken of the connection when the wait began.
        taken: u64,
        /// How often the connection has got on meanwhile, and it has not.
        rounds: usize,
    },
    /// Its turn, its pace, or the connection, which has a deadline of its own.
    Others,
}

impl WaitReason {
    /// For a window, from now on.
    const WINDOW: Self = Self::Window { taken: 0, rounds: 0 };

    /// As the log tells it.
    fn noted(self) -> Option<WaitKind> {
        match self {
            Self::No => None,
            Self::Disk => Some(WaitKind::Disk),
            Self::Window { .. } => Some(WaitKind::Client),
            Self::Others => Some(WaitKind::Throttle),
        }
    }
}

impl<S, B> Stream<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    async fn exchange(
        &mut self,
        parts: http1::request::Parts,
        body: RecvStream,
    ) -> Result<(), ExchangeOutcome> {
        let worker = Rc::clone(&self.shared.worker);
        let asked_for = worker.is_noting().then(|| (parts.method.clone(), parts.uri.clone()));
        let note_refused = |stream: &mut Self| {
            if let Some((method, uri)) = &asked_for {
                let line = format!("{method} {uri} HTTP/2");
                stream.note(stream.shared.worker.note_of_refused(line.as_bytes(), stream.shared.peer));
            }
        };
        let response = match build(parts, worker.head_limits(), &worker.last_host) {
            Ok(asked) => {
                self.note(worker.note(&asked.request, self.shared.peer));
                let is_read = asked.length.is_none_or(|length| length <= worker.bounds().body_bytes);
                let is_safe = asked.request.method().is_safe();
                if asked.expects_continue && !body.is_end_stream() && is_read && is_safe {
                    self.go_on()?;
                }
                self.call(asked.request).await?
            }
            Err(RequestError::Refused(refused)) => {
                note_refused(self);
                refusal(refused)
            }
            Err(RequestError::Malformed) => {
                note_refused(self);
                log::debug!("{}: a stream was reset: its request is malformed", self.shared.who());
                return Err(self.reset(Reason::PROTOCOL_ERROR));
            }
        };
        self.respond_with(response).await?;
        self.drop_body(body).await;
        Ok(())
    }

    fn note(&mut self, note: Option<Box<AccessLogRecord>>) {
        let mut note = note;
        if let Some(note) = &mut note {
            note.tls = self.shared.link.borrow().socket.tls_facts();
        }
        self.open.exchange.record.set(note);
    }

    /// The client may send its body, which is read past.
    fn go_on(&mut self) -> Result<(), ExchangeOutcome> {
        let mut head = http1::Response::new(());
        *head.status_mut() = http1::StatusCode::CONTINUE;
        self.respond.send_informational(head).map_err(|_| ExchangeOutcome::ClientGone)
    }

    /// The App's response; a panic costs the stream alone.
    async fn call(&mut self, mut request: Request) -> Result<Response<BoxBody>, ExchangeOutcome> {
        request.head_mut().peer_addr = self.shared.peer;
        request.extensions_mut().insert(self.shared.carriage);
        let worker = Rc::clone(&self.shared.worker);
        let mut answer = pin!(AssertUnwindSafe(worker.app.call(request)).catch_unwind());
        let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => self.respond.poll_reset(cx).map(|_| Err(ExchangeOutcome::ClientGone)),
        });
        answer.await.map(response_of)
    }

    async fn respond_with(&mut self, mut response: Response<BoxBody>) -> Result<(), ExchangeOutcome> {
        let worker = Rc::clone(&self.shared.worker);
        let pass =
            if worker.guard.is_active() { response.extensions_mut().remove::<RequestPermit>() } else { None };
        self.client = pass.as_ref().map_or(self.shared.client, |pass| pass.key);
        let pacer = self.pacer(&response, pass.as_ref());
        let now = self.shared.link.borrow().now;
        let began = self.open.began();
        if let Some(note) = self.open.noted() {
            request_log::answered(note, &response, began, Instant::now());
        }
        let OutgoingResponse { head, content } = outgoing(response, self.is_head, &worker, now);
        let mut source = BodySource::of(content);
        // Held to the end of a long response. A short one is as good as gone.
        let _pass = pass.filter(|_| !source.is_at_hand());
        if !source.is_at_hand()
            && let Err(cut) = self.wait_for_first(&mut source).await?
        {
            // Nothing has left: what the disk did not give is told.
            self.tell(&cut, &source);
            if let Some(note) = self.open.noted() {
                note.clear_response();
            }
            let refused = refusal_of(&cut).ok_or_else(|| self.reset(Reason::INTERNAL_ERROR))?;
            let OutgoingResponse { head, content } = outgoing(refusal(refused), self.is_head, &worker, now);
            return self.send(head, &mut BodySource::of(content), None).await;
        }
        self.send(head, &mut source, pacer).await
    }

    fn pacer(&self, response: &Response<BoxBody>, pass: Option<&RequestPermit>) -> Option<PacedBy<S>> {
        let ConnectionContext { worker, own, peer, .. } = &*self.shared;
        let guard = &worker.guard;
        if !guard.bandwidth().is_limited() {
            return None;
        }
        let is_exempt = pass.map_or_else(|| guard.is_unlimited(*peer), |pass| pass.is_exempt);
        let PacedResponse(rates) = PacedResponse::of(response).filter(|_| !is_exempt)?;
        let pace = guard.bandwidth().pace(rates.as_deref());
        if pace == ResponsePace::default() {
            return None;
        }
        let mut pacer = Pacer::sharing(guard, Arc::clone(own));
        pacer.begin_beside(pace, self.client, false);
        Some(PacedBy::new(pacer, &self.shared))
    }

    /// Waits until the first bytes are there: till then the head can still become another one.
    async fn wait_for_first(
        &mut self,
        source: &mut BodySource,
    ) -> Result<Result<(), SendError>, ExchangeOutcome> {
        let worker = Rc::clone(&self.shared.worker);
        let mut has_waited = false;
        poll_fn(|cx| {
            match source.poll_ready(cx, &worker, self.client) {
                Poll::Ready(Ok(_)) if has_waited => return Poll::Ready(Ok(source.check(&worker))),
                Poll::Ready(ready) => return Poll::Ready(Ok(ready.map(|_| ()))),
                Poll::Pending => has_waited = true,
            }
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(ExchangeOutcome::ClientGone));
            }
            self.poll_overdue(cx, WaitReason::Disk, source).map(|cut| Ok(Err(cut)))
        })
        .await
    }

    async fn send(
        &mut self,
        mut head: http1::Response<()>,
        source: &mut BodySource,
        mut pacer: Option<PacedBy<S>>,
    ) -> Result<(), ExchangeOutcome> {
        if let Some(id) = self.open.noted().and_then(|note| request_log::id_to_tell(note))
            && let Ok(id) = http1::HeaderValue::from_bytes(id)
        {
            head.headers_mut().insert("x-request-id", id);
        }
        self.open.exchange.status = head.status().as_u16();
        self.open.start = Some(self.shared.link.borrow().pushed());
        let is_end = source.is_empty();
        let mut sending =
            self.respond.send_response(head, is_end).map_err(|_| ExchangeOutcome::ClientGone)?;
        if is_end {
            return Ok(());
        }
        let is_short = source.is_at_hand();
        let mut turn = self.shared.worker.turns.begin();
        let sent = poll_fn(|cx| self.poll_sending(cx, &mut sending, source, pacer.as_mut(), &mut turn)).await;
        self.windowless = None;
        self.open.note_cold(source);
        self.shared.worker.turns.end(&turn);
        match sent {
            Ok(()) if is_short => Ok(()),
            // What holds a place for a long response holds it until frames have taken all of it.
            Ok(()) => {
                self.waits = WaitReason::No;
                let taken = poll_fn(|cx| match self.open.meter.poll_empty(cx) {
                    Poll::Ready(()) => Poll::Ready(Ok(())),
                    Poll::Pending => self.poll_overdue(cx, WaitReason::WINDOW, source).map(Err),
                });
                taken.await.map_err(|cut: SendError| {
                    self.reset(Reason::CANCEL);
                    cut.outcome()
                })
            }
            Err(cut) => {
                self.tell(&cut, source);
                let outcome = cut.outcome();
                let reason =
                    if outcome == ExchangeOutcome::Stalled { Reason::CANCEL } else { Reason::INTERNAL_ERROR };
                self.reset(reason);
                Err(outcome)
            }
        }
    }

    /// Sends a piece after the other, each once there is room for it on all of its way.
    fn poll_sending(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut SendStream<BodyChunk>,
        source: &mut BodySource,
        mut pacer: Option<&mut PacedBy<S>>,
        turn: &mut BulkTurn,
    ) -> Poll<Result<(), SendError>> {
        let worker = Rc::clone(&self.shared.worker);
        self.open.note_first_byte();
        loop {
            let waits = match self.poll_piece(cx, &worker, sending, source, pacer.as_deref_mut(), turn) {
                Ok(SendStep::Sent) => {
                    if self.waits != WaitReason::No {
                        self.open.note_wait(WaitReason::No);
                    }
                    (self.waits, self.windowless) = (WaitReason::No, None);
                    continue;
                }
                Ok(SendStep::Done) => return Poll::Ready(Ok(())),
                Ok(SendStep::Waits(waits)) => waits,
                Err(cut) => return Poll::Ready(Err(cut)),
            };
            if !matches!(waits, WaitReason::Window { .. }) {
                self.windowless = None;
                // A window that is not used is left to others.
                sending.reserve_capacity(0);
            } else if self.windowless.is_none() {
                self.windowless = Some(WithoutWindow::new(&self.shared));
            }
            if sending.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(gone()));
            }
            self.open.show(self.client, source);
            return self.poll_overdue(cx, waits, source).map(Err);
        }
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        sending: &mut SendStream<BodyChunk>,
        source: &mut BodySource,
        mut pacer: Option<&mut PacedBy<S>>,
        turn: &mut BulkTurn,
    ) -> Result<SendStep, SendError> {
        if source.is_empty() {
            return Ok(SendStep::Done);
        }
        if self.open.meter.poll_low(cx).is_pending() {
            return Ok(SendStep::Waits(WaitReason::WINDOW));
        }
        let Poll::Ready(there) = source.poll_ready(cx, worker, self.client)? else {
            return Ok(SendStep::Waits(WaitReason::Disk));
        };
        if there == 0 {
            return send_data(sending, BodyChunk::empty(&self.open.meter), true).map(|()| SendStep::Done);
        }
        let mut most = there.min(BUFFER);
        if let Some(by) = pacer.as_deref_mut() {
            match by.pacer.poll(cx, source.left()) {
                Poll::Ready(room) => most = most.min(room),
                Poll::Pending => return Ok(SendStep::Waits(WaitReason::Others)),
            }
        }
        match worker.turns.poll(cx, turn, self.client) {
            Poll::Ready(room) => most = most.min(room),
            Poll::Pending => return Ok(SendStep::Waits(WaitReason::Others)),
        }
        if source.is_window() && self.place.poll(cx).is_pending() {
            return Ok(SendStep::Waits(WaitReason::Others));
        }
        sending.reserve_capacity(most);
        let mut room = sending.capacity();
        while room == 0 {
            match sending.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => room = sending.capacity(),
                Poll::Ready(Some(Err(_)) | None) => return Err(gone()),
                Poll::Pending => {
                    self.place.leave();
                    return Ok(SendStep::Waits(WaitReason::WINDOW));
                }
            }
        }
        let bytes = source.take(most.min(room), worker)?;
        let length = bytes.len();
        send_data(sending, BodyChunk::new(bytes, &self.open.meter), source.is_empty())?;
        self.place.leave();
        turn.spend(length);
        if let Some(by) = pacer {
            by.pacer.spend(length);
        }
        Ok(SendStep::Sent)
    }

    /// Why a response that waits is given up; waits until then.
    fn poll_overdue(
        &mut self,
        cx: &mut Context<'_>,
        waits: WaitReason,
        source: &BodySource,
    ) -> Poll<SendError> {
        let bounds = self.shared.worker.bounds();
        let is_new = std::mem::discriminant(&self.waits) != std::mem::discriminant(&waits);
        if is_new {
            self.waits = waits;
            self.open.note_wait(waits);
            match waits {
                WaitReason::Disk => {
                    let since = source.waits_for_disk_since().unwrap_or_else(Instant::now);
                    self.deadline.set(since, bounds.disk_timeout);
                }
                WaitReason::Window { .. } => {
                    self.waits = WaitReason::Window { taken: self.shared.taken(), rounds: 0 };
                    self.deadline.set(Instant::now(), bounds.stall_timeout);
                }
                WaitReason::No | WaitReason::Others => {}
            }
        }
        loop {
            match self.waits {
                WaitReason::No | WaitReason::Others => return Poll::Pending,
                WaitReason::Disk => {
                    ready!(self.deadline.poll(cx));
                    self.shared.worker.files.count_disk_timeout();
                    return Poll::Ready(match source.waits_for_disk_since() {
                        Some(_) => SendError::Disk(std::io::ErrorKind::TimedOut.into()),
                        None => no_piece(),
                    });
                }
                WaitReason::Window { taken, rounds } => {
                    ready!(self.deadline.poll(cx));
                    // What is there for the connection is shared: whoever waits for it among others waits longer.
                    let now_taken = self.shared.taken();
                    if now_taken == taken || rounds >= self.shared.windowless.get() {
                        return Poll::Ready(SendError::Stalled);
                    }
                    self.waits = WaitReason::Window { taken: now_taken, rounds: rounds + 1 };
                    self.deadline.set(Instant::now(), bounds.stall_timeout);
                }
            }
        }
    }

    /// Reads past a body that nobody wants; where it is too long or too slow, dropping it tells the client to stop.
    async fn drop_body(&mut self, mut body: RecvStream) {
        let bounds = self.shared.worker.bounds();
        let mut room = bounds.body_bytes;
        self.deadline.set(Instant::now(), bounds.head_timeout);
        while !body.is_end_stream() {
            let next = poll_fn(|cx| match body.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(bytes.len())),
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => self.deadline.poll(cx).map(|()| None),
            });
            let Some(length) = next.await else { return };
            let Some(left) = room.checked_sub(length as u64) else { return };
            room = left;
            if body.flow_control().release_capacity(length).is_err() {
                return;
            }
        }
    }

    /// Resets the stream for what its client did, or what became of its response.
    fn reset(&mut self, reason: Reason) -> ExchangeOutcome {
        self.respond.send_reset(reason);
        if reason == Reason::PROTOCOL_ERROR {
            self.shared.link.borrow_mut().count_reset();
        }
        ExchangeOutcome::ClientGone
    }

    fn tell(&mut self, cut: &SendError, source: &BodySource) {
        let request = self.open.noted().map_or_else(String::new, |note| request_log::told_id(note));
        tell(cut, source.file(), self.shared.worker.files.faults(), &request, || self.shared.who());
    }
}

/// How far one step of sending came.
enum SendStep {
    Sent,
    Done,
    Waits(WaitReason),
}

/// That a stream waits for a window.
struct WithoutWindow<S>(Rc<ConnectionContext<S>>);

impl<S> WithoutWindow<S> {
    fn new(shared: &Rc<ConnectionContext<S>>) -> Self {
        shared.windowless.set(shared.windowless.get() + 1);
        Self(Rc::clone(shared))
    }
}

impl<S> Drop for WithoutWindow<S> {
    fn drop(&mut self) {
        self.0.windowless.set(self.0.windowless.get().saturating_sub(1));
    }
}

/// A pacer of a response under way.
struct PacedBy<S> {
    pacer: Pacer,
    shared: Rc<ConnectionContext<S>>,
}

impl<S> PacedBy<S> {
    fn new(pacer: Pacer, shared: &Rc<ConnectionContext<S>>) -> Self {
        shared.paced.set(shared.paced.get() + 1);
        Self { pacer, shared: Rc::clone(shared) }
    }
}

impl<S> Drop for PacedBy<S> {
    fn drop(&mut self) {
        self.shared.paced.set(self.shared.paced.get().saturating_sub(1));
    }
}

fn send_data(sending: &mut SendStream<BodyChunk>, piece: BodyChunk, is_end: bool) -> Result<(), SendError> {
    sending.send_data(piece, is_end).map_err(|_| gone())
}

/// The client has reset the stream, or the connection has ended.
fn gone() -> SendError {
    SendError::Socket(std::io::ErrorKind::ConnectionReset.into())
}
