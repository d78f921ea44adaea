//! Chunks of bodies on their way through the frames of `h2`, counted as frames take them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::net::{BUFFER, PooledBytes};
use crate::telemetry::metrics::{kind::SendPath, worker::WorkerMetrics};

/// Bytes of one response, counted when frames take them.
pub(super) struct BodyChunk {
    bytes: ChunkBytes,
    meter: Rc<ResponseMeter>,
}

/// The bytes of a chunk.
pub(super) enum ChunkBytes {
    /// Shared bytes on the heap.
    Shared(Bytes),
    /// Bytes read from a file for this response.
    Copied(PooledBytes),
}

/// Bytes of one response that are on their way.
pub(super) struct ResponseMeter {
    connection: Rc<ConnectionMeter>,
    /// Bytes that no frame has taken yet.
    left: Cell<usize>,
    /// Bytes that frames have taken.
    pub(super) taken: Cell<u64>,
    /// Some bytes were dropped: the stream was reset.
    pub(super) is_lost: Cell<bool>,
    /// Woken once less than [`LOW`] is left.
    waker: Cell<Option<Waker>>,
}

/// Bytes of all responses of a connection that are on their way, and the queue of those that copy.
pub(super) struct ConnectionMeter {
    metrics: Arc<WorkerMetrics>,
    /// Bytes of bodies that frames have taken.
    pub(super) taken: Cell<u64>,
    /// Copied bytes that no frame has taken yet.
    copied: Cell<usize>,
    /// Number of responses that may copy and have not yet.
    called: Cell<usize>,
    /// Responses that wait to copy, in the order in which they came.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

/// A response that waits to copy. If only the queue holds it, it has ended.
struct Waiter {
    waker: Cell<Option<Waker>>,
    /// It may copy.
    is_called: Cell<bool>,
}

/// A response's entry among those that copy.
pub(super) struct CopySlot {
    connection: Rc<ConnectionMeter>,
    waiter: Option<Rc<Waiter>>,
}

impl Deref for ChunkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(bytes) => bytes.as_slice(),
        }
    }
}

impl ChunkBytes {
    fn path(&self) -> SendPath {
        match self {
            Self::Shared(_) => SendPath::Heap,
            Self::Copied(_) => SendPath::Copied,
        }
    }
}

impl BodyChunk {
    pub(super) fn new(bytes: ChunkBytes, meter: &Rc<ResponseMeter>) -> Self {
        let length = bytes.len();
        meter.left.set(meter.left.get() + length);
        if bytes.path() == SendPath::Copied {
            let copied = &meter.connection.copied;
            copied.set(copied.get() + length);
        }
        Self { bytes, meter: Rc::clone(meter) }
    }
}

impl Buf for BodyChunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        match &mut self.bytes {
            ChunkBytes::Shared(bytes) => bytes.advance(count),
            ChunkBytes::Copied(bytes) => bytes.advance(count),
        }
        let (meter, path) = (&self.meter, self.bytes.path());
        meter.taken.set(meter.taken.get() + count as u64);
        meter.connection.taken.set(meter.connection.taken.get() + count as u64);
        meter.connection.metrics.counts.sent[path as usize].add(count as u64);
        meter.remove(count, path);
    }
}

impl Drop for BodyChunk {
    fn drop(&mut self) {
        let left = self.bytes.len();
        if left > 0 {
            self.meter.is_lost.set(true);
            self.meter.remove(left, self.bytes.path());
        }
    }
}

impl ResponseMeter {
    pub(super) fn new(connection: &Rc<ConnectionMeter>) -> Rc<Self> {
        Rc::new(Self {
            connection: Rc::clone(connection),
            left: Cell::new(0),
            taken: Cell::new(0),
            is_lost: Cell::new(false),
            waker: Cell::new(None),
        })
    }

    /// True if frames have taken all there is.
    pub(super) fn is_empty(&self) -> bool {
        self.left.get() == 0
    }

    /// Ready once frames have left less than `level` bytes, at most [`LOW`].
    pub(super) fn poll_below(&self, level: usize, cx: &Context<'_>) -> Poll<()> {
        if self.left.get() < level {
            return Poll::Ready(());
        }
        self.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn remove(&self, count: usize, path: SendPath) {
        self.left.set(self.left.get().saturating_sub(count));
        if self.left.get() < LOW
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        if path == SendPath::Copied {
            let copied = &self.connection.copied;
            copied.set(copied.get().saturating_sub(count));
            self.connection.call_next();
        }
    }
}

impl ConnectionMeter {
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let (taken, copied, called) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Rc::new(Self { metrics, taken, copied, called, waiting: RefCell::default() })
    }

    /// True if there is room for another copy.
    fn has_room(&self) -> bool {
        self.copied.get() + self.called.get() * BUFFER < COPIED_MAX
    }

