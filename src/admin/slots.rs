//! Places at the admin listener: how many there are, and how many are taken.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded number of places. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct AdminSlots {
    free: Arc<Semaphore>,
    max: usize,
}

/// How many places are taken at one moment, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    pub(crate) taken: usize,
    pub(crate) max: usize,
}

/// A place that is taken, until it is dropped.
pub(crate) type AdminSlot = OwnedSemaphorePermit;

impl AdminSlots {
    /// At least one.
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { free: Arc::new(Semaphore::new(max)), max }
    }

    pub(crate) fn counts(&self) -> SlotCounts {
        let Self { free, max } = self;
        SlotCounts { taken: max.saturating_sub(free.available_permits()), max: *max }
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<AdminSlot> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Waits until a place is free. It stays so if nobody else takes any.
    pub(crate) async fn room(&self) {
        // It is never closed.
        drop(self.free.acquire().await);
    }

    /// Waits until none is taken.
    pub(crate) async fn all_left(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_as_many_places_as_was_said_and_one_at_least() {
        for (asked, max) in [(0, 1), (1, 1), (3, 3)] {
            let places = AdminSlots::new(asked);
            let taken: Vec<_> = std::iter::from_fn(|| places.take()).collect();
            assert_eq!((taken.len(), places.counts()), (max, SlotCounts { taken: max, max }), "{asked}");
            drop(taken);
            assert_eq!(places.counts(), SlotCounts { taken: 0, max });
            places.all_left().await;
        }
    }
}
