//! How often a client may be wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::RequestRate;

/// Wrong attempts that a client has: so many at once, and then one in each span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptRate {
    each_ns: u64,
    all_ns: u64,
}

/// The moment at which all of a client's wrong attempts are forgotten, in nanoseconds since the start.
///
/// A bucket that is looked at before it is known whether something is taken out: only who was wrong pays.
#[derive(Debug, Default)]
pub(crate) struct FailedAttempts(AtomicU64);

impl AttemptRate {
    /// As many as `rate` names may be made at once.
    pub(crate) fn new(rate: RequestRate) -> Self {
        let span = u64::try_from(rate.span().as_nanos()).unwrap_or(u64::MAX);
        let each_ns = (span / rate.requests().max(1)).max(1);
        Self { each_ns, all_ns: each_ns.saturating_mul(rate.requests().max(1)) }
    }
}

impl FailedAttempts {
    /// Whole seconds until another attempt may be made, `now` after the start; none: it may be made now.
    pub(crate) fn wait(&self, rate: &AttemptRate, now: Duration) -> Option<u64> {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(nanos(now));
        let beyond =
            left.saturating_add(rate.each_ns).checked_sub(rate.all_ns).filter(|beyond| *beyond > 0)?;
        Some(beyond.div_ceil(SECOND_NS))
    }

    /// An attempt was wrong. Those that were under way together keep nobody out for longer than all that there are.
    pub(crate) fn note_wrong(&self, rate: &AttemptRate, now: Duration) {
        let now = nanos(now);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let next = until.max(now).saturating_add(rate.each_ns);
            Some(next.min(now.saturating_add(rate.all_ns)))
        });
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_may_be_wrong_at_once_and_then_one_in_each_span() {
        let rate = AttemptRate::new("30/m".parse().unwrap());
        let (attempts, at) = (FailedAttempts::default(), Duration::from_secs);
        for number in 0..30 {
            assert_eq!(attempts.wait(&rate, at(100)), None, "{number}");
            attempts.note_wrong(&rate, at(100));
        }
        assert_eq!(attempts.wait(&rate, at(100)), Some(2));
        assert_eq!(attempts.wait(&rate, at(101)), Some(1));
        assert_eq!(attempts.wait(&rate, at(102)), None);
        attempts.note_wrong(&rate, at(102));
        assert_eq!(attempts.wait(&rate, at(102)), Some(2));
        assert_eq!(attempts.wait(&rate, at(162)), None);
    }

    #[test]
    fn those_that_were_under_way_together_cost_no_more_than_all_there_are() {
        let rate = AttemptRate::new("2/h".parse().unwrap());
        let (attempts, now) = (FailedAttempts::default(), Duration::from_secs(5));
        (0..100).for_each(|_| attempts.note_wrong(&rate, now));
        assert_eq!(attempts.wait(&rate, now), Some(1800));
    }
}
