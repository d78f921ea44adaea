//! Rate limiting by the generic cell rate algorithm (ITU-T I.371, virtual scheduling).
//!
//! A limiter is one number: the moment at which the next item is due. Its callers pass in the time, the rate and the burst,
//! so both may change from one call to the next and tests need no clock. Times are nanoseconds of a [`RateClock`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rate limiter with one owner. The default one has its whole burst left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gcra {
    /// When the next item is due. Earlier than now: the time since then is saved up, as far as the burst allows.
    due: u64,
}

/// A rate limiter that threads share without a lock.
#[derive(Debug, Default)]
pub(crate) struct AtomicGcra(AtomicU64);

/// A rate of equal items: `burst` of them at once, and another one each `period` nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    period: u64,
    /// Items that may go at once after a pause.
    pub(crate) burst: u64,
}

/// Monotonic clock of rate limiters. It begins late enough that any burst was saved up before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateClock {
    started: Instant,
}

impl Gcra {
    /// A limiter with nothing saved up at `now`.
    pub(crate) fn empty(now: u64) -> Self {
        Self { due: now }
    }

    /// Reserves `cost` nanoseconds of the rate and returns the moment from which the item may go: `now` or before, or later.
    /// At most `credit` nanoseconds of idle time are made up for.
    pub(crate) fn reserve(&mut self, now: u64, cost: u64, credit: u64) -> u64 {
        let begin = self.due.max(now.saturating_sub(credit));
        self.due = begin.saturating_add(cost);
        begin
    }

    /// Reserves `cost` if the item may go at `now`.
    ///
    /// # Errors
    /// Nanoseconds until it may; nothing is reserved.
    pub(crate) fn take(&mut self, now: u64, cost: u64, credit: u64) -> Result<(), u64> {
        let wait = self.wait(now);
        if wait > 0 {
            return Err(wait);
        }
        self.reserve(now, cost, credit);
        Ok(())
    }

    /// Takes one item of `quota`.
    ///
    /// # Errors
    /// Nanoseconds until there is one.
    pub(crate) fn take_one(&mut self, now: u64, quota: Quota) -> Result<(), u64> {
        self.take(now, quota.period, quota.credit())
    }

    /// Charges one item of `quota`. Items beyond it delay the next one by one period together.
    pub(crate) fn charge_one(&mut self, now: u64, quota: Quota) {
        self.reserve(now, quota.period, quota.credit());
        self.limit_debt(now, quota.period);
    }

    /// Nanoseconds until the next item may go; 0: now.
    pub(crate) fn wait(self, now: u64) -> u64 {
        self.due.saturating_sub(now)
    }

    /// Nanoseconds since the next item was due; 0: it is not yet, or just now.
    pub(crate) fn saved(self, now: u64) -> u64 {
        now.saturating_sub(self.due)
    }

    /// Items of `quota` that may go at `now`.
    pub(crate) fn left(self, now: u64, quota: Quota) -> u64 {
        match now.checked_sub(self.due) {
            Some(saved) if saved < quota.credit() => saved / quota.period + 1,
            Some(_) => quota.burst,
            None => 0,
        }
    }

    /// Returns `cost` that was reserved and not used.
    pub(crate) fn give_back(&mut self, cost: u64) {
        self.due = self.due.saturating_sub(cost);
    }

    /// Makes the next item due at most `debt` nanoseconds from `now`.
    pub(crate) fn limit_debt(&mut self, now: u64, debt: u64) {
        self.due = self.due.min(now.saturating_add(debt));
    }
}

impl AtomicGcra {
    /// The limiter as it is now.
    pub(crate) fn load(&self) -> Gcra {
        Gcra { due: self.0.load(Ordering::Relaxed) }
    }

    /// Applies `change` in one step and returns its result. It may run more than once.
    pub(crate) fn update<R>(&self, change: impl Fn(&mut Gcra) -> R) -> R {
        let mut before = self.load();
        loop {
            let mut after = before;
            let result = change(&mut after);
            if after == before {
                return result;
            }
            match self.0.compare_exchange_weak(before.due, after.due, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return result,
                Err(due) => before = Gcra { due },
            }
        }
    }
}

impl Quota {
    /// `burst` items at once, at least one, and one each `period` nanoseconds. A burst that takes more than 190 years to
    /// save up is cut to that: the times of a larger one would overflow.
    pub(crate) const fn new(period: u64, burst: u64) -> Self {
        let period = if period == 0 { 1 } else { period };
        let most = if BEGIN / period == 0 { 1 } else { BEGIN / period };
        let burst = if burst == 0 { 1 } else { burst };
        Self { period, burst: if burst < most { burst } else { most } }
    }

    /// `items` in each `span`, and `burst` of them at once.
    pub(crate) fn per(span: Duration, items: u64, burst: u64) -> Self {
        Self::new(whole_nanos(span) / items.max(1), burst)
    }

    /// Nanoseconds until `left` items are the whole burst.
    pub(crate) fn until_full(self, left: u64) -> u64 {
        self.period.saturating_mul(self.burst.saturating_sub(left))
    }

    /// Nanoseconds that a limiter saves up, beside the item that may go in any case.
    fn credit(self) -> u64 {
        self.period.saturating_mul(self.burst - 1)
    }
}

