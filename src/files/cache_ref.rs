//! References to assets outside the caches.

use std::sync::{Arc, Weak};

/// Reference to an asset outside the cache that owns it.
pub(crate) enum CacheRef<T> {
    /// Owned by a cache, which may evict it.
    Weak(Weak<T>),
    /// In no cache of bytes: kept by its holder, which counts its few hundred bytes.
    Strong(Arc<T>),
}

impl<T> CacheRef<T> {
    /// The asset; `None` once it was evicted.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        match self {
            Self::Weak(cached) => cached.upgrade(),
            Self::Strong(asset) => Some(Arc::clone(asset)),
        }
    }
}

impl<T> Clone for CacheRef<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Weak(cached) => Self::Weak(cached.clone()),
            Self::Strong(asset) => Self::Strong(Arc::clone(asset)),
        }
    }
}
