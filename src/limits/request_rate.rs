//! A rate of requests: its token bucket, and the `RateLimit` headers that describe it to clients.

use std::time::Duration;

use parking_lot::Mutex;

use crate::config::{Auto, Count, RequestRate, Toggle};
use crate::sys::gcra::{Gcra, Quota};

/// A rate of requests with the name of its policy.
pub(crate) struct Rate {
    name: &'static str,
    requests: u64,
    seconds: u64,
    quota: Quota,
}

impl Rate {
    /// `rate` with a burst of `burst` requests; by default as many as the rate names. `None`: no limit.
    pub(crate) fn new(name: &'static str, rate: &Toggle<RequestRate>, burst: &Auto<Count>) -> Option<Self> {
        let rate = rate.given()?;
        let requests = rate.requests().max(1);
        let quota = Quota::per(rate.span, requests, burst.given().map_or(requests, |burst| burst.get()));
        Some(Self { name, requests, seconds: rate.span.as_secs(), quota })
    }

    /// Header lines for a response after which `left` requests may be made at once, and more after `wait`
    /// (draft-ietf-httpapi-ratelimit-headers). The policy names the rate, not a burst beyond it.
    pub(crate) fn lines(&self, left: u64, wait: Duration) -> String {
        let Self { name, requests, seconds, .. } = self;
        let left = left.min(*requests);
        format!(
            "ratelimit-policy: \"{name}\";q={requests};w={seconds}\r\nratelimit: \"{name}\";r={left};t={}\r\n",
            seconds_up(wait)
        )
    }

    /// Time until the whole burst may be used again when `left` requests are left.
    pub(crate) fn until_full(&self, left: u64) -> Duration {
        Duration::from_nanos(self.quota.until_full(left))
    }
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Token bucket of a request rate. It starts full with the first request, and again when the rate is another one.
#[derive(Debug, Default)]
pub(crate) struct RequestBucket {
    limiter: Mutex<Option<(Quota, Gcra)>>,
}

impl RequestBucket {
    /// Takes one request at `now` and returns how many more may be made at once.
    ///
    /// # Errors
    /// None is left: the time until there is one.
    pub(crate) fn take(&self, rate: &Rate, now: u64) -> Result<u64, Duration> {
        let quota = rate.quota;
        let mut limiter = self.limiter.lock();
        let (_, gcra) = match &mut *limiter {
            Some(known) if known.0 == quota => known,
            other => other.insert((quota, Gcra::default())),
        };
        gcra.take_one(now, quota).map_err(Duration::from_nanos)?;
        Ok(gcra.left(now, quota))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::gcra::SECOND;

    const NOW: u64 = u64::MAX / 3;

    fn rate(text: &str, burst: Option<u64>) -> Rate {
        let burst = burst.map_or(Auto::Auto, |burst| Auto::Given(Count::of(burst)));
        Rate::new("client", &text.parse().unwrap(), &burst).unwrap()
    }

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let (hourly, bucket) = (rate("100/h", Some(3)), RequestBucket::default());
        assert_eq!([(); 3].map(|()| bucket.take(&hourly, NOW)), [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(bucket.take(&hourly, NOW), Err(Duration::from_secs(36)));
        let (fast, bucket) = (rate("1000/s", Some(1)), RequestBucket::default());
        assert_eq!(bucket.take(&fast, NOW), Ok(0));
        assert_eq!(bucket.take(&fast, NOW + SECOND / 500), Ok(0));
    }

    #[test]
    fn a_changed_rate_starts_with_a_full_bucket() {
        let bucket = RequestBucket::default();
        assert_eq!(bucket.take(&rate("1/h", None), NOW), Ok(0));
        assert!(bucket.take(&rate("1/h", None), NOW).is_err());
        assert_eq!(bucket.take(&rate("2/h", None), NOW), Ok(1));
    }

    #[test]
    fn the_burst_is_the_number_in_the_rate_unless_given() {
        for (text, burst, expected) in [
            ("10/s", None, 10),
            ("600/m", None, 600),
            ("100/h", None, 100),
            ("10/s", Some(1), 1),
            ("10/s", Some(50), 50),
            ("100000000/s", None, 100_000_000),
            ("1/h", Some(1_000_000_000), 1_708_000),
        ] {
            let size = rate(text, burst).quota.burst;
            assert!(size.abs_diff(expected) <= expected / 1000, "{text} {burst:?}: {size}");
            // The largest of them overflow nothing.
            assert!(RequestBucket::default().take(&rate(text, burst), NOW).is_ok());
        }
    }

    #[test]
    fn headers_have_whole_seconds_rounded_up() {
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
