//! Counters that any thread reads, alone and in arrays.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter: of a worker, shared by threads, or a sum of others.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// Adds `number` without a read-modify-write instruction: only one thread may write this counter.
    pub(crate) fn add(&self, number: u64) {
        self.set(self.get().wrapping_add(number));
    }

    /// Adds `number`. Any thread may call it.
    pub(crate) fn add_shared(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Raises the counter to `number` if it is lower. Only one thread may write this counter.
    pub(crate) fn raise(&self, number: u64) {
        if number > self.get() {
            self.set(number);
        }
    }
}

impl From<u64> for Counter {
    fn from(number: u64) -> Self {
        Self(number.into())
    }
}

impl Clone for Counter {
    fn clone(&self) -> Self {
        self.get().into()
    }
}

/// Counters by the variants of an enum, or by another index.
#[derive(Clone, Debug)]
pub(crate) struct CounterArray<const N: usize>([Counter; N]);

impl<const N: usize> CounterArray<N> {
    pub(crate) fn sum(&self) -> u64 {
        self.iter().map(Counter::get).sum()
    }
}

impl<const N: usize> Default for CounterArray<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Deref for CounterArray<N> {
    type Target = [Counter; N];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
