//! A rate of requests: a token bucket, and what clients are told of it.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use crate::config::RequestRate;

/// How many requests there may be.
pub(crate) struct Rate {
    /// The name of the policy, as clients are told it.
    name: &'static str,
    requests: u64,
    seconds: u64,
    quota: Quota,
}

impl Rate {
    /// `rate`, and `burst` requests at once; none is as many as the rate names.
    pub(crate) fn new(name: &'static str, rate: RequestRate, burst: Option<u64>) -> Option<Self> {
        let requests = rate.requests().max(1);
        let each = (rate.span().as_nanos() / u128::from(requests)).try_into().unwrap_or(u64::MAX).max(1);
        // A bucket that takes years to fill would overflow the arithmetic below it, and be no limit.
        let burst = burst.unwrap_or(requests).clamp(1, (FULL_AFTER_NS / each).max(1));
        let burst = NonZeroU32::new(u32::try_from(burst).unwrap_or(u32::MAX))?;
        let quota = Quota::with_period(Duration::from_nanos(each))?.allow_burst(burst);
        Some(Self { name, requests, seconds: rate.span().as_secs(), quota })
    }

    /// Field lines for a response after which `left` requests may be made at once, and more after `wait`
    /// (draft-ietf-httpapi-ratelimit-headers). The policy is the rate; a burst beyond it is left unsaid.
    pub(crate) fn lines(&self, left: u32, wait: Duration) -> String {
        let Self { name, requests, seconds, .. } = self;
        let left = u64::from(left).min(*requests);
        format!(
            "ratelimit-policy: \"{name}\";q={requests};w={seconds}\r\nratelimit: \"{name}\";r={left};t={}\r\n",
            seconds_up(wait)
        )
    }

    /// Until all is to be had again, once `left` is.
    pub(crate) fn until_full(&self, left: u32) -> Duration {
        let missing = self.quota.burst_size().get().saturating_sub(left);
        self.quota.replenish_interval().saturating_mul(missing)
    }
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// What is left of a rate. Made when it is first asked, and anew, full, when the rate is another one.
#[derive(Debug, Default)]
pub(crate) struct RequestBucket {
    limiter: Mutex<Option<(Quota, Limiter)>>,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

impl RequestBucket {
    /// Takes one request out; returns how many more may be made at once.
    ///
    /// # Errors
    /// There is none left: how long it takes until there is one.
    pub(crate) fn take(&self, rate: &Rate) -> Result<u32, Duration> {
        let mut limiter = self.limiter.lock();
        let (_, limiter) = match &mut *limiter {
            Some(known) if known.0 == rate.quota => known,
            other => other.insert((rate.quota, RateLimiter::direct(rate.quota).with_middleware())),
        };
        match limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(not_until) => Err(not_until.wait_time_from(DefaultClock::default().now())),
        }
    }
}

/// A third of the time that 64 bits of nanoseconds reach: some 190 years.
const FULL_AFTER_NS: u64 = u64::MAX / 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str, burst: Option<u64>) -> Rate {
        Rate::new("client", text.parse().unwrap(), burst).unwrap()
    }

    #[test]
    fn a_bucket_has_its_burst_and_then_its_rate() {
        let (hourly, bucket) = (rate("100/h", Some(3)), RequestBucket::default());
        assert_eq!([(); 3].map(|()| bucket.take(&hourly)), [Ok(2), Ok(1), Ok(0)]);
        let wait = bucket.take(&hourly).unwrap_err();
        assert!(wait > Duration::from_secs(1) && wait <= Duration::from_secs(36), "{wait:?}");
        let (fast, bucket) = (rate("1000/s", Some(1)), RequestBucket::default());
        assert_eq!(bucket.take(&fast), Ok(0));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(bucket.take(&fast), Ok(0));
    }

    #[test]
    fn another_rate_begins_with_a_full_bucket_and_the_same_one_does_not() {
        let bucket = RequestBucket::default();
        assert_eq!(bucket.take(&rate("1/h", None)), Ok(0));
        assert!(bucket.take(&rate("1/h", None)).is_err());
        assert_eq!(bucket.take(&rate("2/h", None)), Ok(1));
    }

    #[test]
    fn a_burst_is_what_the_rate_names_unless_it_is_given() {
        for (text, burst, expected) in [
            ("10/s", None, 10),
            ("600/m", None, 600),
            ("100/h", None, 100),
            ("10/s", Some(1), 1),
            ("10/s", Some(50), 50),
            ("100000000/s", None, 100_000_000),
            ("1/h", Some(1_000_000_000), 1_708_000),
        ] {
            let size = u64::from(rate(text, burst).quota.burst_size().get());
            assert!(size.abs_diff(expected) <= expected / 1000, "{text} {burst:?}: {size}");
            // The largest of them overflow nothing.
            assert!(RequestBucket::default().take(&rate(text, burst)).is_ok());
        }
    }

    #[test]
    fn clients_are_told_in_whole_seconds_rounded_up() {
        let minutely = rate("600/m", Some(1000));
        assert_eq!(
            minutely.lines(900, minutely.until_full(999)),
            "ratelimit-policy: \"client\";q=600;w=60\r\nratelimit: \"client\";r=600;t=1\r\n"
        );
        assert_eq!(
            minutely.lines(0, minutely.until_full(0)),
            "ratelimit-policy: \"client\";q=600;w=60\r\nratelimit: \"client\";r=0;t=100\r\n"
        );
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds_up(Duration::from_millis(millis)), seconds);
        }
    }
}
