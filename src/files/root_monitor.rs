//! Checks of the document root: whether it can be served from, and whether another directory has replaced it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{FileSettings, Root, RootState, is_shortage};

/// Results of the root's checks.
#[derive(Default)]
pub(crate) struct RootMonitor {
    is_broken: AtomicBool,
    /// Number of replacements that [`Self::record`] has reported.
    swaps: AtomicU64,
    interval_ms: AtomicU64,
}

impl RootMonitor {
    /// Takes over the interval of these settings: no longer than a name is trusted.
    pub(crate) fn configure(&self, settings: &FileSettings) {
        let trust = settings.config.caches.revalidate_after.get().as_millis();
        let interval_ms = u64::try_from(trust).unwrap_or(u64::MAX).clamp(INTERVAL_MS_MIN, INTERVAL_MS_MAX);
        self.interval_ms.store(interval_ms, Ordering::Relaxed);
    }

    /// Time between two checks.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.load(Ordering::Relaxed))
    }

    /// Whether the root could be opened when it was last checked.
    pub(crate) fn is_sound(&self) -> bool {
        !self.is_broken.load(Ordering::Relaxed)
    }

    /// Records and logs the result of a check; true if another directory has replaced the root since the last call.
    pub(crate) fn record(&self, root: &Root, state: &RootState) -> bool {
        let path = root.path().display();
        let error = match state {
            // A lack of handles says nothing about the root.
            RootState::Broken(error) if is_shortage(error) => return false,
            RootState::Broken(error) => Some(error),
            RootState::Same | RootState::Swapped => None,
        };
        let was_broken = self.is_broken.swap(error.is_some(), Ordering::Relaxed);
        if let Some(error) = error.filter(|_| !was_broken) {
            log::error!("document root {path} can't be served: {error}");
        }
        // Not from `state`: a lookup that found nothing may have replaced the directory before.
        let swaps = root.swaps();
        let is_replaced = self.swaps.swap(swaps, Ordering::Relaxed) != swaps;
        if is_replaced {
            log::info!("document root {path} was replaced, name cache cleared");
        }
        is_replaced
    }
}

const INTERVAL_MS_MIN: u64 = 50;
const INTERVAL_MS_MAX: u64 = 1000;
