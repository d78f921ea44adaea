//! Sends the body of an HTTP/2 response, one chunk after the other.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use h2::SendStream;

use super::chunk::{BodyChunk, CopySlot};
use super::context::{ConnectionContext, Counted};
use super::open_stream::OpenStream;
use super::source::BodySource;
use super::wait::Wait;
use crate::http::client_key::ClientKey;
use crate::net::{BUFFER, BulkTurn, Pacer, SendError};
use crate::telemetry::access_log::record::WaitKind;

/// The pacer of a response under way, counted among those of the connection.
pub(super) struct PacedBy {
    pub(super) pacer: Pacer,
    pub(super) _counted: Counted,
}

/// A body under way.
pub(super) struct Sending<'a> {
    pub(super) connection: &'a ConnectionContext,
    pub(super) stream: SendStream<BodyChunk>,
    pub(super) source: &'a mut BodySource,
    pub(super) open: &'a mut OpenStream,
    pub(super) wait: &'a mut Wait,
    pub(super) client: ClientKey,
    pub(super) pacer: Option<PacedBy>,
    pub(super) turn: BulkTurn,
    pub(super) copy_slot: CopySlot,
    /// Counts the stream while it waits for a flow-control window.
    pub(super) without_window: Option<Counted>,
}

/// The result of one step.
enum SendStep {
    Sent,
    Done,
    Waits(WaitKind),
}

impl Sending<'_> {
    /// Sends the body to its end.
    pub(super) async fn run(mut self) -> Result<(), SendError> {
        let is_short = self.source.is_in_memory();
        let sent = poll_fn(|cx| self.poll_send(cx)).await;
        self.without_window = None;
        self.open.note_cold(self.source);
        self.connection.worker.bulk_scheduler.end(&self.turn);
        sent?;
        if is_short {
            return Ok(());
        }
        // The permit of a long response is held until frames have taken all of it.
        self.wait.end(self.open);
        poll_fn(|cx| match self.open.meter.poll_empty(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.wait.poll_overdue(cx, WaitKind::Client, self.open, self.source).map(Err),
        })
        .await
    }

    /// Sends chunks, each once there is room for it on its whole way.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.open.note_first_byte();
        loop {
            let kind = match self.next_step(cx)? {
                SendStep::Sent => {
                    self.wait.end(self.open);
                    self.without_window = None;
                    continue;
                }
                SendStep::Done => return Poll::Ready(Ok(())),
                SendStep::Waits(kind) => kind,
            };
            if kind != WaitKind::Client {
                self.without_window = None;
                // Leaves a window that it does not use to other streams.
                self.stream.reserve_capacity(0);
            } else if self.without_window.is_none() {
                self.without_window = Some(Counted::new(&self.connection.without_window));
            }
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(SendError::reset()));
            }
            self.open.list_waiting(self.client, self.source);
            return self.wait.poll_overdue(cx, kind, self.open, self.source).map(Err);
        }
    }

    fn next_step(&mut self, cx: &mut Context<'_>) -> Result<SendStep, SendError> {
        if self.source.is_empty() {
            return Ok(SendStep::Done);
        }
        if self.open.meter.poll_low(cx).is_pending() {
            return Ok(SendStep::Waits(WaitKind::Client));
        }
        let Poll::Ready(there) = self.source.poll_ready(cx, &self.connection.worker, self.client)? else {
            return Ok(SendStep::Waits(WaitKind::Disk));
        };
        if there == 0 {
            return self.send_data(BodyChunk::empty(&self.open.meter), true).map(|()| SendStep::Done);
        }
        let Poll::Ready(allowed) = self.poll_allowed(cx) else {
            return Ok(SendStep::Waits(WaitKind::Throttle));
        };
        let Poll::Ready(length) = self.poll_window(cx, there.min(BUFFER).min(allowed))? else {
            self.copy_slot.leave();
            return Ok(SendStep::Waits(WaitKind::Client));
        };
        self.send_chunk(length)?;
        Ok(SendStep::Sent)
    }

    /// Waits until the pace, the bulk scheduler and the copies under way allow a chunk. Returns its length at most.
    fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut allowed = usize::MAX;
        if let Some(by) = &mut self.pacer {
            allowed = ready!(by.pacer.poll(cx, self.source.left()));
        }
        let scheduler = &self.connection.worker.bulk_scheduler;
        allowed = allowed.min(ready!(scheduler.poll(cx, &mut self.turn, self.client)));
        if self.source.is_window() {
            ready!(self.copy_slot.poll(cx));
        }
        Poll::Ready(allowed)
    }

    /// Waits for a flow-control window. Returns how many of `length` bytes it has room for.
    fn poll_window(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<Result<usize, SendError>> {
        self.stream.reserve_capacity(length);
        let mut room = self.stream.capacity();
        while room == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => room = self.stream.capacity(),
                Some(Err(_)) | None => return Poll::Ready(Err(SendError::reset())),
            }
        }
        Poll::Ready(Ok(length.min(room)))
    }

    fn send_chunk(&mut self, length: usize) -> Result<(), SendError> {
        let bytes = self.source.take(length, &self.connection.worker)?;
        let length = bytes.len();
        self.send_data(BodyChunk::new(bytes, &self.open.meter), self.source.is_empty())?;
        self.copy_slot.leave();
        self.turn.spend(length);
        if let Some(by) = &mut self.pacer {
            by.pacer.spend(length);
        }
        Ok(())
    }

    fn send_data(&mut self, chunk: BodyChunk, is_end: bool) -> Result<(), SendError> {
        self.stream.send_data(chunk, is_end).map_err(|_| SendError::reset())
    }
}
