//! What the log was told already.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};

use parking_lot::Mutex;

/// Things that are worth a line in the log once, and not for every request. Bounded: after many it forgets them all.
#[derive(Default)]
pub(crate) struct OnceLog {
    hashes: Mutex<HashSet<u64>>,
    hasher: foldhash::fast::RandomState,
}

impl OnceLog {
    /// Whether `what` is new here.
    pub(crate) fn is_news(&self, what: impl Hash) -> bool {
        let hash = self.hasher.hash_one(what);
        let mut hashes = self.hashes.lock();
        if hashes.len() >= REMEMBERED {
            hashes.clear();
        }
        hashes.insert(hash)
    }
}

const REMEMBERED: usize = 4096;
