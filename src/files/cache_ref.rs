//! How something that a cache keeps is held beside it.

use std::sync::{Arc, Weak};

/// A share of what a cache keeps, or of what none does.
pub(crate) enum CacheRef<T> {
    /// A cache decides how long it lives.
    Loosely(Weak<T>),
    /// No cache of bytes weighs it: a few hundred bytes that live with their holder.
    Firmly(Arc<T>),
}

impl<T> CacheRef<T> {
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        match self {
            Self::Loosely(kept) => kept.upgrade(),
            Self::Firmly(kept) => Some(Arc::clone(kept)),
        }
    }
}

impl<T> Clone for CacheRef<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Loosely(kept) => Self::Loosely(kept.clone()),
            Self::Firmly(kept) => Self::Firmly(Arc::clone(kept)),
        }
    }
}
