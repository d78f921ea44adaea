//! Sends the body of an HTTP/2 response, one chunk after the other.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::SendStream;

use super::chunk::{BodyChunk, CopySlot, LOW};
use super::open_stream::OpenStream;
use super::source::BodySource;
use crate::net::{BUFFER, BulkTurn, Pacer, SendError};
use crate::telemetry::access_log::record::WaitKind;

/// The pacer of a response with a limited rate, and what counts it among those of the connection.
pub(super) type CountedPacer = (Pacer, Rc<()>);

/// A body under way.
pub(super) struct Sending<'a> {
    stream: SendStream<BodyChunk>,
    source: &'a mut BodySource,
    open: &'a mut OpenStream,
    pacer: Option<CountedPacer>,
    turn: BulkTurn,
    copy_slot: CopySlot,
    /// Counts the stream while it waits for a flow-control window.
    without_window: Option<Rc<()>>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        stream: SendStream<BodyChunk>,
        source: &'a mut BodySource,
        open: &'a mut OpenStream,
        pacer: Option<CountedPacer>,
    ) -> Self {
        Self {
            stream,
            source,
            pacer,
            turn: open.connection.worker.bulk_scheduler.begin(),
            copy_slot: CopySlot::new(&open.connection.meter),
            open,
            without_window: None,
        }
    }

    /// Sends the body to its end.
    pub(super) async fn run(mut self) -> Result<(), SendError> {
        let is_short = self.source.is_in_memory();
        let sent = poll_fn(|cx| self.poll_send(cx)).await;
        self.without_window = None;
        self.open.exchange.add_cold_bytes(self.source.cursor.take_cold_bytes());
        self.open.connection.worker.bulk_scheduler.end(&self.turn);
        sent?;
        if is_short {
            return Ok(());
        }
        // The permit of a long response is held until frames have taken all of it.
        self.open.end_wait();
        poll_fn(|cx| match self.open.meter.poll_below(1, cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => self.open.poll_overdue(cx, WaitKind::Client, self.source).map(Err),
        })
        .await
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.open.record_first_byte();
        let Some(kind) = self.send_ready(cx)? else { return Poll::Ready(Ok(())) };
        if kind != WaitKind::Client {
            self.without_window = None;
            // Leaves a window that it does not use to other streams.
            self.stream.reserve_capacity(0);
        } else if self.without_window.is_none() {
            self.without_window = Some(Rc::clone(&self.open.connection.without_window));
        }
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(SendError::reset()));
        }
        self.open.list_waiting(self.source);
        self.open.poll_overdue(cx, kind, self.source).map(Err)
    }

    /// Sends chunks, each once there is room for it on its whole way. Returns what the next one waits for; `None` at the
    /// end of the body.
    fn send_ready(&mut self, cx: &mut Context<'_>) -> Result<Option<WaitKind>, SendError> {
        while !self.source.is_empty() {
            if self.open.meter.poll_below(LOW, cx).is_pending() {
                return Ok(Some(WaitKind::Client));
            }
            let OpenStream { connection, client, .. } = &*self.open;
            let Poll::Ready(there) = self.source.poll_ready(cx, &connection.worker, *client)? else {
                return Ok(Some(WaitKind::Disk));
            };
            if there == 0 {
                self.send_chunk(0)?;
                break;
            }
            let Poll::Ready(allowed) = self.poll_allowed(cx) else { return Ok(Some(WaitKind::Throttle)) };
            let Poll::Ready(length) = self.poll_window(cx, there.min(BUFFER).min(allowed))? else {
                self.copy_slot.leave();
                return Ok(Some(WaitKind::Client));
            };
            self.send_chunk(length)?;
            self.open.end_wait();
            self.without_window = None;
        }
        Ok(None)
    }

    /// Waits until the pace, the bulk scheduler and the copies under way allow a chunk. Returns its length at most.
    fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut allowed = usize::MAX;
        if let Some((pacer, _)) = &mut self.pacer {
            allowed = ready!(pacer.poll(cx, self.source.left()));
        }
        let scheduler = &self.open.connection.worker.bulk_scheduler;
        allowed = allowed.min(ready!(scheduler.poll(cx, &mut self.turn, self.open.client)));
        if self.source.is_window() {
            ready!(self.copy_slot.poll(cx));
        }
        Poll::Ready(allowed)
    }

    /// Waits for a flow-control window. Returns how many of `length` bytes it has room for.
    fn poll_window(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<Result<usize, SendError>> {
        self.stream.reserve_capacity(length);
        while self.stream.capacity() == 0 {
            ready!(self.stream.poll_capacity(cx)).ok_or_else(SendError::reset)??;
        }
        Poll::Ready(Ok(length.min(self.stream.capacity())))
    }

    fn send_chunk(&mut self, length: usize) -> Result<(), SendError> {
        let bytes = self.source.take(length, &self.open.connection.worker)?;
        let length = bytes.len();
        let chunk = BodyChunk::new(bytes, &self.open.meter, &mut self.copy_slot);
        self.stream.send_data(chunk, self.source.is_empty())?;
        self.turn.spend(length);
        if let Some((pacer, _)) = &mut self.pacer {
            pacer.spend(length);
        }
        Ok(())
    }
}

impl From<h2::Error> for SendError {
    /// Calls of `h2` on a stream fail only once it was reset.
    fn from(_: h2::Error) -> Self {
        Self::reset()
    }
}
