//! One HTTP/1.1 connection, from its first byte to its close (RFC 9112).

use std::future::poll_fn;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_http::{HttpMessage, Request, Response, StatusCode};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use bytes::Bytes;
use futures_util::FutureExt;

use super::deadline::Deadline;
use super::exchanges::Exchanges;
use super::head::{HeadError, MALFORMED, ParsedHead, Scan, Scanner, VERSION, parse};
use super::http2::{self, PREFACE};
use super::opening::OpenedConnection;
use super::render::{AfterHead, Framing, StreamFraming, chunk_size_line, refuse, render};
use super::send::{SendError, SendQueue};
use super::socket::Socket;
use super::stall::{ReceiveRate, StallTimer};
use super::worker::{ConnectionSettings, Worker, WorkerRegistration};
use crate::http::client_key::ClientKey;
use crate::http::method::Method;
use crate::http::transport_info::TransportInfo;
use crate::limits::bandwidth::ResponsePace;
use crate::limits::client_limits::RequestPermit;
use crate::net::abort::{no_piece, refusal_of, tell, why_broken};
use crate::net::app_response::response_of;
use crate::net::body_discarder::{BodyDiscarder, BodyFraming, DiscardProgress};
use crate::net::prerendered::PacedResponse;
use crate::net::request_log;
use crate::telemetry::access_log::record::{AccessLogRecord, WaitKind};
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};
use crate::telemetry::metrics::worker::RejectedHead;

/// Serves one connection until it ends, from its first request on. Never fails: whatever happens ends the connection and is
/// logged.
pub(super) async fn serve<S, B>(opened: OpenedConnection<S>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let OpenedConnection { place, socket, input, share: _share, now } = opened;
    let worker = place.worker();
    let client = worker.guard.client_at(socket.peer);
    let mut connection = Http1Connection {
        deadline: Deadline::after(now, worker.bounds().head_timeout),
        client,
        outbox: SendQueue::new(client),
        exchanges: Exchanges::new(Arc::clone(&worker.metrics)),
        place,
        socket,
        input,
        scanner: Scanner::default(),
        uptake: ReceiveRate::default(),
        now,
        is_woken: true,
    };
    match connection.run().await {
        ConnectionEnd::Close => connection.socket.take_leave(),
        ConnectionEnd::Cut => {}
        ConnectionEnd::Linger => connection.linger().await,
        ConnectionEnd::Http2 => {
            let Http1Connection { place, socket, client, input, .. } = connection;
            Box::pin(http2::serve(place, socket, client, input)).await;
        }
    }
}

struct Http1Connection<S> {
    place: WorkerRegistration<S>,
    socket: Socket,
    /// Who is at the other end.
    client: ClientKey,
    /// Bytes that have arrived and belong to no request yet.
    input: Vec<u8>,
    scanner: Scanner,
    outbox: SendQueue,
    exchanges: Exchanges,
    deadline: Deadline,
    /// How fast the present response is taken.
    uptake: ReceiveRate,
    /// When the latest bytes arrived or left.
    now: Instant,
    /// Nothing has arrived since the task was last woken: it may be the deadline that woke it.
    is_woken: bool,
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum ConnectionEnd {
    /// Nothing is owed to anybody.
    Close,
    /// Something is, and it must not look as if nothing were.
    Cut,
    /// The client may still be sending: closing now could destroy the response on its way.
    Linger,
    /// It does not: it began as HTTP/2 does, and goes on so.
    Http2,
}

/// What came instead of an end while a request was awaited.
enum Arrived {
    Request(ParsedHead),
    /// With whether it is an answer to HEAD, which has no content, and what is noted of it.
    Refused(HeadError, bool, Option<Box<AccessLogRecord>>),
    /// The beginning of HTTP/2, which stays in the buffer.
    Http2,
}

impl<S, B> Http1Connection<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    async fn run(&mut self) -> ConnectionEnd {
        for count in 1_u64.. {
            if count.is_multiple_of(REQUESTS_IN_TURN) {
                // A client that pipelines without end has its turn, as a long response has.
                tokio::task::yield_now().await;
            }
            let Some(arrived) = poll_fn(|cx| self.poll_arrival(cx)).await else {
                return ConnectionEnd::Close;
            };
            self.place.set_answering();
            let parsed = match arrived {
                Arrived::Request(parsed) => parsed,
                Arrived::Http2 if count == 1 => return ConnectionEnd::Http2,
                Arrived::Http2 => {
                    let note = self.worker().note_of_refused(PREFACE, self.socket.peer);
                    return self.refuse_unasked(VERSION, false, note).await;
                }
                Arrived::Refused(refusal, is_head, note) => {
                    return self.refuse_unasked(refusal, is_head, note).await;
                }
            };
            match self.exchange(parsed).await {
                Ok(None) if self.outbox.is_empty() => self.place.set_reading(),
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(cut) => return self.answer_or_give_up(cut).await,
            }
        }
        ConnectionEnd::Close
    }

