//! Chunks of bodies on their way through the frames of `h2`, counted as frames take them.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use futures_util::future::LocalBoxFuture;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::net::{BUFFER, PooledBytes};
use crate::telemetry::metrics::{kind::SendPath, worker::WorkerMetrics};

/// Bytes of one response, counted when frames take them.
pub(super) struct BodyChunk {
    bytes: ChunkBytes,
    meter: Rc<ResponseMeter>,
    /// A permit for each copied byte that no frame has taken.
    copied: Option<OwnedSemaphorePermit>,
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

/// Bytes of all responses of a connection that are on their way.
pub(super) struct ConnectionMeter {
    metrics: Arc<WorkerMetrics>,
    /// Bytes of bodies that frames have taken.
    pub(super) taken: Cell<u64>,
    /// Permits for copied bytes that frames have yet to take. Responses get them in the order in which they ask.
    copies: Arc<Semaphore>,
}

/// The permit of a response to copy, or its place among those that wait for one.
pub(super) struct CopySlot {
    copies: Arc<Semaphore>,
    waiting: Option<LocalBoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>>,
    /// For a whole buffer: the length of the copy is not known yet.
    permit: Option<OwnedSemaphorePermit>,
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
    /// Copied bytes are copied with the permit of `slot`, and keep it until frames have taken them.
    pub(super) fn new(bytes: ChunkBytes, meter: &Rc<ResponseMeter>, slot: &mut CopySlot) -> Self {
        meter.left.set(meter.left.get() + bytes.len());
        let copied = slot.permit.take().and_then(|mut permit| permit.split(bytes.len()));
        Self { bytes, meter: Rc::clone(meter), copied }
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
        meter.remove(count);
        drop(self.copied.as_mut().and_then(|copied| copied.split(count)));
    }
}

impl Drop for BodyChunk {
    fn drop(&mut self) {
        let left = self.bytes.len();
        if left > 0 {
            self.meter.is_lost.set(true);
            self.meter.remove(left);
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

    fn remove(&self, count: usize) {
        self.left.set(self.left.get().saturating_sub(count));
        if self.left.get() < LOW
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

impl ConnectionMeter {
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        // Less than a buffer more: with any room for a copy its whole buffer may be claimed.
        let copies = Arc::new(Semaphore::new(COPIED_MAX + BUFFER - 1));
        Rc::new(Self { metrics, taken: Cell::new(0), copies })
    }
}

impl CopySlot {
    pub(super) fn new(connection: &ConnectionMeter) -> Self {
        Self { copies: Arc::clone(&connection.copies), waiting: None, permit: None }
    }

    /// Ready when a copy may be made. Make it at once, or [leave](Self::leave).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.permit.is_none() {
            let acquire = || Box::pin(Arc::clone(&self.copies).acquire_many_owned(BUFFER as u32)) as _;
            let waiting = self.waiting.get_or_insert_with(acquire);
            self.permit = ready!(waiting.as_mut().poll(cx)).ok();
            self.waiting = None;
        }
        Poll::Ready(())
    }

    /// Lets the next response copy: this one can't now.
    pub(super) fn leave(&mut self) {
        (self.waiting, self.permit) = (None, None);
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
    use crate::net::CopyBuffers;
    use crate::telemetry::metrics::registry::Metrics;

    fn connection() -> Rc<ConnectionMeter> {
        ConnectionMeter::new(Metrics::default().worker())
    }

    fn shared(bytes: Bytes, meter: &Rc<ResponseMeter>) -> BodyChunk {
        BodyChunk::new(ChunkBytes::Shared(bytes), meter, &mut CopySlot::new(&meter.connection))
    }

    /// As many chunks as may be copied at once.
    fn copies(meter: &Rc<ResponseMeter>, cx: &mut Context<'_>) -> Vec<BodyChunk> {
        let buffers = Rc::<CopyBuffers>::default();
        let copy = || {
            buffers.filled(BUFFER, |bytes| {
                bytes.fill(1);
                Ok::<_, ()>(())
            })
        };
        let mut chunk = || {
            let mut slot = CopySlot::new(&meter.connection);
            assert!(slot.poll(cx).is_ready());
            BodyChunk::new(ChunkBytes::Copied(copy().unwrap_or_else(|()| panic!())), meter, &mut slot)
        };
        (0..COPIED_MAX / BUFFER).map(|_| chunk()).collect()
    }

    #[test]
    fn bytes_taken_by_frames_and_dropped_bytes_are_told_apart() {
        let connection = connection();
        let meter = ResponseMeter::new(&connection);
        let mut chunk = shared(Bytes::from_static(b"0123456789"), &meter);
        chunk.advance(4);
        assert_eq!(
            (meter.taken.get(), connection.taken.get(), meter.is_empty(), meter.is_lost.get()),
            (4, 4, false, false)
        );
        drop(chunk);
        assert_eq!((meter.taken.get(), meter.is_empty(), meter.is_lost.get()), (4, true, true));
        let mut chunk = shared(Bytes::from_static(b"0123456789"), &ResponseMeter::new(&connection));
        chunk.advance(10);
        let other = Rc::clone(&chunk.meter);
        drop(chunk);
        assert!(!other.is_lost.get() && other.is_empty());
    }

    #[test]
    fn copies_are_bounded_and_shared_bytes_are_not() {
        let connection = connection();
        let meter = ResponseMeter::new(&connection);
        let cx = &mut Context::from_waker(Waker::noop());
        let _heap = shared(Bytes::from(vec![0; COPIED_MAX]), &meter);
        let mut copy = copies(&meter, cx);
        let mut first = CopySlot::new(&connection);
        assert!(first.poll(cx).is_pending());
        copy[0].advance(1);
        assert!(first.poll(cx).is_ready());
        first.leave();
        drop(copy);
        assert_eq!(copies(&meter, cx).len(), 3);
    }

    #[test]
    fn the_longest_waiting_response_copies_next_unless_it_cannot_or_has_ended() {
        let connection = connection();
        let meter = ResponseMeter::new(&connection);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut copies = copies(&meter, cx);
        let mut slots: Vec<CopySlot> = (0..5).map(|_| CopySlot::new(&connection)).collect();
        assert!(slots.iter_mut().all(|slot| slot.poll(cx).is_pending()));
        slots.remove(0);
        copies.pop();
        let mut ready = |slots: &mut [CopySlot]| {
            slots.iter_mut().map(|slot| slot.poll(cx).is_ready()).collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut slots), [true, false, false, false]);
        assert_eq!(ready(&mut [CopySlot::new(&connection)]), [false], "a newcomer waits behind them");
        slots[0].leave();
        assert_eq!(ready(&mut slots[1..]), [true, false, false]);
        slots.remove(1);
        assert_eq!(ready(&mut slots[1..]), [true, false]);
        copies.clear();
        assert_eq!(ready(&mut slots[1..]), [true, true], "there is room for all of them");
    }
}
