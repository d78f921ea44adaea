//! The caches of assets: small files on the heap, and mapped files.

use std::sync::Arc;

use super::{Asset, AssetBody, CountedCache, Version};
use crate::config::ResolvedLimits;
use crate::http::{encoding::Encoding, target::SitePath};

/// Assets by path, version and encoding, least recently used first to go. Two budgets: bytes on the heap, and mapped bytes.
pub(crate) struct AssetCache {
    pub(crate) heap: Assets,
    /// Weighed in pages.
    pub(crate) mapped: Assets,
    /// The weight of a mapping is at least this many pages, so that the budget bounds their number, too.
    mapping_pages_min: u64,
}

type Assets = CountedCache<AssetKey, Arc<Asset>>;

/// Key of an asset; the encoding is `None` for a file as it is.
type AssetKey = (SitePath<'static>, Version, Option<Encoding>);

impl AssetCache {
    pub(crate) fn new(limits: &ResolvedLimits) -> Self {
        let mapped_pages = limits.cache_bytes / PAGE;
        let mapping_pages_min = (mapped_pages / limits.mappings.max(1) as u64).max(1);
        let pages = move |asset: &Arc<Asset>| asset.length.div_ceil(PAGE).max(mapping_pages_min);
        Self {
            heap: CountedCache::new(limits.heap_bytes, |asset: &Arc<Asset>| asset.heap_bytes() as u64),
            mapped: CountedCache::new(mapped_pages, pages),
            mapping_pages_min,
        }
    }

    /// Adds an asset in place of `previous`, an older version of it.
    pub(crate) async fn insert(&self, asset: &Arc<Asset>, previous: Option<&Asset>) {
        let replaced = previous.filter(|old| old.id != asset.id);
        if let Some(old) = replaced {
            self.remove(old).await;
        }
        let Some(cache) = self.cache_of(asset) else { return };
        if previous.is_none() || replaced.is_some() {
            cache.counters.miss();
        }
        cache.insert(key_of(asset), Arc::clone(asset)).await;
    }

    /// The variant of `asset` in `encoding`, if one that was made here is on the heap.
    pub(crate) async fn encoded(&self, asset: &Asset, encoding: Encoding) -> Option<Arc<Asset>> {
        self.heap.get(&(asset.path.clone(), asset.version, Some(encoding))).await
    }

    /// Records a use of the asset.
    pub(crate) async fn touch(&self, asset: &Asset) {
        if let Some(cache) = self.cache_of(asset) {
            cache.get(&key_of(asset)).await;
        }
    }

    /// Counts a request that found the asset in the name cache.
    pub(crate) fn count_hit(&self, asset: &Asset) {
        if let Some(cache) = self.cache_of(asset) {
            cache.counters.hit();
        }
    }

    pub(crate) async fn remove(&self, asset: &Asset) {
        if let Some(cache) = self.cache_of(asset) {
            cache.invalidate(&key_of(asset)).await;
        }
    }

    /// All assets, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<Asset>> {
        self.heap.iter().chain(self.mapped.iter()).map(|(_, asset)| asset)
    }

    /// Bytes of the mapped budget that a mapping of `length` bytes takes.
    pub(crate) fn mapping_weight(&self, length: u64) -> u64 {
        length.div_ceil(PAGE).max(self.mapping_pages_min) * PAGE
    }

    /// Applies pending evictions.
    pub(crate) async fn maintain(&self) {
        self.heap.run_pending_tasks().await;
        self.mapped.run_pending_tasks().await;
    }

    /// Bytes of the mapped budget that are taken.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.mapped.weighted_size() * PAGE
    }

    /// The cache that owns the asset; `None` for an unmapped file.
    fn cache_of(&self, asset: &Asset) -> Option<&Assets> {
        match asset.body {
            AssetBody::Heap => Some(&self.heap),
            AssetBody::Mapped(_) => Some(&self.mapped),
            AssetBody::Unmapped => None,
        }
    }
}

fn key_of(asset: &Asset) -> AssetKey {
    (asset.path.clone(), asset.version, asset.encoding)
}

/// Mapped files are weighed in pages of this size, so that weights fit 32 bits up to 16 TiB.
const PAGE: u64 = 4096;
