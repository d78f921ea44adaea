//! One stream: a request and its response (RFC 9113 §8.1).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use actix_http::{HttpMessage as _, Request, Response};
use actix_web::body::BoxBody;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};

use super::chunk::{BodyChunk, CopySlot};
use super::context::{ConnectionContext, Counted};
use super::open_stream::OpenStream;
use super::request::{RequestError, StreamRequest, build};
use super::response::{OutgoingResponse, outgoing};
use super::sending::{PacedBy, Sending};
use super::source::BodySource;
use super::wait::Wait;
use crate::http::client_key::ClientKey;
use crate::http::method::Method;
use crate::limits::bandwidth::ResponsePace;
use crate::limits::client_limits::RequestPermit;
use crate::net::{AppService, Deadline, Pacer, SendError, app, canned, pace_of, request_log};
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};

/// A request as `h2` hands it over, and the stream on which it is answered.
pub(super) struct IncomingStream {
    pub(super) request: http1::Request<RecvStream>,
    pub(super) respond: SendResponse<BodyChunk>,
}

/// Answers one request with `app`. The returned stream is kept until its response was sent.
pub(super) async fn serve<S: AppService>(
    app: &S,
    connection: Rc<ConnectionContext>,
    incoming: IncomingStream,
) -> OpenStream {
    let now = connection.io.borrow().now;
    let (parts, body) = incoming.request.into_parts();
    let method = Method::classify(parts.method.as_str().as_bytes());
    let open = OpenStream::new(&connection, Exchange::new(now, Some(method), Protocol::Http2));
    let client = connection.client;
    let is_head = method == Method::Head;
    let mut stream =
        Stream { connection, respond: incoming.respond, open, wait: Wait::new(now), client, is_head };
    if let Err(outcome) = stream.exchange(app, parts, body).await {
        stream.open.outcome = Some(outcome);
    }
    stream.open
}

struct Stream {
    connection: Rc<ConnectionContext>,
    respond: SendResponse<BodyChunk>,
    open: OpenStream,
    wait: Wait,
    client: ClientKey,
    is_head: bool,
}

impl Stream {
    async fn exchange<S: AppService>(
        &mut self,
        app: &S,
        parts: http1::request::Parts,
        body: RecvStream,
    ) -> Result<(), ExchangeOutcome> {
        let worker = Rc::clone(&self.connection.worker);
        let is_recorded = request_log::is_on(&worker.settings().logging);
        let line = is_recorded.then(|| (parts.method.clone(), parts.uri.clone()));
        let response = match build(parts, worker.head_limits(), &worker.last_host) {
            Ok(request) => {
                let io = &self.connection.io;
                request_log::record(&worker, &self.open.exchange, &request.request, &io.borrow().socket);
                self.continue_if_expected(&request, &body)?;
                self.call(app, request.request).await?
            }
            Err(error) => {
                self.record_rejected(line);
                match error {
                    RequestError::Rejected(response) => canned(response, self.is_head),
                    RequestError::Malformed => {
                        log::debug!("{}: reset a stream: malformed request", self.connection.peer_name());
                        return Err(self.reset(Reason::PROTOCOL_ERROR));
                    }
                }
            }
        };
        self.respond(response).await?;
        self.discard(body).await;
        Ok(())
    }

    /// Records the request line of a request that the App does not see.
    fn record_rejected(&mut self, line: Option<(http1::Method, http1::Uri)>) {
        let Some((method, uri)) = line else { return };
        let line = format!("{method} {uri} HTTP/2");
        let worker = &self.connection.worker;
        let socket = &self.connection.io.borrow().socket;
        request_log::record_rejected(worker, &self.open.exchange, line.as_bytes(), socket);
    }

    /// Sends `100 Continue` if the client waits for it before a body that is read past.
    fn continue_if_expected(
        &mut self,
        request: &StreamRequest,
        body: &RecvStream,
    ) -> Result<(), ExchangeOutcome> {
        let body_bytes = self.connection.worker.settings().requests.body_bytes.get();
        let is_short = request.length.is_none_or(|length| length <= body_bytes);
        let is_safe = request.request.method().is_safe();
        if !request.expects_continue || body.is_end_stream() || !is_short || !is_safe {
            return Ok(());
        }
        let mut head = http1::Response::new(());
        *head.status_mut() = http1::StatusCode::CONTINUE;
        self.respond.send_informational(head).map_err(|_| ExchangeOutcome::ClientGone)
    }

