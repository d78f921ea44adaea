//! How many files the caches hold.

use crate::config::Limits;
use crate::files::cache::warming::Charge;

/// What is left of each budget.
#[derive(Debug)]
pub(crate) struct Room {
    heap: u64,
    mapped: u64,
    /// Bytes of the page cache: more than half of memory would push itself out again.
    read: u64,
}

impl Room {
    /// All of it.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { heap: limits.heap_bytes, mapped: limits.cache_bytes, read: limits.memory_bytes / 2 }
    }

    /// Takes what a file is charged to, and the `read` bytes of it that are wanted in memory; false, and nothing is taken,
    /// where that is not left.
    pub(crate) fn take(&mut self, charge: Charge, read: u64) -> bool {
        let (heap, mapped, read) = match charge {
            Charge::Heap(bytes) => (bytes, 0, 0),
            Charge::Mapped(bytes) => (0, bytes, read),
            Charge::Unmapped => (0, 0, read),
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

    #[test]
    fn each_budget_is_taken_from_until_it_is_used_up() {
        let limits = Limits { heap_bytes: 10, cache_bytes: 100, memory_bytes: 120, ..Limits::default() };
        let mut room = Room::new(&limits);
        for (charge, read, fits) in [
            (Charge::Heap(11), 0, false),
            (Charge::Heap(10), 99, true),
            (Charge::Heap(1), 0, false),
            (Charge::Mapped(101), 1, false),
            (Charge::Mapped(60), 40, true),
            (Charge::Mapped(41), 0, false),
            (Charge::Mapped(40), 21, false),
            (Charge::Unmapped, 15, true),
            (Charge::Mapped(40), 5, true),
            (Charge::Unmapped, 1, false),
            (Charge::Unmapped, 0, true),
        ] {
            assert_eq!(room.take(charge, read), fits, "{charge:?} {read} {room:?}");
        }
    }
}