    /// One request and its response.
    async fn exchange(&mut self, parsed: ParsedHead) -> Result<Option<ConnectionEnd>, SendError> {
        let ParsedHead { mut request, framing, keep_alive, expects_continue, is_http10, is_head } = parsed;
        let method = method_of(&request);
        let protocol = if is_http10 { Protocol::Http10 } else { Protocol::Http11 };
        let exchange = Exchange::new(self.now, Some(method), protocol);
        exchange.record.set(self.encrypted(self.worker().note(&request, self.socket.peer)));
        self.exchanges.begin(exchange, self.outbox.pushed());
        let limit = self.worker().bounds().body_bytes;
        let is_droppable = match framing {
            BodyFraming::Empty | BodyFraming::Chunked => true,
            BodyFraming::Length(length) => length <= limit,
        };
        let has_body = framing != BodyFraming::Empty;
        let waits = expects_continue && has_body;
        let is_answered_at_once = waits && !takes_body(&request);
        self.uptake = ReceiveRate::default();
        let may_go_on = keep_alive && is_droppable && !is_answered_at_once;
        let mut dropper = BodyDiscarder::new(framing, limit.saturating_add(CHUNK_FRAMING_ROOM));
        let mut body_is_left = has_body;
        if waits && may_go_on {
            self.keep_to(ResponsePace::default()).await?;
            self.outbox.push(Bytes::from_static(CONTINUE).into());
            self.flush().await?;
            if let Err(outcome) = self.drop_body(&mut dropper).await {
                return Ok(Some(self.close(outcome, ConnectionEnd::Linger)));
            }
            body_is_left = false;
        }
        request.head_mut().peer_addr = self.socket.peer;
        if self.socket.is_encrypted() {
            request.extensions_mut().insert(TransportInfo { is_secure: true, is_copied: true });
        }
        let mut response = self.call(request).await;
        let pass = self.take_pass(&mut response);
        if self.worker().guard.bandwidth().is_limited() || self.outbox.is_paced() {
            self.pace(&response, pass.as_ref()).await?;
        }
        let keep_alive = may_go_on && !self.worker().is_retiring() && !self.place.is_evicted();
        let manner = Framing { is_head, is_http10, keep_alive };
        let worker = Rc::clone(self.worker());
        self.outbox.begin();
        let start = self.outbox.pushed();
        self.exchanges.answer(response.status().as_u16(), start);
        let id_line = self.note_answer(&response);
        let content = request_log::content_length(&response, is_head);
        let rest = render(response, id_line, manner, &worker.prefixes, self.now, &mut self.outbox);
        let ends_by_close = matches!(rest, AfterHead::Stream(_, StreamFraming::UntilClose));
        let is_streamed = matches!(rest, AfterHead::Stream(..));
        self.note_frame(start, if is_streamed { 0 } else { content });
        if !is_streamed {
            self.exchanges.complete(self.outbox.pushed());
        }
        // Held to the end of a long response. A short one is as good as gone: its client may have it, and ask again elsewhere,
        // before this thread goes on.
        let _pass = pass.filter(|_| is_streamed || !self.outbox.may_wait());
        if let AfterHead::Stream(body, framing) = rest {
            if ends_by_close {
                // A clean end says that such a body is whole: whatever cuts it short, be it a panic, must not look like one.
                self.socket.reset_on_close(true);
            }
            self.stream(body, framing).await?;
            self.exchanges.complete(self.outbox.pushed());
            if ends_by_close {
                self.flush().await?;
                self.socket.reset_on_close(false);
            }
        }
        if !keep_alive || ends_by_close {
            // A long response stays on its way for a while: whatever the client sends meanwhile would destroy it.
            let is_short = !is_streamed && self.outbox.may_wait();
            self.flush().await?;
            let is_quiet = self.input.is_empty() && !body_is_left && is_short;
            return Ok(Some(if is_quiet { ConnectionEnd::Close } else { ConnectionEnd::Linger }));
        }
        if body_is_left {
            self.flush().await?;
            return Ok(self.drop_body(&mut dropper).await.is_err().then_some(ConnectionEnd::Linger));
        }
        // A pipelined request that is here already is answered first: small responses leave together.
        if self.input.is_empty() || !self.outbox.may_wait() || !self.has_whole_head() {
            self.flush().await?;
        }
        Ok(None)
    }

