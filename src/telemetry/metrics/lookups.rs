//! What one worker's own short cuts led to. It alone writes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::count::add;

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerLookups {
    hits: [AtomicU64; 4],
    misses: AtomicU64,
}

/// What a short cut led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathCacheHit {
    /// A file on the heap.
    Heap,
    /// A mapped file.
    Mapped,
    /// A file that is never kept.
    Unmapped,
    /// No file.
    Nothing,
}

/// What all workers' short cuts led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookupCounts {
    pub(crate) heap: u64,
    pub(crate) mapped: u64,
    pub(crate) unmapped: u64,
    pub(crate) nothing: u64,
    pub(crate) misses: u64,
}

impl WorkerLookups {
    /// A short cut led there.
    pub(crate) fn hit(&self, hit: PathCacheHit) {
        add(&self.hits[hit as usize], 1);
    }

    /// There was none, or none to be trusted.
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
    /// All that were found.
    pub(crate) fn hits(&self) -> u64 {
        self.heap + self.mapped + self.unmapped + self.nothing
    }
}
