//! How often the log hears of what is refused: of a client once a minute, and of all together not much more; of what is only
//! counted the first time, and then every thousandth.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Whether something is said now.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    started: Instant,
    all: DefaultDirectRateLimiter,
}

/// When a client was last spoken of.
#[derive(Debug, Default)]
pub(crate) struct LastLogged(AtomicU64);

impl LogThrottle {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), all: RateLimiter::direct(Quota::per_minute(LINES_A_MINUTE)) }
    }

    /// Whether a client is to be spoken of that was `told` of then.
    pub(crate) fn is_due(&self, told: &LastLogged) -> bool {
        let minute = self.started.elapsed().as_secs() / 60 + 1;
        let is_new =
            told.0.load(Ordering::Relaxed) != minute && told.0.swap(minute, Ordering::Relaxed) != minute;
        is_new && self.all.check().is_ok()
    }
}

/// How often something occurred.
#[derive(Debug, Default)]
pub(crate) struct SampledCounter(AtomicU64);

impl SampledCounter {
    /// It occurred once more: for the how-manieth time, and whether the log is to hear of it.
    pub(crate) fn count(&self) -> (u64, bool) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        (before + 1, before.is_multiple_of(TOLD_EVERY))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const TOLD_EVERY: u64 = 1000;

/// Of all clients together.
const LINES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_spoken_of_once_a_minute_and_all_together_sixty_times() {
        let (telling, told) = (LogThrottle::new(), LastLogged::default());
        assert!(telling.is_due(&told));
        assert!(!telling.is_due(&told));
        let others = (0..1000).filter(|_| telling.is_due(&LastLogged::default())).count();
        assert!((59..=90).contains(&others), "{others}");
    }
}