    /// The App's response; a panic costs the request alone.
    async fn call(&mut self, request: Request) -> Response<BoxBody> {
        let worker = Rc::clone(self.worker());
        let mut answer = pin!(AssertUnwindSafe(worker.app.call(request)).catch_unwind());
        let mut has_waited = false;
        let answer = poll_fn(|cx| noting(&mut has_waited, answer.as_mut().poll(cx))).await;
        if has_waited {
            self.now = Instant::now();
        }
        response_of(answer)
    }

    /// Notes what is to be noted of the response, and returns the line in which it tells the request's id.
    fn note_answer(&mut self, response: &Response<BoxBody>) -> Option<Bytes> {
        let now = self.now;
        let (note, began) = self.exchanges.last_note()?;
        request_log::answered(note, response, began, now);
        request_log::id_line(note)
    }

    /// Of what was pushed since `start` so many bytes are content.
    fn note_frame(&mut self, start: u64, content: u64) {
        let pushed = self.outbox.pushed().saturating_sub(start);
        if let Some((note, _)) = self.exchanges.last_note() {
            note.frame_bytes += pushed.saturating_sub(content);
        }
    }

    /// What the guard has sent with the response: for whom it is, and its count among those under way, until that is dropped.
    fn take_pass(&mut self, response: &mut Response<BoxBody>) -> Option<RequestPermit> {
        if !self.worker().guard.is_active() {
            return None;
        }
        let pass = response.extensions_mut().remove::<RequestPermit>();
        self.outbox.serve(pass.as_ref().map_or(self.client, |pass| pass.key));
        pass
    }

    /// Has `response` keep to the limits on bandwidth. What is to be sent before it keeps to its own.
    async fn pace(
        &mut self,
        response: &Response<BoxBody>,
        pass: Option<&RequestPermit>,
    ) -> Result<(), SendError> {
        let worker = Rc::clone(self.worker());
        let is_exempt =
            pass.map_or_else(|| worker.guard.is_unlimited(self.socket.peer), |pass| pass.is_exempt);
        let pace = match PacedResponse::of(response) {
            Some(PacedResponse(rates)) if !is_exempt => worker.guard.bandwidth().pace(rates.as_deref()),
            _ => ResponsePace::default(),
        };
        self.keep_to(pace).await
    }

    /// What is pushed from now on keeps to `pace`; what was pushed before has left.
    async fn keep_to(&mut self, pace: ResponsePace) -> Result<(), SendError> {
        if !self.outbox.holds(&pace) || self.socket.lags_behind(pace.connection) {
            self.flush().await?;
            let worker = Rc::clone(self.worker());
            self.outbox.pace(pace, &worker.guard, &mut self.socket);
        }
        Ok(())
    }

