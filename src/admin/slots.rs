//! Bounded slots of the admin listener.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded number of slots. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct AdminSlots {
    free: Arc<Semaphore>,
    pub(crate) max: usize,
}

/// A slot in use. Freed when dropped.
pub(crate) type AdminSlot = OwnedSemaphorePermit;

impl AdminSlots {
    /// Creates `max` slots, at least one.
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { free: Arc::new(Semaphore::new(max)), max }
    }

    /// Number of slots in use.
    pub(crate) fn taken(&self) -> usize {
        self.max.saturating_sub(self.free.available_permits())
    }

    /// Takes a slot if one is free.
    pub(crate) fn take(&self) -> Option<AdminSlot> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Waits until a slot is free. It stays free unless another task takes it.
    pub(crate) async fn one_free(&self) {
        // The semaphore is never closed.
        drop(self.free.acquire().await);
    }

    /// Waits until no slot is in use.
    pub(crate) async fn all_free(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(all).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_number_of_slots_is_bounded_and_at_least_one() {
        for (wanted, max) in [(0, 1), (1, 1), (3, 3)] {
            let slots = AdminSlots::new(wanted);
            let taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
            assert_eq!((taken.len(), slots.taken(), slots.max), (max, max, max), "{wanted}");
            drop(taken);
            assert_eq!((slots.taken(), slots.max), (0, max));
            slots.all_free().await;
        }
    }
}
