//! How often a client may present wrong credentials.

use crate::config::RequestRate;
use crate::sys::gcra::{AtomicGcra, Quota, SECOND};

/// Wrong attempts that a client may make: a burst as large as the rate's number, then one each period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptRate(Quota);

/// A client's wrong attempts. Right ones cost nothing, so the limit is checked first and charged afterwards.
#[derive(Debug, Default)]
pub(crate) struct FailedAttempts(AtomicGcra);

impl AttemptRate {
    pub(crate) fn new(rate: RequestRate) -> Self {
        Self(Quota::per(rate.span(), rate.requests(), rate.requests()))
    }
}

impl FailedAttempts {
    /// Whole seconds from `now` until another attempt may be made; `None`: it may be made now.
    pub(crate) fn wait(&self, now: u64) -> Option<u64> {
        let wait = self.0.load().wait(now);
        (wait > 0).then(|| wait.div_ceil(SECOND))
    }

    /// Counts a wrong attempt. Several under way at once delay the next one by one period at most.
    pub(crate) fn count_wrong(&self, rate: AttemptRate, now: u64) {
        self.0.update(|gcra| gcra.charge_one_capped(now, rate.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = u64::MAX / 3;

    #[test]
    fn a_burst_of_wrong_attempts_is_allowed_and_then_one_each_period() {
        let rate = AttemptRate::new("30/m".parse().unwrap());
        let (attempts, at) = (FailedAttempts::default(), |seconds| NOW + seconds * SECOND);
        for number in 0..30 {
            assert_eq!(attempts.wait(at(100)), None, "{number}");
            attempts.count_wrong(rate, at(100));
        }
        assert_eq!(attempts.wait(at(100)), Some(2));
        assert_eq!(attempts.wait(at(101)), Some(1));
        assert_eq!(attempts.wait(at(102)), None);
        attempts.count_wrong(rate, at(102));
        assert_eq!(attempts.wait(at(102)), Some(2));
        assert_eq!(attempts.wait(at(162)), None);
    }

    #[test]
    fn concurrent_wrong_attempts_delay_the_next_by_one_period() {
        let rate = AttemptRate::new("2/h".parse().unwrap());
        let (attempts, now) = (FailedAttempts::default(), NOW);
        (0..100).for_each(|_| attempts.count_wrong(rate, now));
        assert_eq!(attempts.wait(now), Some(1800));
    }
}