    /// The next request, or none when the connection is over.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        let worker = Rc::clone(self.worker());
        loop {
            if let Some(arrived) = self.take_head(&worker) {
                return Poll::Ready(Some(arrived));
            }
            let mut scratch = worker.scratch.borrow_mut();
            let read = match self.socket.poll_read(cx, &mut scratch) {
                Poll::Pending if worker.is_closing() => self.socket.look(&mut scratch),
                read => read,
            };
            let Poll::Ready(read) = read else {
                drop(scratch);
                return self.poll_waiting(cx);
            };
            let Ok(length @ 1..) = read else { return Poll::Ready(None) };
            let is_first = self.input.is_empty();
            self.now = Instant::now();
            self.is_woken = false;
            if is_first {
                // The usual case: one read brings one whole head, which never enters the buffer.
                self.deadline.set(self.now, worker.bounds().head_timeout);
                let Some((arrived, used)) = self.head_in(&scratch[..length], &worker) else {
                    self.input.extend_from_slice(&scratch[..length]);
                    self.place.set_reading();
                    continue;
                };
                self.input.extend_from_slice(&scratch[used..length]);
                return Poll::Ready(Some(arrived));
            }
            self.input.extend_from_slice(&scratch[..length]);
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        let is_idle = self.input.is_empty();
        if is_idle {
            self.input = Vec::new();
            self.outbox.release();
            self.place.waits(cx, self.now);
            // Its place may be wanted: a request that has come meanwhile is answered first.
            if self.place.is_evicted() && !self.socket.has_arrived() {
                return Poll::Ready(None);
            }
            if self.place.closes_after(self.now, &mut self.deadline) {
                return self.deadline.poll(cx).map(|()| None);
            }
        }
        // A timer that was set before needs no look in a turn that bytes began: where it fired too, it wakes the task again.
        let is_set = !std::mem::replace(&mut self.is_woken, true) && self.deadline.is_set();
        if is_set {
            return Poll::Pending;
        }
        ready!(self.deadline.poll(cx));
        // Blank lines alone ask for nothing.
        let is_blank = self.input.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        Poll::Ready((!is_blank).then(|| self.refused(TOO_SLOW, &self.input)))
    }

    /// A whole head at the front of the buffer, if there is one.
    fn take_head(&mut self, worker: &Worker<S>) -> Option<Arrived> {
        if self.input.is_empty() {
            return None;
        }
        let input = std::mem::take(&mut self.input);
        let found = self.head_in(&input, worker);
        self.input = input;
        let (arrived, used) = found?;
        self.input.drain(..used);
        Some(arrived)
    }

    /// A whole head at the front of `bytes`, and how many of them it takes.
    fn head_in(&mut self, bytes: &[u8], worker: &Worker<S>) -> Option<(Arrived, usize)> {
        let limits = worker.head_limits();
        let mut start = 0;
        loop {
            let left = &bytes[start..];
            match self.scanner.scan(left, limits) {
                Scan::Partial if start == 0 => return None,
                // Blank lines stay in the buffer with what follows them, and are looked at again.
                Scan::Partial => {
                    self.scanner = Scanner::default();
                    return (bytes.len() >= limits.bytes)
                        .then(|| (self.refused(MALFORMED, left), bytes.len()));
                }
                Scan::Blank(length) => start += length,
                Scan::Refused(refusal) => {
                    return Some((self.refused(refusal, left), bytes.len()));
                }
                Scan::Complete(length) => {
                    worker.metrics.record_head_length(length);
                    let arrived = match parse(&left[..length], limits, &worker.last_host) {
                        Ok(parsed) => Arrived::Request(parsed),
                        Err(VERSION) if worker.bounds().http2.is_some() && is_preface(&left[..length]) => {
                            return Some((Arrived::Http2, start));
                        }
                        Err(refusal) => self.refused(refusal, &left[..length]),
                    };
                    return Some((arrived, start + length));
                }
            }
        }
    }

    /// What is no request, or none that is served.
    fn refused(&self, refusal: HeadError, head: &[u8]) -> Arrived {
        let note = self.worker().note_of_refused(head, self.socket.peer);
        Arrived::Refused(refusal, is_head(head), self.encrypted(note))
    }

    /// The note of what came over this connection.
    fn encrypted(&self, note: Option<Box<AccessLogRecord>>) -> Option<Box<AccessLogRecord>> {
        let mut note = note?;
        note.tls = self.socket.tls_facts();
        Some(note)
    }

    fn has_whole_head(&self) -> bool {
        // Blank lines are passed over before a head: two of them are not the end of one.
        let start = self.input.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        start.is_some_and(|start| memchr::memmem::find(&self.input[start..], b"\r\n\r\n").is_some())
    }

    async fn flush(&mut self) -> Result<(), SendError> {
        if self.outbox.is_empty() {
            self.restart_idle();
            return Ok(());
        }
        let worker = Rc::clone(self.worker());
        let mut stall = StallTimer::new(self.now);
        self.deadline.set(self.now, worker.look_every());
        poll_fn(|cx| self.poll_flush(cx, &worker, &mut stall)).await?;
        self.now = Instant::now();
        self.note_flushed();
        self.exchanges.settle(self.outbox.sent(), self.now);
        self.restart_idle();
        Ok(())
    }

