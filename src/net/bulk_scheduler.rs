//! Turns: long responses take theirs one after the other, so that what is short never waits for more than one of them.
//!
//! A response sends its first bytes at once. For what comes after it queues: between two looks at the sockets one long
//! response is granted a piece, so a hundred downloads delay a small file by one piece, not by a hundred. Clients take turns, not
//! their responses: a hundred downloads of one client leave half to another's only one. While short responses are
//! about, the pieces together keep to a rate as well: what a bulk reader drains it drains from the processor and the clients that
//! both share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::http::client_key::ClientKey;
use crate::limits::byte_rate::nanoseconds;
use crate::sys::fair_queue::FairQueue;
use crate::sys::gcra::{Gcra, RateClock};

/// The queue for turns. One a worker.
pub(crate) struct BulkScheduler {
    piece: Cell<usize>,
    /// Bytes a second that long responses send while short ones are about; 0 is no limit.
    rate: Cell<u64>,
    /// Short responses since the last turn was granted.
    short: Cell<u32>,
    waiting: RefCell<FairQueue<ClientKey, Rc<Waiter>>>,
    arrived: Notify,
}

/// A response's place: what it may send now, and its place in the queue once it has queued.
pub(crate) struct BulkTurn {
    waiter: Option<Rc<Waiter>>,
    left: usize,
}

/// A place in the queue. Where the queue alone holds it, the response has ended.
struct Waiter {
    /// There while it waits.
    waker: Cell<Option<Waker>>,
    /// Bytes that it was granted and has not taken.
    granted: Cell<usize>,
}

impl BulkScheduler {
    /// Turns of `piece` bytes, of `rate` bytes a second together while short responses are about.
    pub(crate) fn new(piece: usize, rate: u64) -> Self {
        Self {
            piece: Cell::new(piece),
            rate: Cell::new(rate),
            short: Cell::new(0),
            waiting: RefCell::new(FairQueue::new(1)),
            arrived: Notify::new(),
        }
    }

    /// From now on turns are of `piece` bytes, and of `rate` together.
    pub(crate) fn set(&self, piece: usize, rate: u64) {
        self.piece.set(piece);
        self.rate.set(rate);
    }

    /// What a new response may send before it queues.
    pub(crate) fn begin(&self) -> BulkTurn {
        BulkTurn { waiter: None, left: FREE.min(self.piece.get()) }
    }

    /// A response has ended; one that never queued was short.
    pub(crate) fn end(&self, turn: &BulkTurn) {
        if turn.waiter.is_none() {
            self.short.set(self.short.get().saturating_add(1));
        }
    }

    /// How many bytes may be sent to `client` now. Waits for a turn where none are left.
    pub(crate) fn poll(&self, cx: &Context<'_>, turn: &mut BulkTurn, client: ClientKey) -> Poll<usize> {
        if turn.left > 0 {
            return Poll::Ready(turn.left);
        }
        let new = || Rc::new(Waiter { waker: Cell::new(None), granted: Cell::new(0) });
        let waiter = turn.waiter.get_or_insert_with(new);
        turn.left = waiter.granted.take();
        if turn.left > 0 {
            return Poll::Ready(turn.left);
        }
        if waiter.waker.replace(Some(cx.waker().clone())).is_none() {
            self.waiting.borrow_mut().push(client, 1, Rc::clone(waiter));
            self.arrived.notify_one();
        }
        Poll::Pending
    }

    /// Grants turns for as long as it is polled: one after each look at the sockets, while anybody waits, and no more bytes
    /// than the rate allows while short responses are about.
    pub(crate) async fn grant(&self) {
        let mut allowance = BulkAllowance::new(self.rate.get());
        loop {
            while self.waiting.borrow().is_empty() {
                self.arrived.notified().await;
            }
            // Comes back once the event loop has looked at the sockets and let everybody else run.
            tokio::task::yield_now().await;
            allowance.rate = self.rate.get();
            let is_beside_short = allowance.holds(Instant::now(), self.short.replace(0));
            while is_beside_short && allowance.is_used_up(Instant::now()) {
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                allowance.rate = self.rate.get();
            }
            let Some((waiter, waker)) = self.next() else { continue };
            // Among themselves long responses are better served by longer turns.
            let piece = self.piece.get();
            let bytes = if is_beside_short { piece } else { piece.saturating_mul(ALONE) };
            allowance.spend(bytes);
            waiter.granted.set(bytes);
            waker.wake();
        }
    }

    /// Whose turn is next; responses that have ended are passed over.
    fn next(&self) -> Option<(Rc<Waiter>, Waker)> {
        loop {
            let waiter = self.waiting.borrow_mut().pop()?;
            if Rc::strong_count(&waiter) > 1
                && let Some(waker) = waiter.waker.take()
            {
                return Some((waiter, waker));
            }
        }
    }
}

/// What long responses may still send beside short ones: a token bucket, filled by the clock.
struct BulkAllowance {
    /// Bytes a second; 0 is no limit.
    rate: u64,
    bucket: Gcra,
    clock: RateClock,
    /// When it was last known whether the rate is used up.
    checked: u64,
    short_until: Instant,
}

impl BulkAllowance {
    fn new(rate: u64) -> Self {
        let (now, clock) = (Instant::now(), RateClock::new());
        let checked = clock.at(now);
        Self { rate, bucket: Gcra::empty(checked), clock, checked, short_until: now }
    }

    /// Hears of `short` responses since the last time, and says whether they are about.
    fn holds(&mut self, now: Instant, short: u32) -> bool {
        if short > 0 {
            self.short_until = now + ABOUT_FOR;
        }
        now < self.short_until
    }

