//! References to assets outside the caches.

use std::sync::{Arc, Weak};

/// Reference to an asset outside the cache that owns it, which may evict it.
pub(crate) struct CacheRef<T> {
    pub(super) asset: Weak<T>,
    /// For an asset in no cache of bytes: kept by the holder of the reference, which counts its few hundred bytes.
    pub(super) kept: Option<Arc<T>>,
}

impl<T> CacheRef<T> {
    /// The asset; `None` once it was evicted.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.asset.upgrade()
    }
}

impl<T> Clone for CacheRef<T> {
    fn clone(&self) -> Self {
        Self { asset: self.asset.clone(), kept: self.kept.clone() }
    }
}