    /// Calls the App. A panic costs its stream alone.
    async fn call<S: AppService>(
        &mut self,
        app: &S,
        mut request: Request,
    ) -> Result<Response<BoxBody>, ExchangeOutcome> {
        request.head_mut().peer_addr = self.connection.peer;
        request.extensions_mut().insert(self.connection.transport);
        let mut response = pin!(app::call(app, request));
        poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => self.respond.poll_reset(cx).map(|_| Err(ExchangeOutcome::ClientGone)),
        })
        .await
    }

    /// Sends the App's response, or another one if the first bytes of its body can't be had.
    async fn respond(&mut self, mut response: Response<BoxBody>) -> Result<(), ExchangeOutcome> {
        let worker = Rc::clone(&self.connection.worker);
        let permit = if worker.limits.is_active() {
            response.extensions_mut().remove::<RequestPermit>()
        } else {
            None
        };
        self.client = permit.as_ref().map_or(self.connection.client, |permit| permit.key);
        let pacer = self.pacer(&response, permit.as_ref());
        let now = self.connection.io.borrow().now;
        request_log::record_response(&mut self.open.exchange, &response, Instant::now());
        let OutgoingResponse { head, body } = outgoing(response, self.is_head, &worker, now);
        let mut source = BodySource::of(body);
        // Held to the end of a long response. A short one is as good as sent.
        let _permit = permit.filter(|_| !source.is_in_memory());
        if !source.is_in_memory()
            && let Err(error) = self.wait_for_first(&mut source).await?
        {
            self.log_abort(&error, &source);
            if let Some(record) = self.open.exchange.record() {
                record.clear_response();
            }
            let response = error.replacement().ok_or_else(|| self.reset(Reason::INTERNAL_ERROR))?;
            let OutgoingResponse { head, body } =
                outgoing(canned(response, self.is_head), self.is_head, &worker, now);
            return self.send(head, &mut BodySource::of(body), None).await;
        }
        self.send(head, &mut source, pacer).await
    }

    /// The pacer of a response with a limited rate.
    fn pacer(&self, response: &Response<BoxBody>, permit: Option<&RequestPermit>) -> Option<PacedBy> {
        let ConnectionContext { worker, bucket, peer, paced, .. } = &*self.connection;
        if !worker.limits.bandwidth().is_limited() {
            return None;
        }
        let pace = pace_of(&worker.limits, response, permit, *peer);
        if pace == ResponsePace::default() {
            return None;
        }
        let mut pacer = Pacer::new(&worker.limits, Arc::clone(bucket));
        pacer.begin(pace, self.client, false);
        Some(PacedBy { pacer, _counted: Counted::new(paced) })
    }

    /// Sends a head and the body in `source`.
    async fn send(
        &mut self,
        mut head: http1::Response<()>,
        source: &mut BodySource,
        pacer: Option<PacedBy>,
    ) -> Result<(), ExchangeOutcome> {
        if let Some(id) = request_log::id_to_send(&mut self.open.exchange)
            && let Ok(id) = http1::HeaderValue::from_bytes(id)
        {
            head.headers_mut().insert("x-request-id", id);
        }
        self.open.exchange.status = head.status().as_u16();
        self.open.start = Some(self.connection.io.borrow().pushed);
        let is_end = source.is_empty();
        let stream = self.respond.send_response(head, is_end).map_err(|_| ExchangeOutcome::ClientGone)?;
        if is_end {
            return Ok(());
        }
        let sending = Sending {
            connection: &self.connection,
            stream,
            turn: self.connection.worker.bulk_scheduler.begin(),
            copy_slot: CopySlot::new(&self.connection.meter),
            source,
            open: &mut self.open,
            wait: &mut self.wait,
            client: self.client,
            pacer,
            without_window: None,
        };
        match sending.run().await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.log_abort(&error, source);
                let is_stalled = matches!(error, SendError::Stalled);
                self.reset(if is_stalled { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
                Err(error.outcome())
            }
        }
    }

    /// Waits until the first bytes of the body are there: until then another head can be sent.
    async fn wait_for_first(
        &mut self,
        source: &mut BodySource,
    ) -> Result<Result<(), SendError>, ExchangeOutcome> {
        let worker = Rc::clone(&self.connection.worker);
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
            self.wait.poll_overdue(cx, WaitKind::Disk, &mut self.open, source).map(|error| Ok(Err(error)))
        })
        .await
    }

    /// Reads past the body of the request. If it is too long or too slow, dropping it tells the client to stop.
    async fn discard(&mut self, mut body: RecvStream) {
        if body.is_end_stream() {
            return;
        }
        let (mut left, mut deadline) = {
            let settings = self.connection.worker.settings();
            let timeout = settings.connections.head_timeout.get();
            (settings.requests.body_bytes.get(), Deadline::after(Instant::now(), timeout))
        };
        while !body.is_end_stream() {
            let next = poll_fn(|cx| match body.poll_data(cx) {
                Poll::Ready(Some(Ok(bytes))) => Poll::Ready(Some(bytes.len())),
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => deadline.poll(cx).map(|()| None),
            });
            let Some(length) = next.await else { return };
            let Some(rest) = left.checked_sub(length as u64) else { return };
            left = rest;
            if body.flow_control().release_capacity(length).is_err() {
                return;
            }
        }
    }

    /// Resets the stream.
    fn reset(&mut self, reason: Reason) -> ExchangeOutcome {
        self.respond.send_reset(reason);
        if reason == Reason::PROTOCOL_ERROR {
            self.connection.io.borrow_mut().count_reset();
        }
        ExchangeOutcome::ClientGone
    }

    fn log_abort(&mut self, error: &SendError, source: &BodySource) {
        let request = request_log::id_suffix(Some(&mut self.open.exchange));
        let faults = &self.connection.worker.files.loader.faults;
        error.log(source.file(), faults, &request, || self.connection.peer_name());
    }
}
