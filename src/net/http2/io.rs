//! The socket as `h2` sees it: read in large pieces, written once per poll of the connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::http2::flood_guard::{ConnectionError, FloodGuard};
use crate::net::{Socket, WorkerContext};

/// A socket with the bytes received and not read yet, and the bytes written and not sent yet.
pub(super) struct FrameIo {
    pub(super) socket: Socket,
    pub(super) flood_guard: FloodGuard,
    /// Bytes received that `h2` has not read.
    arrived: BytesMut,
    /// Bytes written and not sent.
    waiting: BytesMut,
    /// How many of them a session has taken.
    taken_of_waiting: usize,
    /// Position at which the next write begins, in bytes since the connection began.
    pub(super) pushed: u64,
    /// Bytes that may still be read in this poll. At 0 more may be there.
    pub(super) allowance: usize,
    /// When bytes last arrived or were sent.
    pub(super) now: Instant,
    /// Why the connection must end.
    violation: Option<ConnectionError>,
    /// A write was refused since too much is waiting.
    pub(super) is_blocked: bool,
    is_at_end: bool,
}

impl FrameIo {
    /// `arrived` was read from `socket` already.
    pub(super) fn new(socket: Socket, arrived: &[u8], flood_guard: FloodGuard, now: Instant) -> Self {
        let mut io = Self {
            socket,
            flood_guard,
            arrived: BytesMut::new(),
            waiting: BytesMut::new(),
            taken_of_waiting: 0,
            pushed: 0,
            allowance: READ_PER_POLL,
            now,
            violation: None,
            is_blocked: false,
            is_at_end: false,
        };
        let kept = io.inspect(arrived);
        io.arrived.extend_from_slice(&arrived[..kept]);
        io
    }

    /// Returns once why the connection must end.
    pub(super) fn take_violation(&mut self) -> Option<ConnectionError> {
        self.violation.take().inspect(|_| self.is_at_end = true)
    }

    /// Counts a stream that was reset because of its client.
    pub(super) fn count_reset(&mut self) {
        if let Err(error) = self.flood_guard.reset(self.now) {
            self.violation.get_or_insert(error);
        }
    }

    /// Position up to which the client has taken everything, as far as the system knows.
    pub(super) fn taken(&self) -> u64 {
        self.sent().saturating_sub(self.socket.untaken().unwrap_or(0) as u64)
    }

    /// Position up to which everything was sent.
    pub(super) fn sent(&self) -> u64 {
        self.pushed - self.waiting.len() as u64
    }

    /// True if everything was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits. Ready once everything was sent.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let left = &self.waiting[self.taken_of_waiting..];
            if !left.is_empty() {
                self.taken_of_waiting += ready!(self.socket.poll_send(cx, left))?;
            }
            // What a session has taken was not sent yet.
            ready!(self.socket.poll_drain(cx))?;
            let sent = std::mem::take(&mut self.taken_of_waiting);
            self.waiting.advance(sent);
            self.flood_guard.sent(sent);
            self.now = Instant::now();
        }
        Poll::Ready(Ok(()))
    }

    /// Frees the buffers of an idle connection.
    pub(super) fn release(&mut self) {
        for buffer in [&mut self.waiting, &mut self.arrived] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Returns how many of `bytes` `h2` may read.
    fn inspect(&mut self, bytes: &[u8]) -> usize {
        let (kept, violation) = self.flood_guard.inspect(bytes, self.now);
        self.violation = self.violation.or(violation);
        kept
    }
}

/// [`FrameIo`] as a stream to read from and write to. The connection flushes at the end of its poll.
pub(super) struct Io {
    pub(super) io: Rc<RefCell<FrameIo>>,
    pub(super) worker: Rc<WorkerContext>,
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let io = &mut *self.io.borrow_mut();
        if !io.arrived.is_empty() {
            let length = io.arrived.len().min(buffer.remaining());
            buffer.put_slice(&io.arrived[..length]);
            io.arrived.advance(length);
            return Poll::Ready(Ok(()));
        }
        if io.is_at_end {
            return Poll::Ready(Ok(()));
        }
        if io.violation.is_some() || io.allowance == 0 {
            return Poll::Pending;
        }
        let scratch = &mut *self.worker.scratch.borrow_mut();
        let room = scratch.len().min(READ_AT_ONCE);
        let length = ready!(io.socket.poll_read(cx, &mut scratch[..room]))?;
        io.now = Instant::now();
        io.allowance = io.allowance.saturating_sub(length);
        let kept = io.inspect(&scratch[..length]);
        let at_once = kept.min(buffer.remaining());
        buffer.put_slice(&scratch[..at_once]);
        io.arrived.extend_from_slice(&scratch[at_once..kept]);
        // Without bytes to hand on this is not the end.
        if length > 0 && kept == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let io = &mut *self.io.borrow_mut();
        if io.waiting.len() >= WAITING {
            let _ = io.poll_send(cx)?;
            io.is_blocked = io.waiting.len() >= WAITING;
            if io.is_blocked {
                return Poll::Pending;
            }
        }
        io.waiting.extend_from_slice(bytes);
        io.pushed += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Ready at once: what was written is sent at the end of the poll, or once there is too much of it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        ready!(io.poll_send(cx))?;
        io.socket.shutdown();
        Poll::Ready(Ok(()))
    }
}

/// Bytes that may wait before a write is refused, beside one frame.
const WAITING: usize = 128 * 1024;

/// Bytes of one read.
const READ_AT_ONCE: usize = 64 * 1024;

/// Bytes read of one connection before other connections are served.
pub(super) const READ_PER_POLL: usize = 128 * 1024;
