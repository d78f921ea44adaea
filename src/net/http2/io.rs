//! The socket as the frames of a connection see it: read in large pieces, written once a turn.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::http2::flood_guard::{ConnectionError, FloodGuard};
use crate::net::socket::Socket;
use crate::net::worker::Worker;

/// A socket, what came from it and is not read yet, and what waits to leave by it.
pub(super) struct FrameIo {
    pub(super) socket: Socket,
    pub(super) watch: FloodGuard,
    /// Bytes that have arrived, from `taken` on not yet handed on.
    arrived: Vec<u8>,
    taken: usize,
    /// Bytes that wait to leave: before `taken_of_waiting` the socket has taken them, before `sent_of_waiting` they have left.
    waiting: Vec<u8>,
    taken_of_waiting: usize,
    sent_of_waiting: usize,
    /// Bytes that were ever written, and of these the ones that have left.
    pushed: u64,
    sent: u64,
    /// Bytes that may still be read in this turn.
    allowance: usize,
    /// When bytes last arrived or left.
    pub(super) now: Instant,
    /// Why the connection is to end.
    breach: Option<ConnectionError>,
    /// A write found no room.
    is_blocked: bool,
    is_at_end: bool,
}

impl FrameIo {
    /// A link over `socket`, from which `arrived` was read already.
    pub(super) fn new(socket: Socket, arrived: Vec<u8>, watch: FloodGuard, now: Instant) -> Self {
        let mut link = Self {
            socket,
            watch,
            arrived,
            taken: 0,
            waiting: Vec::new(),
            taken_of_waiting: 0,
            sent_of_waiting: 0,
            pushed: 0,
            sent: 0,
            allowance: READ_IN_TURN,
            now,
            breach: None,
            is_blocked: false,
            is_at_end: false,
        };
        let arrived = std::mem::take(&mut link.arrived);
        let kept = link.inspect(&arrived);
        link.arrived = arrived;
        link.arrived.truncate(kept);
        link
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.allowance = READ_IN_TURN;
    }

    /// Whether the turn ended because it had read enough: more may be there.
    pub(super) fn has_read_enough(&self) -> bool {
        self.allowance == 0
    }

    /// Why the connection is to end, told once.
    pub(super) fn take_breach(&mut self) -> Option<ConnectionError> {
        self.breach.take().inspect(|_| self.is_at_end = true)
    }

    /// A stream was reset for what the client did.
    pub(super) fn count_reset(&mut self) {
        if let Err(why) = self.watch.reset(self.now) {
            self.breach.get_or_insert(why);
        }
    }

    /// Where what is written next begins among all that ever is.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How much of that has left.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How much of it the client has taken, as far as the system can tell.
    pub(super) fn taken(&self) -> u64 {
        self.sent.saturating_sub(self.socket.untaken().unwrap_or(0) as u64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.pushed
    }

    /// Whether a write found no room since this was last asked.
    pub(super) fn take_blocked(&mut self) -> bool {
        std::mem::take(&mut self.is_blocked)
    }

    /// Sends what waits. Ready once nothing does.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let left = &self.waiting[self.taken_of_waiting..];
            if !left.is_empty() {
                self.taken_of_waiting += ready!(self.socket.poll_send(cx, &[IoSlice::new(left)]))?;
            }
            // What a session has taken has not left yet.
            ready!(self.socket.poll_drain(cx))?;
            self.note(self.taken_of_waiting - self.sent_of_waiting);
            self.sent_of_waiting = self.taken_of_waiting;
        }
        self.waiting.clear();
        (self.taken_of_waiting, self.sent_of_waiting) = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// Nothing is under way: buffers are given back.
    pub(super) fn release(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        if self.taken == self.arrived.len() {
            (self.arrived, self.taken) = (Vec::new(), 0);
        }
    }

    fn note(&mut self, sent: usize) {
        self.sent += sent as u64;
        self.watch.sent(sent);
        self.now = Instant::now();
    }

    /// How many of `bytes` may be handed on.
    fn inspect(&mut self, bytes: &[u8]) -> usize {
        let (kept, breach) = self.watch.see(bytes, self.now);
        self.breach = self.breach.or(breach);
        kept
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        if self.taken < self.arrived.len() {
            let left = &self.arrived[self.taken..];
            let length = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..length]);
            self.taken += length;
            return Poll::Ready(Ok(()));
        }
        if self.is_at_end {
            return Poll::Ready(Ok(()));
        }
        if self.breach.is_some() || self.allowance == 0 {
            return Poll::Pending;
        }
        let room = scratch.len().min(READ_AT_ONCE);
        let length = ready!(self.socket.poll_read(cx, &mut scratch[..room]))?;
        self.now = Instant::now();
        self.allowance = self.allowance.saturating_sub(length);
        let kept = self.inspect(&scratch[..length]);
        let at_once = kept.min(buffer.remaining());
        buffer.put_slice(&scratch[..at_once]);
        self.arrived.clear();
        self.taken = 0;
        self.arrived.extend_from_slice(&scratch[at_once..kept]);
        // Nothing to hand on is not the end.
        if length > 0 && kept == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.waiting.len() - self.sent_of_waiting >= WAITING {
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if self.waiting.len() - self.sent_of_waiting >= WAITING {
                self.is_blocked = true;
                return Poll::Pending;
            }
        }
        if self.sent_of_waiting > WAITING {
            self.waiting.drain(..self.sent_of_waiting);
            self.taken_of_waiting -= self.sent_of_waiting;
            self.sent_of_waiting = 0;
        }
        let before = self.waiting.len();
        slices.iter().for_each(|slice| self.waiting.extend_from_slice(slice));
        let length = self.waiting.len() - before;
        self.pushed += length as u64;
        Poll::Ready(Ok(length))
    }
}

/// The link as something to read from and write to. Flushing is left to the end of the turn.
pub(super) struct Io<S> {
    link: Rc<RefCell<FrameIo>>,
    worker: Rc<Worker<S>>,
}

impl<S> Io<S> {
    pub(super) fn new(link: Rc<RefCell<FrameIo>>, worker: Rc<Worker<S>>) -> Self {
        Self { link, worker }
    }
}

impl<S> AsyncRead for Io<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link.borrow_mut().poll_read(cx, buffer, &mut self.worker.scratch.borrow_mut())
    }
}

impl<S> AsyncWrite for Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.link.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready at once: what was written leaves at the end of the turn, or where there is too much of it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.link.borrow_mut();
        ready!(link.poll_send(cx))?;
        link.socket.shutdown();
        Poll::Ready(Ok(()))
    }
}

/// What waits to leave before more is taken, and one frame.
const WAITING: usize = 128 * 1024;

/// What one read takes at most.
const READ_AT_ONCE: usize = 64 * 1024;

/// What is read of one connection before others have their turn.
const READ_IN_TURN: usize = 128 * 1024;
