//! One request and its response.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use actix_http::{HttpMessage, Request, Response};
use actix_web::body::BoxBody;

use super::connection::{ConnectionEnd, Http1Connection};
use super::request_body::RequestBody;
use crate::http::method::Method;
use crate::http::transport_info::TransportInfo;
use crate::limits::client_limits::RequestPermit;
use crate::net::{
    AfterHead, AppService, Framing, HeadPrefix, ParsedHead, ReceiveRate, SendError, StreamFraming, app,
    pace_of, render, request_log,
};
use crate::telemetry::metrics::exchange::{Exchange, Protocol};

/// How the response to a request was put into the queue.
struct ResponseEnd {
    /// The connection persists.
    keep_alive: bool,
    /// All of the response was in the queue at once, and in memory.
    is_short: bool,
}

impl Http1Connection {
    /// Answers one request. Returns how the connection ends, or `None` if it persists.
    pub(super) async fn exchange<S: AppService>(
        &mut self,
        app: &S,
        head: ParsedHead,
    ) -> Result<Option<ConnectionEnd>, SendError> {
        self.begin_exchange(&head);
        let mut body = RequestBody::of(&head, self.context().settings().requests.body_bytes.get());
        if body.wants_continue
            && let Err(outcome) = self.continue_and_discard(&mut body).await?
        {
            return Ok(Some(self.abort(outcome, ConnectionEnd::Linger)));
        }
        let ParsedHead { request, is_http10, is_head, .. } = head;
        let mut response = self.call(app, request).await;
        let permit = self.take_permit(&mut response);
        if self.context().limits.bandwidth().is_limited() || self.queue.is_paced() {
            let pace = pace_of(&self.context().limits, &response, permit.as_ref(), self.socket.peer);
            self.set_pace(pace).await?;
        }
        let keep_alive = body.may_persist && !self.context().is_retiring() && !self.registration.is_evicted();
        let rest = self.queue_response(response, Framing { is_head, is_http10, keep_alive });
        let is_short = matches!(rest, AfterHead::Nothing) && self.queue.may_wait();
        // Held to the end of a long response. A short one is as good as sent: its client may have it, and send another
        // request elsewhere, before this thread goes on.
        let _permit = permit.filter(|_| !is_short);
        let mut end = ResponseEnd { keep_alive, is_short };
        if let AfterHead::Stream(content, framing) = rest {
            end.keep_alive &= framing != StreamFraming::UntilClose;
            self.send_stream(content, framing).await?;
        }
        self.finish_exchange(end, body).await
    }

    fn begin_exchange(&mut self, head: &ParsedHead) {
        // The usual method needs no look-up.
        let method = match head.request.method() {
            method if *method == actix_http::Method::GET => Method::Get,
            method => Method::classify(method.as_str().as_bytes()),
        };
        let protocol = if head.is_http10 { Protocol::Http10 } else { Protocol::Http11 };
        let exchange = Exchange::new(self.now, Some(method), protocol);
        let context = self.context();
        let record = context.log_options().record(&head.request, self.socket.peer, &context.limits);
        exchange.record.set(self.with_tls(record));
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
    fn queue_response(&mut self, response: Response<BoxBody>, framing: Framing) -> AfterHead {
        let context = Rc::clone(self.context());
        self.queue.begin_response();
        let start = self.queue.pushed;
        self.exchanges.begin_response(response.status().as_u16(), start);
        let now = self.now;
        let id_line = self.exchanges.last_record().and_then(|(record, began)| {
            request_log::record_response(record, &response, began, now);
            request_log::id_line(record)
        });
        let content = request_log::content_length(&response, framing.is_head);
        let prefix = HeadPrefix { status_lines: &context.status_lines, now, id_line };
        let rest = render(response, framing, prefix, &mut self.queue);
        match rest {
            AfterHead::Nothing => {
                self.note_overhead(start, content);
                self.exchanges.end_response(self.queue.pushed);
            }
            AfterHead::Stream(..) => self.note_overhead(start, 0),
        }
        rest
    }

    /// Sends what must be sent before the next request is read, and reads past the request's body.
    async fn finish_exchange(
        &mut self,
        end: ResponseEnd,
        mut body: RequestBody,
    ) -> Result<Option<ConnectionEnd>, SendError> {
        if !end.keep_alive {
            self.flush().await?;
            // A long response takes time to arrive: input that comes meanwhile would destroy it.
            let is_quiet = self.input.is_empty() && !body.is_unread && end.is_short;
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