impl Default for RateClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl RateClock {
    pub(crate) fn now(self) -> u64 {
        self.at(Instant::now())
    }

    /// The clock's time at `instant`.
    pub(crate) fn at(self, instant: Instant) -> u64 {
        BEGIN + whole_nanos(instant.saturating_duration_since(self.started))
    }

    /// The moment at which the clock's time is `at`.
    pub(crate) fn instant(self, at: u64) -> Instant {
        self.started + Duration::from_nanos(at.saturating_sub(BEGIN))
    }
}

/// Nanoseconds of a span, as far as there was time for it since the start.
fn whole_nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).map_or(BEGIN, |nanos| nanos.min(BEGIN))
}

/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The time at which a [`RateClock`] starts: a third of what 64 bits of nanoseconds reach, some 190 years.
const BEGIN: u64 = u64::MAX / 3;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = SECOND / 1000;
    const LATE: u64 = 10 * MILLI;

    #[test]
    fn reservations_follow_one_another_at_the_rate() {
        let mut bucket = Gcra::default();
        let now = 5 * SECOND;
        let times: Vec<u64> = (0..4).map(|_| bucket.reserve(now, 10 * MILLI, 0) - now).collect();
        assert_eq!(times, [0, 10 * MILLI, 20 * MILLI, 30 * MILLI]);
    }

    #[test]
    fn unused_time_is_made_up_for_up_to_the_credit() {
        let mut bucket = Gcra::default();
        bucket.reserve(SECOND, 10 * MILLI, 0);
        let now = 9 * SECOND;
        let at_once: Vec<bool> = (0..6).map(|_| bucket.reserve(now, 10 * MILLI, 30 * MILLI) <= now).collect();
        assert_eq!(at_once, [true, true, true, true, false, false]);
    }

    #[test]
    fn a_late_reservation_continues_where_the_last_one_ended() {
        let mut bucket = Gcra::default();
        let start = SECOND;
        let mut now = start;
        for _ in 0..1000 {
            // Each is sent 2 ms after it might have been.
            now = bucket.reserve(now, 10 * MILLI, LATE).max(now) + 2 * MILLI;
        }
        let elapsed = now - start;
        assert!((9_980 * MILLI..10_010 * MILLI).contains(&elapsed), "{elapsed}");
    }

    #[test]
    fn returned_cost_is_due_again() {
        let mut bucket = Gcra::default();
        let now = SECOND;
        bucket.reserve(now, 10 * MILLI, 0);
        bucket.reserve(now, 10 * MILLI, 0);
        bucket.give_back(10 * MILLI);
        assert_eq!(bucket.reserve(now, MILLI, 0), now + 10 * MILLI);
    }

    #[test]
    fn a_quota_allows_its_burst_and_then_one_item_each_period() {
        let (quota, mut bucket, now) = (Quota::new(SECOND, 3), Gcra::default(), 100 * SECOND);
        assert_eq!(bucket.left(now, quota), 3);
        for left in [2, 1, 0] {
            assert_eq!(bucket.take_one(now, quota), Ok(()));
            assert_eq!(bucket.left(now, quota), left);
        }
        assert_eq!(bucket.take_one(now, quota), Err(SECOND));
        assert_eq!(bucket.take_one(now + SECOND - 1, quota), Err(1));
        assert_eq!(bucket.take_one(now + SECOND, quota), Ok(()));
        assert_eq!(bucket.left(now + 3 * SECOND - 1, quota), 1);
        assert_eq!(bucket.left(now + 3 * SECOND, quota), 2);
        assert_eq!(bucket.left(now + 99 * SECOND, quota), 3);
        assert_eq!(quota.until_full(1), 2 * SECOND);
    }

    #[test]
    fn items_beyond_the_quota_delay_the_next_one_by_one_period() {
        let (quota, mut bucket, now) = (Quota::new(SECOND, 2), Gcra::default(), 100 * SECOND);
        (0..100).for_each(|_| bucket.charge_one(now, quota));
        assert_eq!(bucket.wait(now), SECOND);
    }

    #[test]
    fn a_clock_begins_with_every_burst_saved_up() {
        let clock = RateClock::default();
        let now = clock.now();
        for quota in [Quota::new(u64::MAX, 1), Quota::new(1, u64::MAX), Quota::new(SECOND, u64::MAX)] {
            let mut bucket = Gcra::default();
            assert_eq!(bucket.left(now, quota), quota.burst);
            assert_eq!(bucket.take_one(now, quota), Ok(()));
            assert_eq!(bucket.left(now, quota), quota.burst - 1);
        }
        assert_eq!(clock.at(clock.instant(now + SECOND)), now + SECOND);
    }

    #[test]
    fn threads_that_share_a_limiter_take_no_more_than_its_burst() {
        let (quota, bucket) = (Quota::new(SECOND, 1000), AtomicGcra::default());
        let take = || (0..1000).filter(|_| bucket.update(|gcra| gcra.take_one(BEGIN, quota)).is_ok()).count();
        let taken = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(take));
            threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
        });
        assert_eq!(taken, 1000);
    }
}
