//! One HTTP/1.1 connection, from its first byte to its close (RFC 9112).

use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_http::{Request, Response, StatusCode};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use bytes::Bytes;
use futures_util::FutureExt;

use super::body::{Dropped, Dropper, Framing};
use super::deadline::Deadline;
use super::head::{MALFORMED, Parsed, Refusal, Scan, Scanner, parse};
use super::render::{Manner, Rest, StreamFraming, chunk_size_line, refuse, render};
use super::send::{Cut, Outbox};
use super::socket::Socket;
use super::stall::{STALL_LOOKS, Stall};
use super::worker::{Registration, Worker};
use crate::files::Fault;

/// Serves one connection until it ends. Never fails: whatever happens ends the connection and is logged.
pub async fn serve<S, B>(worker: Rc<Worker<S>>, socket: Socket)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    let now = Instant::now();
    let mut connection = Connection {
        deadline: Deadline::after(now, worker.bounds.head_timeout),
        place: worker.register(),
        outbox: Outbox::new(worker.guard.client_at(socket.peer)),
        socket,
        input: Vec::new(),
        scanner: Scanner::default(),
        now,
        is_woken: true,
    };
    match connection.run().await {
        End::Close => {}
        End::Linger => connection.linger().await,
    }
}

struct Connection<S> {
    place: Registration<S>,
    socket: Socket,
    /// Bytes that have arrived and belong to no request yet.
    input: Vec<u8>,
    scanner: Scanner,
    outbox: Outbox,
    deadline: Deadline,
    /// When the latest bytes arrived or left.
    now: Instant,
    /// Nothing has arrived since the task was last woken: it may be the deadline that woke it.
    is_woken: bool,
}

/// How a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing is owed to anybody.
    Close,
    /// The client may still be sending: closing now could destroy the response on its way.
    Linger,
}

/// What came instead of an end while a request was awaited.
enum Arrived {
    Request(Parsed),
    /// With whether it is an answer to HEAD, which has no content.
    Refused(Refusal, bool),
}

impl<S, B> Connection<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody + 'static,
{
    async fn run(&mut self) -> End {
        for count in 1_u64.. {
            if count.is_multiple_of(REQUESTS_IN_TURN) {
                // A client that pipelines without end has its turn, as a long response has.
                tokio::task::yield_now().await;
            }
            let Some(arrived) = poll_fn(|cx| self.poll_arrival(cx)).await else { return End::Close };
            self.place.set_busy(true);
            let parsed = match arrived {
                Arrived::Request(parsed) => parsed,
                Arrived::Refused(refusal, is_head) => return self.refuse(refusal, is_head).await,
            };
            match self.exchange(parsed).await {
                Ok(None) => self.place.set_busy(!self.outbox.is_empty()),
                Ok(Some(end)) => return end,
                Err(cut) => return self.give_up(&cut),
            }
        }
        End::Close
    }

