//! Counts that one thread writes and others read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Adds without a lock, since nobody else writes.
pub(super) fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}