    fn is_used_up(&mut self, now: Instant) -> bool {
        self.checked = self.clock.at(now);
        self.rate > 0 && self.bucket.saved(self.checked) == 0
    }

    fn spend(&mut self, bytes: usize) {
        let cost = nanoseconds(bytes as u64, self.rate);
        self.bucket.reserve(self.checked, cost, BURST);
        self.bucket.limit_debt(self.checked, cost.max(BURST));
    }
}

impl BulkTurn {
    /// So many bytes were sent.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// What every response may send at once: most files are shorter.
const FREE: usize = 128 * 1024;

/// How much longer a turn is while no short responses are about.
const ALONE: usize = 4;

/// For so long after a short response others are taken to follow it.
const ABOUT_FOR: Duration = Duration::from_millis(100);

/// What may be saved up, in nanoseconds of the rate.
const BURST: u64 = 2_000_000;

/// The grain of the timer.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(turns: &BulkScheduler, turn: &mut BulkTurn) -> usize {
        std::future::poll_fn(|cx| turns.poll(cx, turn, ClientKey::Local)).await
    }

    #[test]
    fn the_first_bytes_of_a_response_need_no_turn() {
        actix_rt::System::new().block_on(async {
            let turns = BulkScheduler::new(256 * 1024, 0);
            let mut turn = turns.begin();
            assert_eq!(next(&turns, &mut turn).await, FREE);
        });
    }

    #[test]
    fn long_responses_take_turns() {
        actix_rt::System::new().block_on(async {
            let turns = Rc::new(BulkScheduler::new(256 * 1024, 0));
            let granting = actix_rt::spawn({
                let turns = Rc::clone(&turns);
                async move { turns.grant().await }
            });
            let order = Rc::new(RefCell::new(Vec::new()));
            let send = |name: u32| {
                let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
                async move {
                    let mut turn = turns.begin();
                    turn.spend(FREE);
                    for _ in 0..3 {
                        let bytes = next(&turns, &mut turn).await;
                        order.borrow_mut().push((name, bytes));
                        turn.spend(bytes);
                    }
                }
            };
            let (one, other) = tokio::join!(actix_rt::spawn(send(1)), actix_rt::spawn(send(2)));
            one.and(other).unwrap();
            let names: Vec<u32> = order.borrow().iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [1, 2, 1, 2, 1, 2]);
            assert!(order.borrow().iter().all(|(_, bytes)| *bytes == ALONE * 256 * 1024));
            granting.abort();
        });
    }

    #[test]
    fn a_client_of_many_responses_has_no_more_turns_than_a_client_of_one() {
        let turns = BulkScheduler::new(256 * 1024, 0);
        let cx = Context::from_waker(Waker::noop());
        let mut queued: Vec<(ClientKey, BulkTurn)> =
            (0..5).map(|_| (ClientKey::V4(1), turns.begin())).collect();
        queued.push((ClientKey::V4(2), turns.begin()));
        let mut order = Vec::new();
        for _ in 0..6 {
            for (client, turn) in &mut queued {
                turn.left = 0;
                if turns.poll(&cx, turn, *client).is_ready() {
                    turn.left = 0;
                    assert!(turns.poll(&cx, turn, *client).is_pending());
                }
            }
            let (next, _) = turns.next().unwrap();
            let is_next = |(_, turn): &&(ClientKey, BulkTurn)| {
                turn.waiter.as_ref().is_some_and(|waiter| Rc::ptr_eq(waiter, &next))
            };
            order.push(queued.iter().find(is_next).unwrap().0);
            next.granted.set(1);
        }
        let of_one = order.iter().filter(|client| **client == ClientKey::V4(2)).count();
        assert_eq!(of_one, 3, "{order:?}");
    }

    #[test]
    fn the_rate_holds_only_while_short_responses_are_about() {
        let mut allowance = BulkAllowance::new(1_000_000);
        let start = allowance.clock.instant(allowance.checked);
        assert!(!allowance.holds(start, 0));
        assert!(allowance.holds(start, 1));
        assert!(allowance.holds(start + ABOUT_FOR / 2, 0));
        assert!(!allowance.holds(start + ABOUT_FOR, 0));
        assert!(!BulkAllowance::new(0).is_used_up(start));
    }

    #[test]
    fn what_is_spent_comes_back_with_time_and_no_more_than_a_burst_is_saved_up() {
        let mut allowance = BulkAllowance::new(1_000_000);
        let start = allowance.clock.instant(allowance.checked);
        assert!(allowance.is_used_up(start));
        assert!(!allowance.is_used_up(start + Duration::from_secs(60)));
        allowance.spend(12_000);
        let later = start + Duration::from_secs(60);
        assert!(allowance.is_used_up(later + Duration::from_millis(9)));
        assert!(!allowance.is_used_up(later + Duration::from_millis(11)));
    }

    #[test]
    fn a_response_that_ends_while_it_waits_holds_nobody_up() {
        actix_rt::System::new().block_on(async {
            let turns = Rc::new(BulkScheduler::new(1 << 18, 0));
            let granting = actix_rt::spawn({
                let turns = Rc::clone(&turns);
                async move { turns.grant().await }
            });
            let mut gone = turns.begin();
            gone.spend(FREE);
            std::future::poll_fn(|cx| {
                assert!(turns.poll(cx, &mut gone, ClientKey::Local).is_pending());
                Poll::Ready(())
            })
            .await;
            let mut turn = turns.begin();
            turn.spend(FREE);
            assert!(next(&turns, &mut turn).await > 0);
            granting.abort();
        });
    }
}
