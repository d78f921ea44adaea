//! A token bucket by virtual scheduling: not tokens are kept but the moment at which the next byte is due (the generic cell
//! rate algorithm of ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering};

/// When what comes next is due, in nanoseconds of the guard's clock. Whoever reserves is told when to send, so nobody has to
/// be woken who can't; many workers share one without a lock. The rate is no part of it and may change.
#[derive(Debug, Default)]
pub(crate) struct RateBucket {
    due: AtomicU64,
}

impl RateBucket {
    /// Reserves what takes `cost` nanoseconds of the rate, and returns the moment from which it may be sent: `now` or
    /// before, or later. Of the time that nothing was sent in, `credit` nanoseconds at most are made up for.
    pub(crate) fn reserve(&self, now: u64, cost: u64, credit: u64) -> u64 {
        let begin = |due: u64| due.max(now.saturating_sub(credit));
        let next = |due| Some(begin(due).saturating_add(cost));
        let (Ok(due) | Err(due)) = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        begin(due)
    }

    /// What was reserved and not sent: whoever reserves next has it.
    pub(crate) fn give_back(&self, cost: u64) {
        let _ =
            self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(due.saturating_sub(cost)));
    }
}

/// How long `bytes` take at `rate` bytes a second, in nanoseconds.
pub(crate) fn nanoseconds(bytes: u64, rate: u64) -> u64 {
    let nanoseconds = u128::from(bytes) * u128::from(SECOND) / u128::from(rate.max(1));
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// What a connection reserves at once, in bytes: a part of a second, which is the grain of the pace, and never so
/// little that the calls cost more than the bytes.
pub(crate) fn chunk(rate: u64, part_of_second: u64, most: u64) -> u64 {
    (rate / part_of_second).clamp(CHUNK_MIN, most.max(CHUNK_MIN))
}

/// A second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Time that is made up for in any case: a timer fires late by its grain, and a task when its turn comes.
pub(crate) const LATE: u64 = SECOND / 100;

const CHUNK_MIN: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = SECOND / 1000;

    #[test]
    fn reservations_follow_one_another_at_the_rate() {
        let bucket = RateBucket::default();
        let now = 5 * SECOND;
        let times: Vec<u64> = (0..4).map(|_| bucket.reserve(now, 10 * MILLI, 0) - now).collect();
        assert_eq!(times, [0, 10 * MILLI, 20 * MILLI, 30 * MILLI]);
    }

    #[test]
    fn what_was_not_used_is_made_up_for_as_far_as_the_credit_goes() {
        let bucket = RateBucket::default();
        bucket.reserve(SECOND, 10 * MILLI, 0);
        let now = 9 * SECOND;
        let due = |bucket: &RateBucket| bucket.reserve(now, 10 * MILLI, 30 * MILLI) <= now;
        let at_once: Vec<bool> = (0..6).map(|_| due(&bucket)).collect();
        assert_eq!(at_once, [true, true, true, true, false, false]);
    }

    #[test]
    fn a_late_reservation_takes_up_where_the_last_one_ended() {
        let bucket = RateBucket::default();
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
    fn what_is_given_back_is_due_again() {
        let bucket = RateBucket::default();
        let now = SECOND;
        bucket.reserve(now, 10 * MILLI, 0);
        bucket.reserve(now, 10 * MILLI, 0);
        bucket.give_back(10 * MILLI);
        assert_eq!(bucket.reserve(now, MILLI, 0), now + 10 * MILLI);
    }

    #[test]
    fn bytes_become_time_and_chunks_stay_within_bounds() {
        assert_eq!(nanoseconds(1024, 1024), SECOND);
        assert_eq!(nanoseconds(1, 1 << 40), 0);
        assert_eq!(nanoseconds(u64::MAX, 1), u64::MAX);
        for (rate, expected) in [(1024, 1024), (64 << 10, 1024), (1 << 20, 10_485), (1 << 40, 1 << 18)] {
            assert_eq!(chunk(rate, 100, 1 << 18), expected, "{rate}");
        }
    }
}
