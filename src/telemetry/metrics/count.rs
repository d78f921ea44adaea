//! Counters that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Adds `number` without a read-modify-write instruction: only the calling thread writes this counter.
pub(super) fn add(count: &AtomicU64, number: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
}
