//! What happened to the files: counts by whichever thread it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All counts of the room.
#[derive(Debug, Default)]
pub(crate) struct FileCounters {
    pub(super) names: Arc<CacheCounters>,
    pub(super) heap: Arc<CacheCounters>,
    pub(super) mapped: Arc<CacheCounters>,
    pub(super) digesting: WorkCounters,
    pub(super) compressing: WorkCounters,
}

/// What became of one cache.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

/// What came of work in the background.
#[derive(Debug, Default)]
pub(crate) struct WorkCounters {
    done: AtomicU64,
    useless: AtomicU64,
    failed: AtomicU64,
}

/// What became of one cache, and what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// What was asked for and there.
    pub hits: u64,
    /// What was asked for and not there, or not to be trusted.
    pub misses: u64,
    /// What had to leave for want of room.
    pub evictions: u64,
    /// What is there now.
    pub entries: u64,
}

/// What came of work in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCounts {
    /// It brought what was wanted.
    pub done: u64,
    /// It brought nothing worth keeping.
    pub useless: u64,
    /// The disk failed it, or the file changed meanwhile.
    pub failed: u64,
    /// Waiting or under way.
    pub under_way: u64,
    /// What may wait or be under way.
    pub places: u64,
}

impl CacheCounters {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, where there are so many `entries`.
    pub(super) fn counts(&self, entries: u64) -> CacheCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Self { hits, misses, evictions } = self;
        CacheCounts { hits: load(hits), misses: load(misses), evictions: load(evictions), entries }
    }
}

impl WorkCounters {
    pub(super) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn useless(&self) {
        self.useless.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, where so many of the `places` are taken.
    pub(super) fn counts(&self, taken: usize, places: usize) -> WorkCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Self { done, useless, failed } = self;
        WorkCounts {
            done: load(done),
            useless: load(useless),
            failed: load(failed),
            under_way: taken as u64,
            places: places as u64,
        }
    }
}
