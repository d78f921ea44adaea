//! Pieces of bodies on their way through the frames, counted as they go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::ledger::sheet::{Path, Sheet};

/// Bytes of one response. What takes them is counted.
pub(super) struct Piece {
    bytes: Bytes,
    path: Path,
    meter: Rc<Meter>,
}

/// What of one response is on its way.
pub(super) struct Meter {
    totals: Rc<Totals>,
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
pub(super) struct Totals {
    sheet: Arc<Sheet>,
    /// Bytes of bodies that frames have taken.
    taken: Cell<u64>,
    /// Bytes in memory of our own that no frame has taken yet.
    copied: Cell<usize>,
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
pub(super) struct Place {
    totals: Rc<Totals>,
    waiter: Option<Rc<Waiter>>,
}

impl Piece {
    /// A piece that takes `path`.
    pub(super) fn new(bytes: Bytes, path: Path, meter: &Rc<Meter>) -> Self {
        meter.left.set(meter.left.get() + bytes.len());
        if path == Path::Copied {
            let copied = &meter.totals.copied;
            copied.set(copied.get() + bytes.len());
        }
        Self { bytes, path, meter: Rc::clone(meter) }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        let meter = &self.meter;
        meter.taken.set(meter.taken.get() + count as u64);
        meter.totals.taken.set(meter.totals.taken.get() + count as u64);
        meter.totals.sheet.sent(self.path, count);
        meter.less(count, self.path);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.meter.is_lost.set(true);
            self.meter.less(self.bytes.len(), self.path);
        }
    }
}

impl Meter {
    pub(super) fn new(totals: &Rc<Totals>) -> Rc<Self> {
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

    fn less(&self, count: usize, path: Path) {
        self.left.set(self.left.get().saturating_sub(count));
        if self.left.get() < LOW
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        if path == Path::Copied {
            self.totals.less(count);
        }
    }
}

impl Totals {
    pub(super) fn new(sheet: Arc<Sheet>) -> Rc<Self> {
        let (taken, copied) = (Cell::new(0), Cell::new(0));
        Rc::new(Self { sheet, taken, copied, waiting: RefCell::default() })
    }

    pub(super) fn sheet(&self) -> &Arc<Sheet> {
        &self.sheet
    }

    /// Bytes of bodies that frames have taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    fn less(&self, count: usize) {
        self.copied.set(self.copied.get().saturating_sub(count));
        self.call_next();
    }

    /// Where there is room, it is the turn of whoever has waited the longest.
    fn call_next(&self) {
        while self.copied.get() < COPIED {
            let Some(next) = self.waiting.borrow_mut().pop_front() else { return };
            if Rc::strong_count(&next) > 1 {
                next.is_called.set(true);
                return next.waker.take().map_or((), Waker::wake);
            }
        }
    }
}

impl Place {
    pub(super) fn new(totals: &Rc<Totals>) -> Self {
        Self { totals: Rc::clone(totals), waiter: None }
    }

    /// Ready where a copy may be made. It is made at once, or the place is [left](Self::leave).
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let totals = &self.totals;
        if let Some(waiter) = &self.waiter {
            waiter.waker.set(Some(cx.waker().clone()));
            return if waiter.is_called.get() { Poll::Ready(()) } else { Poll::Pending };
        }
        if totals.copied.get() < COPIED && totals.waiting.borrow().is_empty() {
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
            self.totals.call_next();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One frame of the usual size.
const LOW: usize = 16 * 1024;

/// Copies of one connection that wait for frames to take them, beside one more: a few are as fast as many.
const COPIED: usize = 192 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    fn totals() -> Rc<Totals> {
        Totals::new(Ledger::default().sheet())
    }

    #[test]
    fn what_frames_take_and_what_is_thrown_away_is_told_apart() {
        let totals = totals();
        let meter = Meter::new(&totals);
        let mut piece = Piece::new(Bytes::from_static(b"0123456789"), Path::Heap, &meter);
        piece.advance(4);
        assert_eq!((meter.taken(), totals.taken(), meter.is_empty(), meter.is_lost()), (4, 4, false, false));
        drop(piece);
        assert_eq!((meter.taken(), meter.is_empty(), meter.is_lost()), (4, true, true));
        let mut piece = Piece::new(Bytes::from_static(b"0123456789"), Path::Heap, &Meter::new(&totals));
        piece.advance(10);
        let other = Rc::clone(&piece.meter);
        drop(piece);
        assert!(!other.is_lost() && other.is_empty());
    }

    #[test]
    fn copies_are_bounded_and_those_in_memory_anyway_are_not() {
        let totals = totals();
        let meter = Meter::new(&totals);
        let cx = Context::from_waker(Waker::noop());
        let piece = |path| Piece::new(Bytes::from(vec![0; COPIED]), path, &meter);
        let mut first = Place::new(&totals);
        let _heap = piece(Path::Heap);
        assert!(first.poll(&cx).is_ready());
        let copy = piece(Path::Copied);
        assert!(first.poll(&cx).is_pending());
        drop(copy);
        assert!(first.poll(&cx).is_ready());
    }

    #[test]
    fn who_has_waited_the_longest_copies_next_and_who_cannot_or_has_gone_holds_nobody_up() {
        let totals = totals();
        let meter = Meter::new(&totals);
        let cx = Context::from_waker(Waker::noop());
        let copy = Piece::new(Bytes::from(vec![0; COPIED]), Path::Copied, &meter);
        let mut places: Vec<Place> = (0..5).map(|_| Place::new(&totals)).collect();
        assert!(places.iter_mut().all(|place| place.poll(&cx).is_pending()));
        places.remove(0);
        drop(copy);
        let ready = |places: &mut [Place]| {
            places.iter_mut().map(|place| place.poll(&cx).is_ready()).collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut places), [true, false, false, false]);
        assert!(Place::new(&totals).poll(&cx).is_pending(), "a newcomer waits behind them");
        places[0].leave();
        assert_eq!(ready(&mut places[1..]), [true, false, false]);
        places.remove(1);
        assert_eq!(ready(&mut places[1..]), [true, false]);
    }
}
