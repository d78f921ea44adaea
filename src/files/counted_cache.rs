//! Caches that count their hits, misses and evictions.

use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use moka::future::Cache;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;

use crate::telemetry::metrics::counter::Counter;

/// A cache bounded by weight, least recently used first to go.
pub(crate) struct CountedCache<K, V> {
    cache: Cache<K, V, foldhash::fast::RandomState>,
    pub(super) counters: Arc<CacheCounters>,
}

/// Counters of one cache, incremented by every thread.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    hits: Counter,
    misses: Counter,
    evictions: Counter,
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

impl<K, V> CountedCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(capacity: u64, weigh: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        let counters = Arc::<CacheCounters>::default();
        let cache = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(move |_, value| u32::try_from(weigh(value)).unwrap_or(u32::MAX))
            .eviction_listener(counters.listener())
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { cache, counters }
    }

    pub(crate) fn counts(&self) -> CacheCounts {
        self.counters.counts(self.cache.entry_count())
    }
}

impl<K, V> Deref for CountedCache<K, V> {
    type Target = Cache<K, V, foldhash::fast::RandomState>;

    fn deref(&self) -> &Self::Target {
        &self.cache
    }
}

impl CacheCounters {
    pub(super) fn hit(&self) {
        self.hits.add_shared(1);
    }

    pub(super) fn miss(&self) {
        self.misses.add_shared(1);
    }

    /// Counts evictions of a moka cache: its eviction listener.
    pub(super) fn listener<K, V>(
        self: &Arc<Self>,
    ) -> impl Fn(Arc<K>, V, RemovalCause) + Send + Sync + 'static {
        let counters = Arc::clone(self);
        move |_, _, cause| {
            if cause.was_evicted() {
                counters.evictions.add_shared(1);
            }
        }
    }

    /// The counts of a cache that has `entries` now.
    pub(super) fn counts(&self, entries: u64) -> CacheCounts {
        let [hits, misses, evictions] = [&self.hits, &self.misses, &self.evictions].map(Counter::get);
        CacheCounts { hits, misses, evictions, entries }
    }
}