    /// What was sent has waited no more since now, and had so much to be read for it.
    fn note_flushed(&mut self) {
        let (now, cold) = (self.now, self.outbox.take_cold_bytes());
        self.exchanges.note_wait(|| now, None);
        if cold > 0 {
            self.exchanges.note_cold(cold);
        }
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        stall: &mut StallTimer,
    ) -> Poll<Result<(), SendError>> {
        let mut sent = 0;
        let flushed = self.outbox.poll_send(cx, worker, &mut self.socket, |bytes| sent += bytes);
        self.uptake.sent(sent);
        if flushed.is_ready() {
            if self.uptake.is_waiting() {
                self.uptake.waits(Instant::now(), false);
            }
            return flushed;
        }
        let waits_for_us = self.outbox.waits_for_disk_since().is_some() || self.outbox.waits_for_pace();
        if waits_for_us && self.socket.poll_broken(cx).is_ready() {
            // Nobody is left for whom to read, or who would have the next share.
            return Poll::Ready(Err(SendError::Socket(ErrorKind::ConnectionReset.into())));
        }
        let now = Instant::now();
        self.uptake.waits(now, self.outbox.waits_for_client());
        let Self { outbox, exchanges, .. } = self;
        exchanges.wait(outbox.sent(), now, outbox.client(), || outbox.file().cloned());
        self.exchanges.note_wait(|| now, Some(self.outbox.waits_for()));
        if sent > 0 {
            self.now = now;
            if self.outbox.is_paced() {
                // A socket takes at that pace for long without anybody at the other end.
                stall.sent(sent);
            } else {
                *stall = StallTimer::new(now);
                self.deadline.set(now, worker.look_every());
            }
        }
        let mut is_looked_at = sent > 0;
        while self.deadline.poll(cx).is_ready() {
            let now = Instant::now();
            let disk_since = self.outbox.waits_for_disk_since();
            if disk_since.is_some_and(|since| now.duration_since(since) >= worker.bounds().disk_timeout) {
                worker.files.count_disk_timeout();
                return Poll::Ready(Err(SendError::Disk(ErrorKind::TimedOut.into())));
            }
            let untaken = self.socket.untaken();
            if untaken.is_none() && self.outbox.waits_for_pace() {
                *stall = StallTimer::new(now);
            } else if stall.goes_on(now, untaken, worker.bounds().stall_timeout) {
                return Poll::Ready(Err(SendError::Stalled));
            }
            self.deadline.set(now, worker.look_every());
            is_looked_at = true;
        }
        if is_looked_at && self.is_too_slow(worker) {
            return Poll::Ready(Err(SendError::TooSlow));
        }
        Poll::Pending
    }

    /// Whether the client takes less than it must while connections run short.
    fn is_too_slow(&self, worker: &Worker<S>) -> bool {
        let ConnectionSettings { min_rate, min_rate_after, .. } = worker.bounds();
        let is_asked =
            min_rate > 0 && self.uptake.waited() >= min_rate_after && worker.guard.connections().is_short();
        let is_slow =
            is_asked && self.socket.untaken().is_some_and(|untaken| self.uptake.is_below(min_rate, untaken));
        if is_slow {
            worker.guard.connections().count_too_slow();
        }
        is_slow
    }

    /// The next request has its time from now on: to come, or to come whole where it has begun.
    fn restart_idle(&mut self) {
        let bounds = self.worker().bounds();
        let timeout = if self.input.is_empty() { bounds.idle_timeout } else { bounds.head_timeout };
        self.deadline.set(self.now, timeout);
    }

    /// Reads past a body. Where what follows it can't be trusted, says how an exchange ends that waits for it.
    async fn drop_body(&mut self, dropper: &mut BodyDiscarder) -> Result<(), ExchangeOutcome> {
        let worker = Rc::clone(self.worker());
        self.deadline.set(Instant::now(), worker.bounds().head_timeout);
        let input = std::mem::take(&mut self.input);
        let mut fed = dropper.feed(&input);
        let mut last = input;
        while fed == DiscardProgress::More {
            let bytes = poll_fn(|cx| self.poll_more(cx, &worker)).await?;
            fed = dropper.feed(&bytes);
            last = bytes;
        }
        let DiscardProgress::Done(used) = fed else { return Err(ExchangeOutcome::ClientGone) };
        self.input = last.split_off(used);
        self.restart_idle();
        Ok(())
    }

