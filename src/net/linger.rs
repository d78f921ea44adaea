//! Reads on after the last response, so that the close is no reset (RFC 9112 §9.6).

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::net::{Deadline, Socket};

/// Discards what a client still sends: a reset could destroy the response on its way to it.
pub(super) struct Linger {
    pub(super) deadline: Deadline,
    /// Bytes that may still be discarded.
    left: usize,
}

impl Linger {
    /// Discards at most `limit` bytes within `timeout`.
    pub(super) fn new(limit: usize, timeout: Duration) -> Self {
        Self { deadline: Deadline::after(Instant::now(), timeout), left: limit }
    }

    /// Ready once the client has closed, or a bound is reached.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &mut Socket, scratch: &mut [u8]) -> Poll<()> {
        while self.left > 0 {
            match socket.poll_read(cx, scratch) {
                Poll::Ready(Ok(length @ 1..)) => self.left = self.left.saturating_sub(length),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.deadline.poll(cx),
            }
        }
        Poll::Ready(())
    }
}
