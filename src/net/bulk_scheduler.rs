//! Schedules large bodies one after the other, so that a small response waits for at most one of them.
//!
//! A response sends its first bytes at once and queues for the rest: between two polls of the sockets one large body is
//! granted a quantum, so a hundred downloads delay a small file by one quantum, not by a hundred. The queue is fair
//! among clients, not among responses: a hundred downloads of one client leave half to the only download of another.
//! While small responses are pending, all quanta together keep to a rate as well: bulk readers share the processor and
//! the network with everybody else.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::config::SendingGroup;
use crate::http::client_key::ClientKey;
use crate::limits::byte_rate::nanoseconds;
use crate::sys::fair_queue::FairQueue;
use crate::sys::gcra::{Gcra, RateClock};

/// The queue of large bodies. One per worker.
pub(super) struct BulkScheduler {
    /// Bytes per turn.
    quantum: Cell<usize>,
    /// Cap in bytes per second on large bodies while small responses are pending. 0 disables it.
    rate: Cell<u64>,
    /// Small responses sent since the last turn was granted.
    small: Cell<u32>,
    waiting: RefCell<FairQueue<ClientKey, Rc<Waiter>>>,
    arrived: Notify,
}

/// Turn of one response: the bytes that it may send now, and its entry in the queue once it has queued.
pub(super) struct BulkTurn {
    waiter: Option<Rc<Waiter>>,
    left: usize,
}

/// An entry in the queue. If only the queue holds it, the response has ended.
struct Waiter {
    /// `Some` while the response waits.
    waker: Cell<Option<Waker>>,
    /// Bytes granted and not taken yet.
    granted: Cell<usize>,
}

impl BulkScheduler {
    pub(super) fn new(settings: &SendingGroup) -> Self {
        Self {
            quantum: Cell::new(settings.turn_bytes.as_usize()),
            rate: Cell::new(settings.long_rate.get()),
            small: Cell::new(0),
            waiting: RefCell::new(FairQueue::new(1)),
            arrived: Notify::new(),
        }
    }

    /// Replaces the quantum and the rate.
    pub(super) fn configure(&self, settings: &SendingGroup) {
        self.quantum.set(settings.turn_bytes.as_usize());
        self.rate.set(settings.long_rate.get());
    }

    /// The turn of a new response: what it may send before it queues.
    pub(super) fn begin(&self) -> BulkTurn {
        BulkTurn { waiter: None, left: FREE.min(self.quantum.get()) }
    }

    /// Ends the turn of a response. One that never queued was small.
    pub(super) fn end(&self, turn: &BulkTurn) {
        if turn.waiter.is_none() {
            self.small.set(self.small.get().saturating_add(1));
        }
    }

