//! Counters of the caches, incremented by every thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one cache.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

/// Counts of one cache, and its number of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Lookups that found a valid entry.
    pub hits: u64,
    /// Lookups that found no entry, or an outdated one.
    pub misses: u64,
    /// Entries evicted to make room.
    pub evictions: u64,
    /// Entries now.
    pub entries: u64,
}

impl CacheCounters {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts evictions of a moka cache: its eviction listener.
    pub(super) fn listener<K, V>(
        self: &Arc<Self>,
    ) -> impl Fn(Arc<K>, V, moka::notification::RemovalCause) + Send + Sync + 'static {
        let counters = Arc::clone(self);
        move |_, _, cause| {
            if cause.was_evicted() {
                counters.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The counts of a cache that has `entries` now.
    pub(super) fn counts(&self, entries: u64) -> CacheCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Self { hits, misses, evictions } = self;
        CacheCounts { hits: load(hits), misses: load(misses), evictions: load(evictions), entries }
    }
}
