//! Bodies: reads past those of requests, since none is served, and sends those that are generated while they are sent.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::connection::Http1Connection;
use crate::net::{BodyDiscarder, BodyFraming, DiscardProgress, ParsedHead, SendError, StreamFraming};
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome};

/// The body of a request.
pub(super) struct RequestBody {
    discarder: BodyDiscarder,
    /// It has not been read yet.
    pub(super) is_unread: bool,
    /// The client waits for `100 Continue`, and gets it.
    pub(super) wants_continue: bool,
    /// The connection may persist after the response.
    pub(super) may_persist: bool,
}

impl RequestBody {
    /// Bodies of at most `limit` bytes are read past. Only safe methods have a body read after `Expect: 100-continue`:
    /// for others the final response comes at once.
    pub(super) fn of(head: &ParsedHead, limit: u64) -> Self {
        let is_short = match head.framing {
            BodyFraming::Empty | BodyFraming::Chunked => true,
            BodyFraming::Length(length) => length <= limit,
        };
        let is_unread = head.framing != BodyFraming::Empty;
        let expects_continue = head.expects_continue && is_unread;
        let may_persist =
            head.keep_alive && is_short && (!expects_continue || head.request.method().is_safe());
        Self {
            discarder: BodyDiscarder::new(head.framing, limit.saturating_add(CHUNK_FRAMING_MAX)),
            is_unread,
            wants_continue: expects_continue && may_persist,
            may_persist,
        }
    }
}

impl Http1Connection {
    /// Reads past the body of a request.
    ///
    /// # Errors
    /// The outcome of an exchange that needs it, if what follows the body can't be trusted.
    pub(super) async fn discard(&mut self, body: &mut RequestBody) -> Result<(), ExchangeOutcome> {
        let timeout = self.context().settings().connections.head_timeout.get();
        self.deadline.set(Instant::now(), timeout);
        let mut last = std::mem::take(&mut self.input);
        let mut progress = body.discarder.feed(&last);
        while progress == DiscardProgress::More {
            last = poll_fn(|cx| self.poll_more(cx)).await?;
            progress = body.discarder.feed(&last);
        }
        let DiscardProgress::Done(used) = progress else { return Err(ExchangeOutcome::ClientGone) };
        self.input = last.split_off(used);
        body.is_unread = false;
        self.restart_idle_timeout();
        Ok(())
    }

    /// Waits for more input.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, ExchangeOutcome>> {
        let mut scratch = self.registration.context.scratch.borrow_mut();
        match self.socket.poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(length @ 1..)) => Poll::Ready(Ok(scratch[..length].to_vec())),
            Poll::Ready(_) => Poll::Ready(Err(ExchangeOutcome::ClientGone)),
            Poll::Pending => self.deadline.poll(cx).map(|()| Err(ExchangeOutcome::Stalled)),
        }
    }

    /// Sends `body` to its end.
    pub(super) async fn send_body(&mut self, body: BoxBody, framing: StreamFraming) -> Result<(), SendError> {
        let ends_by_close = framing == StreamFraming::UntilClose;
        if ends_by_close {
            // A clean end would say that such a body is complete: whatever aborts it, even a panic, must not look like
            // one.
            self.socket.reset_on_close(true);
        }
        self.send_chunks(body, framing).await?;
        self.exchanges.end_response(self.queue.pushed);
        if ends_by_close {
            self.flush().await?;
            self.socket.reset_on_close(false);
        }
        Ok(())
    }

    async fn send_chunks(&mut self, mut body: BoxBody, framing: StreamFraming) -> Result<(), SendError> {
        let mut left = match framing {
            StreamFraming::Length(length) => length,
            StreamFraming::Chunked | StreamFraming::UntilClose => u64::MAX,
        };
        let is_chunked = framing == StreamFraming::Chunked;
        while let Some(bytes) = self.next_chunk(&mut body).await? {
            if bytes.is_empty() {
                continue;
            }
            let length = bytes.len() as u64;
            left = left.checked_sub(length).ok_or(SendError::Changed)?;
            let start = self.queue.pushed;
            if is_chunked {
                self.queue.push(Bytes::from(format!("{length:x}\r\n")));
            }
            self.queue.push(bytes);
            if is_chunked {
                self.queue.push(Bytes::from_static(b"\r\n"));
                self.record_overhead(start, length);
            }
            self.now = Instant::now();
            self.flush().await?;
        }
        if matches!(framing, StreamFraming::Length(_)) && left > 0 {
            return Err(SendError::Changed);
        }
        if is_chunked {
            let start = self.queue.pushed;
            self.queue.push(Bytes::from_static(LAST_CHUNK));
            self.record_overhead(start, 0);
        }
        Ok(())
    }

    /// Waits for the next chunk of the body. A body that is not ready waits for a disk.
    async fn next_chunk(&mut self, body: &mut BoxBody) -> Result<Option<Bytes>, SendError> {
        let context = Rc::clone(self.context());
        self.deadline.set(Instant::now(), context.settings().sending.disk_timeout.get());
        poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *body).poll_next(cx) {
                self.exchanges.set_wait(Instant::now, None);
                return Poll::Ready(next.transpose().map_err(SendError::of_body));
            }
            self.exchanges.set_wait(Instant::now, Some(WaitKind::Disk));
            if self.socket.poll_broken(cx).is_ready() {
                return Poll::Ready(Err(SendError::reset()));
            }
            ready!(self.deadline.poll(cx));
            context.files.count_disk_timeout();
            Poll::Ready(Err(SendError::chunk_timeout()))
        })
        .await
    }

    /// Records how many of the bytes pushed since `start` are not among the `content` bytes of the body.
    pub(super) fn record_overhead(&mut self, start: u64, content: u64) {
        let pushed = self.queue.pushed.saturating_sub(start);
        if let Some(record) = self.exchanges.last().and_then(Exchange::record) {
            record.frame_bytes += pushed.saturating_sub(content);
        }
    }
}

/// Bytes that chunk sizes and trailers may take beside the bytes of a chunked body.
const CHUNK_FRAMING_MAX: u64 = 4096;

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