    /// Returns how many bytes may be sent to `client` now. Waits for a turn if there are none.
    pub(super) fn poll(&self, cx: &Context<'_>, turn: &mut BulkTurn, client: ClientKey) -> Poll<usize> {
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

    /// Grants turns for as long as it is polled: one after each poll of the sockets while responses wait, and no more
    /// bytes than the rate allows while small responses are pending.
    pub(super) async fn run(&self) {
        let mut budget = BulkBudget::new(Instant::now());
        loop {
            while self.waiting.borrow().is_empty() {
                self.arrived.notified().await;
            }
            // Resumes after the event loop has polled the sockets and run all other tasks.
            tokio::task::yield_now().await;
            let is_limited = budget.applies(Instant::now(), self.small.replace(0));
            while is_limited && self.rate.get() > 0 && budget.is_used_up(Instant::now()) {
                tokio::time::sleep(TIMER_GRAIN).await;
            }
            let Some((waiter, waker)) = self.next() else { continue };
            // Large bodies alone are served better by longer turns.
            let quantum = self.quantum.get();
            let bytes = if is_limited { quantum } else { quantum.saturating_mul(ALONE) };
            budget.spend(Instant::now(), bytes, self.rate.get());
            waiter.granted.set(bytes);
            waker.wake();
        }
    }

    /// The next response in the queue. Responses that have ended are skipped.
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

/// Token bucket of the bytes that large bodies may send while small responses are pending.
struct BulkBudget {
    clock: RateClock,
    bucket: Gcra,
    small_until: Instant,
}

impl BulkBudget {
    fn new(now: Instant) -> Self {
        let clock = RateClock::default();
        Self { bucket: Gcra::empty(clock.at(now)), clock, small_until: now }
    }

    /// Returns true if the rate applies, given the number of `small` responses since the last call.
    fn applies(&mut self, now: Instant, small: u32) -> bool {
        if small > 0 {
            self.small_until = now + SMALL_EXPECTED_FOR;
        }
        now < self.small_until
    }

    fn is_used_up(&self, now: Instant) -> bool {
        self.bucket.saved(self.clock.at(now)) == 0
    }

    /// Counts a turn of `bytes` at `rate` bytes per second. It delays the next one, but none after that.
    fn spend(&mut self, now: Instant, bytes: usize, rate: u64) {
        let now = self.clock.at(now);
        let cost = if rate == 0 { 0 } else { nanoseconds(bytes as u64, rate) };
        self.bucket.reserve(now, cost, BURST);
        self.bucket.limit_debt(now, cost.max(BURST));
    }
}

impl BulkTurn {
    /// Counts `bytes` that were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// Bytes that every response may send at once: most files are shorter.
const FREE: usize = 128 * 1024;

/// Factor by which turns are longer while no small responses are pending.
const ALONE: usize = 4;

/// Time after a small response in which others are expected to follow.
const SMALL_EXPECTED_FOR: Duration = Duration::from_millis(100);

/// Burst in nanoseconds of the rate.
const BURST: u64 = 2_000_000;

/// Granularity of the timer.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteCount;

    /// Turns of 256 KiB, without a rate.
    fn settings() -> SendingGroup {
        SendingGroup {
            turn_bytes: ByteCount::kib(256),
            long_rate: ByteCount::bytes(0),
            ..SendingGroup::default()
        }
    }

    async fn next(scheduler: &BulkScheduler, turn: &mut BulkTurn) -> usize {
        std::future::poll_fn(|cx| scheduler.poll(cx, turn, ClientKey::Local)).await
    }

    #[test]
    fn the_first_bytes_of_a_response_need_no_turn() {
        actix_rt::System::new().block_on(async {
            let scheduler = BulkScheduler::new(&settings());
            let mut turn = scheduler.begin();
            assert_eq!(next(&scheduler, &mut turn).await, FREE);
        });
    }

    #[test]
    fn large_bodies_take_turns() {
        actix_rt::System::new().block_on(async {
            let scheduler = Rc::new(BulkScheduler::new(&settings()));
            let task = actix_rt::spawn({
                let scheduler = Rc::clone(&scheduler);
                async move { scheduler.run().await }
            });
            let order = Rc::new(RefCell::new(Vec::new()));
            let send = |name: u32| {
                let (scheduler, order) = (Rc::clone(&scheduler), Rc::clone(&order));
                async move {
                    let mut turn = scheduler.begin();
                    turn.spend(FREE);
                    for _ in 0..3 {
                        let bytes = next(&scheduler, &mut turn).await;
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
            task.abort();
        });
    }

    #[test]
    fn clients_get_equal_turns_whatever_their_number_of_responses() {
        let scheduler = BulkScheduler::new(&settings());
        let cx = Context::from_waker(Waker::noop());
        let mut queued: Vec<(ClientKey, BulkTurn)> =
            (0..5).map(|_| (ClientKey::V4(1), scheduler.begin())).collect();
        queued.push((ClientKey::V4(2), scheduler.begin()));
        let mut order = Vec::new();
        for _ in 0..6 {
            for (client, turn) in &mut queued {
                turn.left = 0;
                if scheduler.poll(&cx, turn, *client).is_ready() {
                    turn.left = 0;
                    assert!(scheduler.poll(&cx, turn, *client).is_pending());
                }
            }
            let (next, _) = scheduler.next().unwrap();
            let is_next = |(_, turn): &&(ClientKey, BulkTurn)| {
                turn.waiter.as_ref().is_some_and(|waiter| Rc::ptr_eq(waiter, &next))
            };
            order.push(queued.iter().find(is_next).unwrap().0);
            next.granted.set(1);
        }
        let of_second = order.iter().filter(|client| **client == ClientKey::V4(2)).count();
        assert_eq!(of_second, 3, "{order:?}");
    }

    #[test]
    fn the_rate_applies_only_while_small_responses_are_pending() {
        let start = Instant::now();
        let mut budget = BulkBudget::new(start);
        assert!(!budget.applies(start, 0));
        assert!(budget.applies(start, 1));
        assert!(budget.applies(start + SMALL_EXPECTED_FOR / 2, 0));
        assert!(!budget.applies(start + SMALL_EXPECTED_FOR, 0));
    }

    #[test]
    fn the_budget_refills_with_time_up_to_a_burst() {
        let start = Instant::now();
        let mut budget = BulkBudget::new(start);
        assert!(budget.is_used_up(start));
        let later = start + Duration::from_secs(60);
        assert!(!budget.is_used_up(later));
        budget.spend(later, 12_000, 1_000_000);
        assert!(budget.is_used_up(later + Duration::from_millis(9)));
        assert!(!budget.is_used_up(later + Duration::from_millis(11)));
        budget.spend(later, 1 << 40, 0);
        assert!(!budget.is_used_up(later + Duration::from_millis(11)), "without a rate nothing is used up");
    }

    #[test]
    fn a_response_that_ends_while_it_waits_blocks_no_other() {
        actix_rt::System::new().block_on(async {
            let scheduler = Rc::new(BulkScheduler::new(&settings()));
            let task = actix_rt::spawn({
                let scheduler = Rc::clone(&scheduler);
                async move { scheduler.run().await }
            });
            let mut gone = scheduler.begin();
            gone.spend(FREE);
            std::future::poll_fn(|cx| {
                assert!(scheduler.poll(cx, &mut gone, ClientKey::Local).is_pending());
                Poll::Ready(())
            })
            .await;
            let mut turn = scheduler.begin();
            turn.spend(FREE);
            assert!(next(&scheduler, &mut turn).await > 0);
            task.abort();
        });
    }
}