    /// What the client sends on; where nothing comes, what became of it.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
    ) -> Poll<Result<Vec<u8>, ExchangeOutcome>> {
        let mut scratch = worker.scratch.borrow_mut();
        match self.socket.poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(length @ 1..)) => Poll::Ready(Ok(scratch[..length].to_vec())),
            Poll::Ready(_) => Poll::Ready(Err(ExchangeOutcome::ClientGone)),
            Poll::Pending => self.deadline.poll(cx).map(|()| Err(ExchangeOutcome::Stalled)),
        }
    }

    /// Sends a body as it is made.
    async fn stream(&mut self, body: BoxBody, framing: StreamFraming) -> Result<(), SendError> {
        let mut body = body;
        let mut left = match framing {
            StreamFraming::Length(length) => length,
            StreamFraming::Chunked | StreamFraming::UntilClose => u64::MAX,
        };
        while let Some(bytes) = self.next_piece(&mut body).await? {
            if bytes.is_empty() {
                continue;
            }
            left = left.checked_sub(bytes.len() as u64).ok_or(SendError::Changed)?;
            let is_chunked = framing == StreamFraming::Chunked;
            let start = self.outbox.pushed();
            if is_chunked {
                self.outbox.push(chunk_size_line(bytes.len()).into());
            }
            let content = bytes.len() as u64;
            self.outbox.push(bytes.into());
            if is_chunked {
                self.outbox.push(Bytes::from_static(b"\r\n").into());
                self.note_frame(start, content);
            }
            self.now = Instant::now();
            self.flush().await?;
        }
        match framing {
            StreamFraming::Length(_) if left > 0 => return Err(SendError::Changed),
            StreamFraming::Chunked => {
                let start = self.outbox.pushed();
                self.outbox.push(Bytes::from_static(LAST_CHUNK).into());
                self.note_frame(start, 0);
            }
            StreamFraming::Length(_) | StreamFraming::UntilClose => {}
        }
        Ok(())
    }

    /// What a body brings next. Where it keeps its client waiting, that is for a disk.
    async fn next_piece(&mut self, body: &mut BoxBody) -> Result<Option<Bytes>, SendError> {
        let worker = Rc::clone(self.worker());
        self.deadline.set(Instant::now(), worker.bounds().disk_timeout);
        poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *body).poll_next(cx) {
                self.exchanges.note_wait(Instant::now, None);
                return Poll::Ready(next.transpose().map_err(|error| SendError::Disk(why_broken(error))));
            }
            self.exchanges.note_wait(Instant::now, Some(WaitKind::Disk));
            if self.socket.poll_broken(cx).is_ready() {
                return Poll::Ready(Err(SendError::Socket(ErrorKind::ConnectionReset.into())));
            }
            ready!(self.deadline.poll(cx));
            worker.files.count_disk_timeout();
            Poll::Ready(Err(no_piece()))
        })
        .await
    }

    /// Refuses what was no request.
    async fn refuse_unasked(
        &mut self,
        refusal: HeadError,
        is_head: bool,
        note: Option<Box<AccessLogRecord>>,
    ) -> ConnectionEnd {
        self.worker().metrics.count_rejected_head(refused_head(refusal.0));
        let exchange = Exchange::new(Instant::now(), None, Protocol::Http11);
        exchange.record.set(note);
        self.exchanges.begin(exchange, self.outbox.pushed());
        self.refuse(refusal, is_head).await
    }

    async fn refuse(&mut self, refusal: HeadError, is_head: bool) -> ConnectionEnd {
        log::debug!("{}: refused: {} {}", self.who(), refusal.0, refusal.1.trim_end());
        match self.tell_refusal(refusal, is_head).await {
            Ok(()) => ConnectionEnd::Linger,
            Err(cut) => {
                let end = self.give_up(&cut);
                self.close(cut.outcome(), end)
            }
        }
    }

    async fn tell_refusal(&mut self, refusal: HeadError, is_head: bool) -> Result<(), SendError> {
        self.keep_to(ResponsePace::default()).await?;
        let worker = Rc::clone(self.worker());
        let start = self.outbox.pushed();
        self.exchanges.answer(refusal.0.as_u16(), start);
        let id_line = self.exchanges.last_note().and_then(|(note, _)| {
            note.clear_response();
            request_log::id_line(note)
        });
        refuse(refusal, id_line, is_head, &worker.prefixes, Instant::now(), &mut self.outbox);
        let content = if is_head { 0 } else { refusal.1.len() as u64 };
        self.note_frame(start, content);
        self.exchanges.complete(self.outbox.pushed());
        self.flush().await
    }

    /// What the disk did not give is told to the client where nothing of the response has left; else the connection ends.
    async fn answer_or_give_up(&mut self, cut: SendError) -> ConnectionEnd {
        let end = self.give_up(&cut);
        let outcome = cut.outcome();
        let Some(refusal) = refusal_of(&cut) else { return self.close(outcome, end) };
        if !self.outbox.withdraw() {
            return self.close(outcome, end);
        }
        self.socket.reset_on_close(false);
        self.refuse(refusal, false).await
    }

    /// All exchanges under way end so.
    fn close(&mut self, outcome: ExchangeOutcome, end: ConnectionEnd) -> ConnectionEnd {
        self.exchanges.note_cold(self.outbox.take_cold_bytes());
        self.exchanges.cut(outcome, self.outbox.sent(), Instant::now());
        end
    }

    fn give_up(&mut self, cut: &SendError) -> ConnectionEnd {
        let request =
            self.exchanges.last_note().map_or_else(String::new, |(note, _)| request_log::told_id(note));
        tell(cut, self.outbox.file(), self.worker().files().faults(), &request, || self.who());
        ConnectionEnd::Cut
    }

    /// Reads on until the client has heard the last response, or its time is up (RFC 9112 §9.6).
    async fn linger(&mut self) {
        self.socket.shutdown();
        self.place.set_closing();
        let worker = Rc::clone(self.worker());
        self.deadline.set(Instant::now(), worker.bounds().linger_timeout);
        let mut room = LINGER_BYTES;
        while room > 0 {
            match poll_fn(|cx| self.poll_more(cx, &worker)).await {
                Ok(bytes) => room = room.saturating_sub(bytes.len()),
                Err(_) => return,
            }
        }
    }

    fn worker(&self) -> &Rc<Worker<S>> {
        self.place.worker()
    }

    fn who(&self) -> String {
        match self.outbox.client() {
            client if client == self.client => self.socket.who(),
            client => format!("{} for {client}", self.socket.who()),
        }
    }
}

