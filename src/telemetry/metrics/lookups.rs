//! Counters of the path cache that each worker has in front of the shared caches.

use std::sync::atomic::{AtomicU64, Ordering};

use super::count::add;

/// Path cache counters of one worker, which alone writes them.
#[derive(Debug, Default)]
pub struct WorkerLookups {
    hits: [AtomicU64; 4],
    misses: AtomicU64,
}

/// What a path cache entry refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathCacheHit {
    /// A file on the heap.
    Heap,
    /// A mapped file.
    Mapped,
    /// A file that no cache keeps.
    Unmapped,
    /// No file: the name is known not to exist, or is redirected.
    Nothing,
}

/// Path cache counts of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookupCounts {
    pub(crate) heap: u64,
    pub(crate) mapped: u64,
    pub(crate) unmapped: u64,
    pub(crate) nothing: u64,
    pub(crate) misses: u64,
}

impl WorkerLookups {
    /// Counts a hit.
    pub(crate) fn hit(&self, hit: PathCacheHit) {
        add(&self.hits[hit as usize], 1);
    }

    /// Counts a lookup without an entry, or with an entry that is no longer valid.
    pub(crate) fn miss(&self) {
        add(&self.misses, 1);
    }

    pub(super) fn add_to(&self, counts: &mut LookupCounts) {
        let [heap, mapped, unmapped, nothing] =
            self.hits.each_ref().map(|count| count.load(Ordering::Relaxed));
        counts.heap += heap;
        counts.mapped += mapped;
        counts.unmapped += unmapped;
        counts.nothing += nothing;
        counts.misses += self.misses.load(Ordering::Relaxed);
    }
}

impl LookupCounts {
    /// Hits of all kinds.
    pub(crate) fn hits(&self) -> u64 {
        self.heap + self.mapped + self.unmapped + self.nothing
    }
}
