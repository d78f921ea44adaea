//! Counters of the caches and of background tasks, incremented by every thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one cache.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

/// Counters of one kind of background task.
#[derive(Debug, Default)]
pub(crate) struct WorkCounters {
    done: AtomicU64,
    useless: AtomicU64,
    failed: AtomicU64,
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

/// Counts of one kind of background task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCounts {
    /// Tasks with a result.
    pub done: u64,
    /// Tasks whose result is not worth keeping.
    pub useless: u64,
    /// Tasks that failed, or whose file changed meanwhile.
    pub failed: u64,
    /// Tasks that wait or run.
    pub under_way: u64,
    /// Most tasks that may wait or run.
    pub places: u64,
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

impl WorkCounters {
    /// Counts a finished task: `Ok(true)` has a result, `Ok(false)` one that is not worth keeping.
    pub(super) fn record(&self, outcome: Result<bool, ()>) {
        let counter = match outcome {
            Ok(true) => &self.done,
            Ok(false) => &self.useless,
            Err(()) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, with `under_way` of `places` taken.
    pub(super) fn counts(&self, under_way: usize, places: usize) -> WorkCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Self { done, useless, failed } = self;
        let (under_way, places) = (under_way as u64, places as u64);
        WorkCounts { done: load(done), useless: load(useless), failed: load(failed), under_way, places }
    }
}
