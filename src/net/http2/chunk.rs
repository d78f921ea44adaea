//! Pieces of bodies on their way through the frames, counted as they go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::telemetry::metrics::worker::{SendPath, WorkerMetrics};

/// Bytes of one response. What takes them is counted.
pub(super) struct BodyChunk {
    bytes: ChunkBytes,
    meter: Rc<ResponseMeter>,
}

/// Bytes that are held for a response.
pub(super) enum ChunkBytes {
    /// On the heap, for whoever needs them.
    Shared(Bytes),
    /// Read for this response.
    Copied(PooledBytes),
}

/// Bytes in a buffer, which goes back when they have been taken.
pub(super) struct PooledBytes {
    buffer: Vec<u8>,
    left: Range<usize>,
    buffers: Rc<Buffers>,
}

/// Buffers for copies that are used again: new memory would have to be mapped and cleared each time. One a worker.
#[derive(Default)]
pub(crate) struct Buffers(RefCell<Vec<Vec<u8>>>);

/// What of one response is on its way.
pub(super) struct ResponseMeter {
    totals: Rc<ConnectionMeter>,
    /// Bytes that no frame has taken yet.
    left: Cell<usize>,
    /// Bytes that frames have taken.
    taken: Cell<u64>,
    /// Some of them were thrown away: the stream was reset.
    is_lost: Cell<bool>,
    /// Who waits until nothing is left.
    waker: Cell<Option<Waker>>,
}

/// The same of all responses of a connection.
pub(super) struct ConnectionMeter {
    metrics: Arc<WorkerMetrics>,
    /// Bytes of bodies that frames have taken.
    taken: Cell<u64>,
    /// Bytes in memory of our own that no frame has taken yet.
    copied: Cell<usize>,
    /// Responses whose turn it is to copy, and that have not yet.
    called: Cell<usize>,
    /// Responses that wait for room among them, in the order in which they came.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

/// One of them. Where the queue alone holds it, it has ended.
#[derive(Default)]
struct Waiter {
    waker: Cell<Option<Waker>>,
    /// It is its turn.
    is_called: Cell<bool>,
}

/// A response's place among those that copy.
pub(super) struct CopySlot {
    totals: Rc<ConnectionMeter>,
    waiter: Option<Rc<Waiter>>,
}

impl Buffers {
    /// `length` bytes, [`BUFFER`] at most, that `fill` has written.
    pub(super) fn filled<E>(
        self: &Rc<Self>,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<ChunkBytes, E> {
        let buffer = self.0.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER]);
        let mut copied = PooledBytes { left: 0..length.min(buffer.len()), buffer, buffers: Rc::clone(self) };
        fill(&mut copied.buffer[copied.left.clone()])?;
        Ok(ChunkBytes::Copied(copied))
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        let mut kept = self.buffers.0.borrow_mut();
        if kept.len() < BUFFERS {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl ChunkBytes {
    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(copied) => &copied.buffer[copied.left.clone()],
        }
    }

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
            let copied = &meter.totals.copied;
            copied.set(copied.get() + length);
        }
        Self { bytes, meter: Rc::clone(meter) }
    }

    /// Nothing: the end of a response whose length nobody knew.
    pub(super) fn empty(meter: &Rc<ResponseMeter>) -> Self {
        Self::new(ChunkBytes::Shared(Bytes::new()), meter)
    }
}

impl Buf for BodyChunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.bytes()
    }

    fn advance(&mut self, count: usize) {
        match &mut self.bytes {
            ChunkBytes::Shared(bytes) => bytes.advance(count),
            ChunkBytes::Copied(copied) => copied.left.start += count,
        }
        let (meter, path) = (&self.meter, self.bytes.path());
        meter.taken.set(meter.taken.get() + count as u64);
        meter.totals.taken.set(meter.totals.taken.get() + count as u64);
        meter.totals.metrics.count_sent(path, count);
        meter.less(count, path);
    }
}

impl Drop for BodyChunk {
    fn drop(&mut self) {
        let left = self.bytes.len();
        if left > 0 {
            self.meter.is_lost.set(true);
            self.meter.less(left, self.bytes.path());
        }
    }
}

impl ResponseMeter {
    pub(super) fn new(totals: &Rc<ConnectionMeter>) -> Rc<Self> {
        Rc::new(Self {
            totals: Rc::clone(totals),
            left: Cell::new(0),
            taken: Cell::new(0),
            is_lost: Cell::new(false),
            waker: Cell::new(None),
        })
    }

    /// Bytes that frames have taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Whether frames have taken all there is.
    pub(super) fn is_empty(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether some of it was thrown away.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.get()
    }

    /// Ready once frames have taken all there is.
    pub(super) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_below(1, cx)
    }

    /// Ready once frames have taken nearly all there is, and the next piece is wanted.
    pub(super) fn poll_low(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_below(LOW, cx)
    }

    fn poll_below(&self, level: usize, cx: &Context<'_>) -> Poll<()> {
        if self.left.get() < level {
            return Poll::Ready(());
        }
        self.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn less(&self, count: usize, path: SendPath) {
        self.left.set(self.left.get().saturating_sub(count));
        if self.left.get() < LOW
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        if path == SendPath::Copied {
            self.totals.less(count);
        }
    }
}