    /// One request and its response.
    async fn exchange(&mut self, parsed: Parsed) -> Result<Option<End>, Cut> {
        let Parsed { mut request, framing, keep_alive, expects_continue, is_http10, is_head } = parsed;
        let limit = self.worker().bounds.body_bytes;
        let is_droppable = match framing {
            Framing::Empty | Framing::Chunked => true,
            Framing::Length(length) => length <= limit,
        };
        let has_body = framing != Framing::Empty;
        let waits = expects_continue && has_body;
        let is_answered_at_once = waits && !takes_body(&request);
        let may_go_on = keep_alive && is_droppable && !is_answered_at_once;
        let mut dropper = Dropper::new(framing, limit.saturating_add(CHUNK_FRAMING_ROOM));
        let mut body_is_left = has_body;
        if waits && may_go_on {
            self.outbox.push(Bytes::from_static(CONTINUE).into());
            self.flush().await?;
            if self.drop_body(&mut dropper).await? {
                body_is_left = false;
            } else {
                return Ok(Some(End::Linger));
            }
        }
        request.head_mut().peer_addr = self.socket.peer;
        let response = self.call(request).await;
        let keep_alive = may_go_on && !self.worker().is_closing();
        let manner = Manner { is_head, is_http10, keep_alive };
        let worker = Rc::clone(self.worker());
        let rest = render(response, manner, &worker.prefixes, self.now, &mut self.outbox);
        let ends_by_close = matches!(rest, Rest::Stream(_, StreamFraming::UntilClose));
        let is_streamed = matches!(rest, Rest::Stream(..));
        if let Rest::Stream(body, framing) = rest {
            if ends_by_close {
                // A clean end says that such a body is whole: whatever cuts it short, be it a panic, must not look like one.
                self.socket.reset_on_close(true);
            }
            self.stream(body, framing).await?;
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
            return Ok(Some(if is_quiet { End::Close } else { End::Linger }));
        }
        if body_is_left {
            self.flush().await?;
            return Ok((!self.drop_body(&mut dropper).await?).then_some(End::Linger));
        }
        // A pipelined request that is here already is answered first: small responses leave together.
        if self.input.is_empty() || !self.outbox.may_wait() || !self.has_whole_head() {
            self.flush().await?;
        }
        Ok(None)
    }

    /// The App's response; a panic costs the request alone.
    async fn call(&self, request: Request) -> Response<BoxBody> {
        let answer = AssertUnwindSafe(self.worker().app.call(request)).catch_unwind().await;
        match answer {
            Ok(Ok(response)) => Response::from(response.into_parts().1.map_into_boxed_body()),
            Ok(Err(error)) => Response::from(actix_web::HttpResponse::from_error(error)),
            // The panic hook has logged where and why.
            Err(_) => Response::with_body(
                StatusCode::INTERNAL_SERVER_ERROR,
                BoxBody::new(Bytes::from_static(b"Something failed.\n")),
            ),
        }
    }

