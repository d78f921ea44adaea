//! Counts how much a warm-up may still read into the caches.

use crate::config::ResolvedLimits;
use crate::files::warming::BudgetCharge;

/// Bytes left of each budget.
#[derive(Debug)]
pub(crate) struct CacheCapacity {
    heap: u64,
    mapped: u64,
    /// Bytes of the page cache: at most half of memory, since more would evict what was just read.
    read: u64,
}

impl CacheCapacity {
    /// The whole of each budget.
    pub(crate) fn new(limits: &ResolvedLimits) -> Self {
        Self { heap: limits.heap_bytes, mapped: limits.cache_bytes, read: limits.memory.bytes / 2 }
    }

    /// Takes the `charge` of a file, and the `read` bytes of it that are read into memory. Returns false and takes nothing if
    /// they are not left.
    pub(crate) fn take(&mut self, charge: BudgetCharge, read: u64) -> bool {
        let (heap, mapped, read) = match charge {
            BudgetCharge::Heap(bytes) => (bytes, 0, 0),
            BudgetCharge::Mapped(bytes) => (0, bytes, read),
            BudgetCharge::Unmapped => (0, 0, read),
        };
        let left = self.heap.checked_sub(heap).zip(self.mapped.checked_sub(mapped));
        let Some(((heap, mapped), read)) = left.zip(self.read.checked_sub(read)) else { return false };
        *self = Self { heap, mapped, read };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::MemoryAmount;

    #[test]
    fn each_budget_is_used_until_it_is_exhausted() {
        let limits = ResolvedLimits {
            heap_bytes: 10,
            cache_bytes: 100,
            memory: MemoryAmount { bytes: 120, ..MemoryAmount::default() },
            ..ResolvedLimits::default()
        };
        let mut capacity = CacheCapacity::new(&limits);
        for (charge, read, fits) in [
            (BudgetCharge::Heap(11), 0, false),
            (BudgetCharge::Heap(10), 99, true),
            (BudgetCharge::Heap(1), 0, false),
            (BudgetCharge::Mapped(101), 1, false),
            (BudgetCharge::Mapped(60), 40, true),
            (BudgetCharge::Mapped(41), 0, false),
            (BudgetCharge::Mapped(40), 21, false),
            (BudgetCharge::Unmapped, 15, true),
            (BudgetCharge::Mapped(40), 5, true),
            (BudgetCharge::Unmapped, 1, false),
            (BudgetCharge::Unmapped, 0, true),
        ] {
            assert_eq!(capacity.take(charge, read), fits, "{charge:?} {read} {capacity:?}");
        }
    }
}