impl ConnectionMeter {
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let (taken, copied, called) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Rc::new(Self { metrics, taken, copied, called, waiting: RefCell::default() })
    }

    pub(super) fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    /// Bytes of bodies that frames have taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    fn less(&self, count: usize) {
        self.copied.set(self.copied.get().saturating_sub(count));
        self.call_next();
    }

    /// Whether there is room for another copy.
    fn has_room(&self) -> bool {
        self.copied.get() + self.called.get() * BUFFER < COPIED
    }

    /// Where there is room, it is the turn of whoever has waited the longest.
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
    pub(super) fn new(totals: &Rc<ConnectionMeter>) -> Self {
        Self { totals: Rc::clone(totals), waiter: None }
    }

    /// Ready where a copy may be made. It is made at once, or the place is [left](Self::leave).
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let totals = &self.totals;
        if let Some(waiter) = &self.waiter {
            waiter.waker.set(Some(cx.waker().clone()));
            return if waiter.is_called.get() { Poll::Ready(()) } else { Poll::Pending };
        }
        if totals.has_room() && totals.waiting.borrow().is_empty() {
            return Poll::Ready(());
        }
        let waiter = Rc::new(Waiter::default());
        waiter.waker.set(Some(cx.waker().clone()));
        totals.waiting.borrow_mut().push_back(Rc::clone(&waiter));
        self.waiter = Some(waiter);
        Poll::Pending
    }

    /// Whoever comes next may copy: this one has, or can't now.
    pub(super) fn leave(&mut self) {
        if self.waiter.take().is_some_and(|waiter| waiter.is_called.get()) {
            self.totals.called.set(self.totals.called.get() - 1);
            self.totals.call_next();
        }
    }
}

impl Drop for CopySlot {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Length of a buffer: what is read of a file at once.
pub(super) const BUFFER: usize = 64 * 1024;

/// Buffers that a worker keeps.
const BUFFERS: usize = 16;

/// One frame of the usual size.
const LOW: usize = 16 * 1024;

/// Copies of one connection that wait for frames to take them, beside one more: a few are as fast as many.
const COPIED: usize = 192 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::registry::Metrics;

    fn totals() -> Rc<ConnectionMeter> {
        ConnectionMeter::new(Metrics::default().worker())
    }

    /// As much as may be copied at once.
    fn copies(meter: &Rc<ResponseMeter>) -> Vec<BodyChunk> {
        let buffers = Rc::<Buffers>::default();
        let copy = || {
            buffers.filled(BUFFER, |bytes| {
                bytes.fill(1);
                Ok::<_, ()>(())
            })
        };
        (0..COPIED / BUFFER).map(|_| BodyChunk::new(copy().unwrap_or_else(|()| panic!()), meter)).collect()
    }

    #[test]
    fn buffers_are_used_again_and_only_some_are_kept() {
        let buffers = Rc::<Buffers>::default();
        let fill = |byte: u8| {
            let filled = buffers.filled(100, |bytes| {
                bytes.fill(byte);
                Ok::<_, ()>(())
            });
            filled.unwrap_or_else(|()| panic!())
        };
        let many: Vec<ChunkBytes> = (0..2 * u8::try_from(BUFFERS).unwrap()).map(fill).collect();
        assert!(many.iter().zip(0..).all(|(held, byte)| held.bytes() == [byte; 100]));
        drop(many);
        assert_eq!(buffers.0.borrow().len(), BUFFERS);
        drop(fill(7));
        assert_eq!(buffers.0.borrow().len(), BUFFERS);
        assert!(buffers.filled(100, |_| Err("the disk")).is_err());
        assert_eq!(buffers.0.borrow().len(), BUFFERS, "nor is one lost to a fault");
    }

    #[test]
    fn what_frames_take_and_what_is_thrown_away_is_told_apart() {
        let totals = totals();
        let meter = ResponseMeter::new(&totals);
        let mut piece = BodyChunk::new(ChunkBytes::Shared(Bytes::from_static(b"0123456789")), &meter);
        piece.advance(4);
        assert_eq!((meter.taken(), totals.taken(), meter.is_empty(), meter.is_lost()), (4, 4, false, false));
        drop(piece);
        assert_eq!((meter.taken(), meter.is_empty(), meter.is_lost()), (4, true, true));
        let mut piece = BodyChunk::new(
            ChunkBytes::Shared(Bytes::from_static(b"0123456789")),
            &ResponseMeter::new(&totals),
        );
        piece.advance(10);
        let other = Rc::clone(&piece.meter);
        drop(piece);
        assert!(!other.is_lost() && other.is_empty());
    }

    #[test]
    fn copies_are_bounded_and_those_in_memory_anyway_are_not() {
        let totals = totals();
        let meter = ResponseMeter::new(&totals);
        let cx = Context::from_waker(Waker::noop());
        let mut first = CopySlot::new(&totals);
        let _heap = BodyChunk::new(ChunkBytes::Shared(Bytes::from(vec![0; COPIED])), &meter);
        assert!(first.poll(&cx).is_ready());
        let copy = copies(&meter);
        assert!(first.poll(&cx).is_pending());
        drop(copy);
        assert!(first.poll(&cx).is_ready());
    }

    #[test]
    fn who_has_waited_the_longest_copies_next_and_who_cannot_or_has_gone_holds_nobody_up() {
        let totals = totals();
        let meter = ResponseMeter::new(&totals);
        let cx = Context::from_waker(Waker::noop());
        let mut copies = copies(&meter);
        let mut places: Vec<CopySlot> = (0..5).map(|_| CopySlot::new(&totals)).collect();
        assert!(places.iter_mut().all(|place| place.poll(&cx).is_pending()));
        places.remove(0);
        copies.pop();
        let ready = |places: &mut [CopySlot]| {
            places.iter_mut().map(|place| place.poll(&cx).is_ready()).collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut places), [true, false, false, false]);
        assert!(CopySlot::new(&totals).poll(&cx).is_pending(), "a newcomer waits behind them");
        places[0].leave();
        assert_eq!(ready(&mut places[1..]), [true, false, false]);
        places.remove(1);
        assert_eq!(ready(&mut places[1..]), [true, false]);
        copies.clear();
        assert_eq!(ready(&mut places[1..]), [true, true], "there is room for all of them");
    }
}