    /// The next request, or none when the connection is over.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arrived>> {
        let worker = Rc::clone(self.worker());
        loop {
            if let Some(arrived) = self.take_head(&worker) {
                return Poll::Ready(Some(arrived));
            }
            let mut scratch = worker.scratch.borrow_mut();
            let Poll::Ready(read) = self.socket.poll_read(cx, &mut scratch) else {
                drop(scratch);
                return self.poll_waiting(cx, &worker);
            };
            let Ok(length @ 1..) = read else { return Poll::Ready(None) };
            let is_first = self.input.is_empty();
            self.now = Instant::now();
            self.is_woken = false;
            if is_first {
                // The usual case: one read brings one whole head, which never enters the buffer.
                self.deadline.set(self.now, worker.bounds.head_timeout);
                let Some((arrived, used)) = self.head_in(&scratch[..length], &worker) else {
                    self.input.extend_from_slice(&scratch[..length]);
                    continue;
                };
                self.input.extend_from_slice(&scratch[used..length]);
                return Poll::Ready(Some(arrived));
            }
            self.input.extend_from_slice(&scratch[..length]);
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>, worker: &Worker<S>) -> Poll<Option<Arrived>> {
        let is_idle = self.input.is_empty();
        if is_idle {
            self.input = Vec::new();
            self.outbox.release();
            self.place.wait(cx);
            if worker.is_closing() {
                return Poll::Ready(None);
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
        Poll::Ready((!is_blank).then_some(Arrived::Refused(TOO_SLOW, is_head(&self.input))))
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
                        .then_some((Arrived::Refused(MALFORMED, false), bytes.len()));
                }
                Scan::Blank(length) => start += length,
                Scan::Refused(refusal) => {
                    return Some((Arrived::Refused(refusal, is_head(left)), bytes.len()));
                }
                Scan::Complete(length) => {
                    let arrived = match parse(&left[..length], limits, &worker.last_host) {
                        Ok(parsed) => Arrived::Request(parsed),
                        Err(refusal) => Arrived::Refused(refusal, is_head(left)),
                    };
                    return Some((arrived, start + length));
                }
            }
        }
    }

    fn has_whole_head(&self) -> bool {
        // Blank lines are passed over before a head: two of them are not the end of one.
        let start = self.input.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        start.is_some_and(|start| memchr::memmem::find(&self.input[start..], b"\r\n\r\n").is_some())
    }

    async fn flush(&mut self) -> Result<(), Cut> {
        if self.outbox.is_empty() {
            self.restart_idle();
            return Ok(());
        }
        let worker = Rc::clone(self.worker());
        let mut stall = Stall::new(self.now);
        self.deadline.set(self.now, worker.bounds.stall_timeout / STALL_LOOKS);
        poll_fn(|cx| self.poll_flush(cx, &worker, &mut stall)).await?;
        self.restart_idle();
        Ok(())
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        stall: &mut Stall,
    ) -> Poll<Result<(), Cut>> {
        let mut sent = 0;
        let flushed = self.outbox.poll_send(cx, worker, &mut self.socket, |bytes| sent += bytes);
        if flushed.is_ready() {
            return flushed;
        }
        if sent > 0 {
            self.now = Instant::now();
            *stall = Stall::new(self.now);
            self.deadline.set(self.now, worker.bounds.stall_timeout / STALL_LOOKS);
        }
        while self.deadline.poll(cx).is_ready() {
            let now = Instant::now();
            if stall.goes_on(now, self.socket.untaken(), worker.bounds.stall_timeout) {
                return Poll::Ready(Err(Cut::Socket(io::ErrorKind::TimedOut.into())));
            }
            self.deadline.set(now, worker.bounds.stall_timeout / STALL_LOOKS);
        }
        Poll::Pending
    }

    /// The next request has its time from now on: to come, or to come whole where it has begun.
    fn restart_idle(&mut self) {
        let bounds = self.worker().bounds;
        let timeout = if self.input.is_empty() { bounds.idle_timeout } else { bounds.head_timeout };
        self.deadline.set(self.now, timeout);
    }

    /// Reads past a body; false where what follows it can't be trusted.
    async fn drop_body(&mut self, dropper: &mut Dropper) -> Result<bool, Cut> {
        let worker = Rc::clone(self.worker());
        self.deadline.set(Instant::now(), worker.bounds.head_timeout);
        let input = std::mem::take(&mut self.input);
        let mut fed = dropper.feed(&input);
        let mut last = input;
        while fed == Dropped::More {
            let Some(bytes) = poll_fn(|cx| self.poll_more(cx, &worker)).await else { return Ok(false) };
            fed = dropper.feed(&bytes);
            last = bytes;
        }
        let Dropped::Done(used) = fed else { return Ok(false) };
        self.input = last.split_off(used);
        self.restart_idle();
        Ok(true)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, worker: &Worker<S>) -> Poll<Option<Vec<u8>>> {
        let mut scratch = worker.scratch.borrow_mut();
        match self.socket.poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(length @ 1..)) => Poll::Ready(Some(scratch[..length].to_vec())),
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => self.deadline.poll(cx).map(|()| None),
        }
    }

    /// Sends a body as it is made.
    async fn stream(&mut self, body: BoxBody, framing: StreamFraming) -> Result<(), Cut> {
        let mut body = body;
        let mut left = match framing {
            StreamFraming::Length(length) => length,
            StreamFraming::Chunked | StreamFraming::UntilClose => u64::MAX,
        };
        while let Some(next) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            let bytes = next.map_err(|error| Cut::Disk(why_broken(error)))?;
            if bytes.is_empty() {
                continue;
            }
            left = left.checked_sub(bytes.len() as u64).ok_or(Cut::Changed)?;
            let is_chunked = framing == StreamFraming::Chunked;
            if is_chunked {
                self.outbox.push(chunk_size_line(bytes.len()).into());
            }
            self.outbox.push(bytes.into());
            if is_chunked {
                self.outbox.push(Bytes::from_static(b"\r\n").into());
            }
            self.now = Instant::now();
            self.flush().await?;
        }
        match framing {
            StreamFraming::Length(_) if left > 0 => return Err(Cut::Changed),
            StreamFraming::Chunked => self.outbox.push(Bytes::from_static(b"0\r\n\r\n").into()),
            StreamFraming::Length(_) | StreamFraming::UntilClose => {}
        }
        Ok(())
    }

    async fn refuse(&mut self, refusal: Refusal, is_head: bool) -> End {
        let worker = Rc::clone(self.worker());
        refuse(refusal, is_head, &worker.prefixes, Instant::now(), &mut self.outbox);
        log::debug!("{}: refused: {} {}", self.who(), refusal.0, refusal.1.trim_end());
        match self.flush().await {
            Ok(()) => End::Linger,
            Err(cut) => self.give_up(&cut),
        }
    }

    fn give_up(&self, cut: &Cut) -> End {
        match cut {
            Cut::Socket(error) => log::debug!("{}: the connection ended: {error}", self.who()),
            fault => self.tell_fault(fault),
        }
        End::Close
    }

    /// What is made piece by piece, and is no file, says itself of which one it speaks.
    fn tell_fault(&self, cut: &Cut) {
        let file = self.outbox.file();
        let name = file.map_or_else(|| "what was sent".to_owned(), |file| format!("/{file}"));
        let is_changed = |error: &io::Error| error.kind() == io::ErrorKind::StaleNetworkFileHandle;
        let (fault, words) = match cut {
            Cut::Changed => (Fault::Changed, format!("{name} changed while it was sent")),
            Cut::Disk(error) if file.is_some() => {
                (Fault::Populate, format!("{name} could not be read: {error}"))
            }
            Cut::Disk(error) if is_changed(error) => (Fault::Changed, error.to_string()),
            Cut::Disk(error) => (Fault::Read, error.to_string()),
            Cut::Sending(error) | Cut::Socket(error) => {
                (Fault::Send, format!("{name} could not be sent: {error}"))
            }
        };
        let what = file.map_or_else(|| words.as_bytes(), |file| file.as_bytes());
        self.worker().files().faults().tell(fault, what, format_args!("{words}: the response was cut"));
    }

    /// Reads on until the client has heard the last response, or its time is up (RFC 9112 §9.6).
    async fn linger(&mut self) {
        self.socket.shutdown();
        self.place.set_busy(false);
        let worker = Rc::clone(self.worker());
        self.deadline.set(Instant::now(), worker.bounds.linger_timeout);
        let mut room = LINGER_BYTES;
        while room > 0 {
            match poll_fn(|cx| self.poll_more(cx, &worker)).await {
                Some(bytes) => room = room.saturating_sub(bytes.len()),
                None => return,
            }
        }
    }

    fn worker(&self) -> &Rc<Worker<S>> {
        self.place.worker()
    }

    fn who(&self) -> String {
        self.socket.peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string())
    }
}

/// Why a body broke off, in the words of whoever made it.
fn why_broken(error: Box<dyn std::error::Error>) -> io::Error {
    error.downcast().map_or_else(|error| io::Error::other(error.to_string()), |error| *error)
}

/// Whether what begins so asks with HEAD, whatever else is wrong with it.
fn is_head(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HEAD ")
}

/// Methods whose request may have a body that is read past; for the others the final response comes at once.
fn takes_body(request: &Request) -> bool {
    request.method().is_safe()
}

/// Requests of one connection before others are looked at for certain.
const REQUESTS_IN_TURN: u64 = 64;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const TOO_SLOW: Refusal = (StatusCode::REQUEST_TIMEOUT, "The request took too long to arrive.\n");

/// What chunk sizes and trailers may take beside a chunked body's bytes.
const CHUNK_FRAMING_ROOM: u64 = 4096;

/// What is read and thrown away from a client that goes on sending.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
