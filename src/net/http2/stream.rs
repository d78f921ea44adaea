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

use super::chunk::BodyChunk;
use super::open_stream::{ConnectionContext, OpenStream};
use super::request::{RequestError, build};
use super::response::outgoing;
use super::sending::{CountedPacer, Sending};
use super::source::BodySource;
use crate::http::method::Method;
use crate::http::transport_info::TransportInfo;
use crate::limits::bandwidth::ResponsePace;
use crate::limits::client_limits::RequestPermit;
use crate::net::{AppService, Deadline, FramingHeaders, Pacer, SendError, app, canned, pace_of, request_log};
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::{Exchange, Protocol};

/// A request as `h2` hands it over, and the stream on which it is answered.
pub(super) type IncomingStream = (http1::Request<RecvStream>, SendResponse<BodyChunk>);

/// Answers one request with `app`. The returned stream is kept until its response was sent.
pub(super) async fn serve<S: AppService>(
    app: &S,
    connection: Rc<ConnectionContext>,
    (request, respond): IncomingStream,
) -> OpenStream {
    let now = connection.io.borrow().now;
    let (parts, body) = request.into_parts();
    let method = Method::classify(parts.method.as_str().as_bytes());
    let open = OpenStream::new(connection, Exchange::new(now, Some(method), Protocol::Http2));
    let mut stream = Stream { respond, open, is_head: method == Method::Head };
    if let Err(error) = stream.exchange(app, parts, body).await {
        stream.open.outcome = Some(error.outcome());
    }
    stream.open
}

struct Stream {
    respond: SendResponse<BodyChunk>,
    open: OpenStream,
    is_head: bool,
}

impl Stream {
    async fn exchange<S: AppService>(
        &mut self,
        app: &S,
        parts: http1::request::Parts,
        body: RecvStream,
    ) -> Result<(), SendError> {
        let ConnectionContext { worker, io, .. } = &*Rc::clone(&self.open.connection);
        let is_recorded = request_log::is_on(&worker.settings().logging);
        let line = is_recorded.then(|| (parts.method.clone(), parts.uri.clone()));
        let response = match build(parts, worker.head_limits(), &worker.last_host) {
            Ok((request, framing)) => {
                request_log::record(worker, &self.open.exchange, &request, &io.borrow().socket);
                self.continue_if_expected(&request, &framing, &body)?;
                self.call(app, request).await?
            }
            Err(error) => {
                // The request line of a request that the App does not see.
                if let Some((method, uri)) = line {
                    let (line, exchange) = (format!("{method} {uri} HTTP/2"), &self.open.exchange);
                    request_log::record_rejected(worker, exchange, line.as_bytes(), &io.borrow().socket);
                }
                match error {
                    RequestError::Rejected(response) => canned(response, self.is_head),
                    RequestError::Malformed => {
                        log::debug!(
                            "{}: reset a stream: malformed request",
                            self.open.connection.peer_name()
                        );
                        self.respond.send_reset(Reason::PROTOCOL_ERROR);
                        io.borrow_mut().count_reset();
                        return Err(SendError::reset());
                    }
                }
            }
        };
        self.respond(response).await?;
        self.discard(body).await;
        Ok(())
    }

    /// Sends `100 Continue` if the client waits for it before a body that is read past.
    fn continue_if_expected(
        &mut self,
        request: &Request,
        framing: &FramingHeaders,
        body: &RecvStream,
    ) -> Result<(), SendError> {
        // The length is 0 if the client does not give it.
        let is_short = framing.length <= self.open.connection.worker.settings().requests.body_bytes.get();
        if !framing.expects_continue || body.is_end_stream() || !is_short || !request.method().is_safe() {
            return Ok(());
        }
        let mut head = http1::Response::new(());
        *head.status_mut() = http1::StatusCode::CONTINUE;
        Ok(self.respond.send_informational(head)?)
    }

    /// Calls the App. A panic costs its stream alone.
    async fn call<S: AppService>(
        &mut self,
        app: &S,
        mut request: Request,
    ) -> Result<Response<BoxBody>, SendError> {
        let ConnectionContext { peer, io, .. } = &*self.open.connection;
        request.head_mut().peer_addr = *peer;
        let is_secure = io.borrow().socket.is_encrypted();
        request.extensions_mut().insert(TransportInfo { is_secure, is_copied: true });
        let mut response = pin!(app::call(app, request));
        poll_fn(|cx| match response.as_mut().poll(cx) {
            Poll::Ready(response) => Poll::Ready(Ok(response)),
            Poll::Pending => self.respond.poll_reset(cx).map(|_| Err(SendError::reset())),
        })
        .await
    }

