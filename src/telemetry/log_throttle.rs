//! How often the log hears of what is refused: of a client once a minute, and of all together not much more; of what is only
//! counted the first time, and then every thousandth.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::gcra::{AtomicGcra, Quota, RateClock, SECOND};

/// Whether something is said now.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    clock: RateClock,
    all: AtomicGcra,
}

/// When a client was last spoken of.
#[derive(Debug, Default)]
pub(crate) struct LastLogged(AtomicU64);

impl LogThrottle {
    pub(crate) fn new() -> Self {
        Self { clock: RateClock::new(), all: AtomicGcra::default() }
    }

    /// Whether a client is to be spoken of that was `told` of then.
    pub(crate) fn is_due(&self, told: &LastLogged) -> bool {
        let now = self.clock.now();
        let minute = now / (60 * SECOND);
        let is_new =
            told.0.load(Ordering::Relaxed) != minute && told.0.swap(minute, Ordering::Relaxed) != minute;
        is_new && self.all.update(|gcra| gcra.take_one(now, ALL_CLIENTS)).is_ok()
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

/// Lines about all clients together: sixty at once and sixty each minute.
const ALL_CLIENTS: Quota = Quota::new(SECOND, 60);

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