    /// While there is room, lets the responses copy that have waited the longest.
    fn call_next(&self) {
        while self.has_room() {
            let Some(next) = self.waiting.borrow_mut().pop_front() else { return };
            if Rc::strong_count(&next) > 1 {
                self.called.set(self.called.get() + 1);
                next.is_called.set(true);
                if let Some(waker) = next.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl CopySlot {
    pub(super) fn new(connection: &Rc<ConnectionMeter>) -> Self {
        Self { connection: Rc::clone(connection), waiter: None }
    }

    /// Ready when a copy may be made. Make it at once, or [leave](Self::leave).
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let connection = &self.connection;
        if let Some(waiter) = &self.waiter {
            waiter.waker.set(Some(cx.waker().clone()));
            return if waiter.is_called.get() { Poll::Ready(()) } else { Poll::Pending };
        }
        if connection.has_room() && connection.waiting.borrow().is_empty() {
            return Poll::Ready(());
        }
        let waiter =
            Rc::new(Waiter { waker: Cell::new(Some(cx.waker().clone())), is_called: Cell::new(false) });
        connection.waiting.borrow_mut().push_back(Rc::clone(&waiter));
        self.waiter = Some(waiter);
        Poll::Pending
    }

    /// Lets the next response copy: this one has, or can't now.
    pub(super) fn leave(&mut self) {
        if self.waiter.take().is_some_and(|waiter| waiter.is_called.get()) {
            self.connection.called.set(self.connection.called.get() - 1);
            self.connection.call_next();
        }
    }
}

impl Drop for CopySlot {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The usual size of a frame: with less left, frames need the next chunk.
pub(super) const LOW: usize = 16 * 1024;

/// Copied bytes of one connection that may wait for frames to take them, beside one more chunk: a few are as fast as
/// many.
const COPIED_MAX: usize = 192 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::copy_buffers::CopyBuffers;
    use crate::telemetry::metrics::registry::Metrics;

    fn connection() -> Rc<ConnectionMeter> {
        ConnectionMeter::new(Metrics::default().worker())
    }

    /// As many chunks as may be copied at once.
    fn copies(meter: &Rc<ResponseMeter>) -> Vec<BodyChunk> {
        let buffers = Rc::<CopyBuffers>::default();
        let copy = || {
            buffers.filled(BUFFER, |bytes| {
                bytes.fill(1);
                Ok::<_, ()>(())
            })
        };
        let chunk = || ChunkBytes::Copied(copy().unwrap_or_else(|()| panic!()));
        (0..COPIED_MAX / BUFFER).map(|_| BodyChunk::new(chunk(), meter)).collect()
    }

    #[test]
    fn bytes_taken_by_frames_and_dropped_bytes_are_told_apart() {
        let connection = connection();
        let meter = ResponseMeter::new(&connection);
        let mut chunk = BodyChunk::new(ChunkBytes::Shared(Bytes::from_static(b"0123456789")), &meter);
        chunk.advance(4);
        assert_eq!(
            (meter.taken.get(), connection.taken.get(), meter.is_empty(), meter.is_lost.get()),
            (4, 4, false, false)
        );
        drop(chunk);
        assert_eq!((meter.taken.get(), meter.is_empty(), meter.is_lost.get()), (4, true, true));
        let mut chunk = BodyChunk::new(
            ChunkBytes::Shared(Bytes::from_static(b"0123456789")),
            &ResponseMeter::new(&connection),
        );
        chunk.advance(10);
        let other = Rc::clone(&chunk.meter);
        drop(chunk);
        assert!(!other.is_lost.get() && other.is_empty());
    }

    #[test]
    fn copies_are_bounded_and_shared_bytes_are_not() {
        let connection = connection();
        let meter = ResponseMeter::new(&connection);
        let cx = Context::from_waker(Waker::noop());
        let mut first = CopySlot::new(&connection);
        let _heap = BodyChunk::new(ChunkBytes::Shared(Bytes::from(vec![0; COPIED_MAX])), &meter);
        assert!(first.poll(&cx).is_ready());
        let copy = copies(&meter);
        assert!(first.poll(&cx).is_pending());
        drop(copy);
        assert!(first.poll(&cx).is_ready());
    }

    #[test]
    fn the_longest_waiting_response_copies_next_unless_it_cannot_or_has_ended() {
        let connection = connection();
        let meter = ResponseMeter::new(&connection);
        let cx = Context::from_waker(Waker::noop());
        let mut copies = copies(&meter);
        let mut slots: Vec<CopySlot> = (0..5).map(|_| CopySlot::new(&connection)).collect();
        assert!(slots.iter_mut().all(|slot| slot.poll(&cx).is_pending()));
        slots.remove(0);
        copies.pop();
        let ready = |slots: &mut [CopySlot]| {
            slots.iter_mut().map(|slot| slot.poll(&cx).is_ready()).collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut slots), [true, false, false, false]);
        assert!(CopySlot::new(&connection).poll(&cx).is_pending(), "a newcomer waits behind them");
        slots[0].leave();
        assert_eq!(ready(&mut slots[1..]), [true, false, false]);
        slots.remove(1);
        assert_eq!(ready(&mut slots[1..]), [true, false]);
        copies.clear();
        assert_eq!(ready(&mut slots[1..]), [true, true], "there is room for all of them");
    }
}