    /// Sends the App's response, or another one if the first bytes of its body can't be had.
    async fn respond(&mut self, mut response: Response<BoxBody>) -> Result<(), SendError> {
        let ConnectionContext { worker, client, io, .. } = &*Rc::clone(&self.open.connection);
        let is_limited = worker.limits.is_active();
        let permit = is_limited.then(|| response.extensions_mut().remove::<RequestPermit>()).flatten();
        self.open.client = permit.as_ref().map_or(*client, |permit| permit.key);
        let pacer = self.pacer(&response, permit.as_ref());
        let now = io.borrow().now;
        request_log::record_response(&mut self.open.exchange, &response, Instant::now());
        let (head, mut source) = outgoing(response, self.is_head, worker, now);
        // Held to the end of a long response. A short one is as good as sent.
        let _permit = permit.filter(|_| !source.is_in_memory());
        if !source.is_in_memory()
            && let Err(error) = self.wait_for_first(&mut source).await
        {
            let Some(response) = error.replacement() else { return Err(error) };
            self.log_abort(&error, &source);
            if let Some(record) = self.open.exchange.record() {
                record.clear_response();
            }
            let (head, source) = outgoing(canned(response, self.is_head), self.is_head, worker, now);
            return self.send(head, source, None).await;
        }
        self.send(head, source, pacer).await
    }

    /// The pacer of a response with a limited rate.
    fn pacer(&self, response: &Response<BoxBody>, permit: Option<&RequestPermit>) -> Option<CountedPacer> {
        let ConnectionContext { worker, bucket, peer, paced, .. } = &*self.open.connection;
        if !worker.limits.bandwidth.is_limited() {
            return None;
        }
        let pace = pace_of(&worker.limits, response, permit, *peer);
        if pace == ResponsePace::default() {
            return None;
        }
        let mut pacer = Pacer::new(&worker.limits, Arc::clone(bucket));
        pacer.begin(pace, self.open.client, false);
        Some((pacer, Rc::clone(paced)))
    }

    /// Sends a head and the body in `source`.
    async fn send(
        &mut self,
        mut head: http1::Response<()>,
        mut source: BodySource,
        pacer: Option<CountedPacer>,
    ) -> Result<(), SendError> {
        if let Some(id) = request_log::id_to_send(&mut self.open.exchange)
            && let Ok(id) = http1::HeaderValue::from_bytes(id)
        {
            head.headers_mut().insert("x-request-id", id);
        }
        self.open.exchange.status = head.status().as_u16();
        self.open.start = Some(self.open.connection.io.borrow().pushed);
        let is_end = source.is_empty();
        let stream = self.respond.send_response(head, is_end)?;
        if is_end {
            return Ok(());
        }
        let sent = Sending::new(stream, &mut source, &mut self.open, pacer).run().await;
        sent.inspect_err(|error| {
            self.log_abort(error, &source);
            let is_stalled = matches!(error, SendError::Stalled);
            self.respond.send_reset(if is_stalled { Reason::CANCEL } else { Reason::INTERNAL_ERROR });
        })
    }

    /// Waits until the first bytes of the body are there: until then another head can be sent.
    async fn wait_for_first(&mut self, source: &mut BodySource) -> Result<(), SendError> {
        let worker = Rc::clone(&self.open.connection.worker);
        let mut has_waited = false;
        poll_fn(|cx| {
            match source.poll_ready(cx, &worker, self.open.client) {
                Poll::Ready(Ok(_)) if has_waited => return Poll::Ready(source.check(&worker)),
                Poll::Ready(ready) => return Poll::Ready(ready.map(drop)),
                Poll::Pending => has_waited = true,
            }
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(SendError::reset()));
            }
            self.open.poll_overdue(cx, WaitKind::Disk, source).map(Err)
        })
        .await
    }

    /// Reads past the body of the request. If it is too long or too slow, dropping it tells the client to stop.
    async fn discard(&self, mut body: RecvStream) {
        if body.is_end_stream() {
            return;
        }
        let (mut left, mut deadline) = {
            let settings = self.open.connection.worker.settings();
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

    fn log_abort(&mut self, error: &SendError, source: &BodySource) {
        let request = request_log::id_suffix(Some(&mut self.open.exchange));
        let connection = &self.open.connection;
        error.log(source.file(), &connection.worker.files.loader.faults, &request, || connection.peer_name());
    }
}