/// Notes that what is `polled` had to wait.
fn noting<T>(has_waited: &mut bool, polled: Poll<T>) -> Poll<T> {
    *has_waited |= polled.is_pending();
    polled
}

/// Whether HTTP/2 begins so. Its preface looks like a head of HTTP/1.1 with something behind it (RFC 9113 §3.4).
fn is_preface(head: &[u8]) -> bool {
    PREFACE.starts_with(head)
}

/// Whether what begins so asks with HEAD, whatever else is wrong with it.
fn is_head(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HEAD ")
}

/// What the request's method is counted as.
fn method_of(request: &Request) -> Method {
    // The usual one without a look at its name.
    if *request.method() == actix_http::Method::GET {
        return Method::Get;
    }
    Method::classify(request.method().as_str().as_bytes())
}

/// Why a head was refused that is answered with `status`.
fn refused_head(status: StatusCode) -> RejectedHead {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => RejectedHead::TooLarge,
        StatusCode::REQUEST_TIMEOUT => RejectedHead::TooSlow,
        _ => RejectedHead::Malformed,
    }
}

/// Methods whose request may have a body that is read past; for the others the final response comes at once.
fn takes_body(request: &Request) -> bool {
    request.method().is_safe()
}

/// Requests of one connection before others are looked at for certain.
const REQUESTS_IN_TURN: u64 = 64;

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const TOO_SLOW: HeadError = (StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive.\n");

/// What chunk sizes and trailers may take beside a chunked body's bytes.
const CHUNK_FRAMING_ROOM: u64 = 4096;

/// What is read and thrown away from a client that goes on sending.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
