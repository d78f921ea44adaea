//! Reads past the body of a request: none is served.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use super::connection::Http1Connection;
use crate::net::{BodyDiscarder, BodyFraming, DiscardProgress, ParsedHead};
use crate::telemetry::metrics::exchange::ExchangeOutcome;

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
    /// Reads past the body.
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
}

/// Bytes that chunk sizes and trailers may take beside the bytes of a chunked body.
const CHUNK_FRAMING_MAX: u64 = 4096;
