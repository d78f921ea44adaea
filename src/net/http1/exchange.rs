//! One request and its response.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use actix_http::{HttpMessage, Request, Response};
use actix_web::body::BoxBody;
use bytes::Bytes;

use super::body::RequestBody;
use super::connection::{ConnectionEnd, Http1Connection};
use crate::http::method::Method;
use crate::http::transport_info::TransportInfo;
use crate::limits::bandwidth::ResponsePace;
use crate::limits::client_limits::RequestPermit;
use crate::net::{
    AppService, Framing, GeneratedBody, ParsedHead, ReceiveRate, ResponseParts, SendError, StreamFraming,
    app, pace_of, render, request_log,
};
use crate::telemetry::metrics::exchange::{Exchange, Protocol};

impl Http1Connection {
    /// Answers one request. Returns how the connection ends, or `None` if it persists.
    pub(super) async fn exchange<S: AppService>(
        &mut self,
        app: &S,
        head: ParsedHead,
    ) -> Result<Option<ConnectionEnd>, SendError> {
        self.begin_exchange(&head);
        let mut body = RequestBody::of(&head, self.context().settings().requests.body_bytes.get());
        if body.wants_continue {
            self.set_pace(ResponsePace::default()).await?;
            self.queue.push(Bytes::from_static(CONTINUE));
            self.flush().await?;
            if let Err(outcome) = self.discard(&mut body).await {
                return Ok(Some(self.abort(outcome, ConnectionEnd::Linger)));
            }
        }
        let ParsedHead { request, is_http10, is_head, .. } = head;
        let mut response = self.call(app, request).await;
        let permit = self.take_permit(&mut response);
        if self.context().limits.bandwidth.is_limited() || self.queue.is_paced() {
            let pace = pace_of(&self.context().limits, &response, permit.as_ref(), self.socket.peer);
            self.set_pace(pace).await?;
        }
        let mut keep_alive =
            body.may_persist && !self.context().is_retiring.get() && !self.registration.is_evicted();
        if let Some(exchange) = self.exchanges.last() {
            request_log::record_response(exchange, &response, self.now);
        }
        let rest = self.queue_response(response, Framing { is_head, is_http10, keep_alive });
        // All of the response is in the queue, and in memory.
        let is_short = rest.is_none() && self.queue.may_wait();
        // Held to the end of a long response. A short one is as good as sent: its client may have it, and send another
        // request elsewhere, before this thread goes on.
        let _permit = permit.filter(|_| !is_short);
        if let Some((content, framing)) = rest {
            keep_alive &= framing != StreamFraming::UntilClose;
            self.send_body(content, framing).await?;
        }
        self.finish_exchange(keep_alive, is_short, body).await
    }

    fn begin_exchange(&mut self, head: &ParsedHead) {
        let method = Method::classify(head.request.method().as_str().as_bytes());
        let protocol = if head.is_http10 { Protocol::Http10 } else { Protocol::Http11 };
        let exchange = Exchange::new(self.now, Some(method), protocol);
        request_log::record(self.context(), &exchange, &head.request, &self.socket);
        self.exchanges.begin(exchange, self.queue.pushed);
        self.receive_rate = ReceiveRate::default();
    }

    /// Calls the App. A panic costs its request alone.
    async fn call<S: AppService>(&mut self, app: &S, mut request: Request) -> Response<BoxBody> {
        request.head_mut().peer_addr = self.socket.peer;
        if self.socket.is_encrypted() {
            request.extensions_mut().insert(TransportInfo { is_secure: true, is_copied: true });
        }
        let mut response = pin!(app::call(app, request));
        let mut has_waited = false;
        let response = poll_fn(|cx| {
            let polled = response.as_mut().poll(cx);
            has_waited |= polled.is_pending();
            polled
        })
        .await;
        if has_waited {
            self.now = Instant::now();
        }
        response
    }

    /// Takes the permit that the limits attached to the response: its client, and its count among the requests under
    /// way.
    fn take_permit(&mut self, response: &mut Response<BoxBody>) -> Option<RequestPermit> {
        if !self.context().limits.is_active() {
            return None;
        }
        let permit = response.extensions_mut().remove::<RequestPermit>();
        self.queue.client = permit.as_ref().map_or(self.peer, |permit| permit.key);
        permit
    }

    /// Puts the response into the queue, except for a streamed body.
    pub(super) fn queue_response(
        &mut self,
        response: Response<BoxBody>,
        framing: Framing,
    ) -> Option<GeneratedBody> {
        let context = Rc::clone(self.context());
        self.queue.begin_response();
        let start = self.queue.pushed;
        self.exchanges.begin_response(response.status().as_u16(), start);
        let content = request_log::content_length(&response, framing.is_head);
        let parts = ResponseParts::of(response);
        let connection = framing.connection_line(&parts);
        self.queue.push(context.status_lines.lines(self.now, parts.response.status(), connection));
        if let Some(id_line) = self.exchanges.last().and_then(request_log::id_line) {
            self.queue.push(id_line);
        }
        let rest = render(parts, framing, &mut self.queue);
        self.record_overhead(start, if rest.is_none() { content } else { 0 });
        if rest.is_none() {
            self.exchanges.end_response(self.queue.pushed);
        }
        rest
    }

    /// Sends what must be sent before the next request is read, and reads past the request's body.
    async fn finish_exchange(
        &mut self,
        keep_alive: bool,
        is_short: bool,
        mut body: RequestBody,
    ) -> Result<Option<ConnectionEnd>, SendError> {
        if !keep_alive {
            self.flush().await?;
            // A long response takes time to arrive: input that comes meanwhile would destroy it.
            let is_quiet = self.input.is_empty() && !body.is_unread && is_short;
            return Ok(Some(if is_quiet { ConnectionEnd::Close } else { ConnectionEnd::Linger }));
        }
        if body.is_unread {
            self.flush().await?;
            return Ok(self.discard(&mut body).await.is_err().then_some(ConnectionEnd::Linger));
        }
        // A pipelined request that is complete is answered first: small responses are sent together.
        if self.input.is_empty() || !self.queue.may_wait() || !self.has_whole_head() {
            self.flush().await?;
        }
        Ok(None)
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
