//! Numbers that nobody could have known.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A number that nobody can guess and that does not come again: a count under two random keys of the thread.
pub(crate) fn unguessable() -> u128 {
    thread_local! {
        static KEYS: [RandomState; 2] = [RandomState::new(), RandomState::new()];
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.replace(COUNT.get().wrapping_add(1));
    KEYS.with(|[one, other]| u128::from(one.hash_one(count)) << 64 | u128::from(other.hash_one(count)))
}
