//! Log lines that are written once for each subject.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash};

use parking_lot::Mutex;

/// Subjects that were logged already. Bounded: after many it forgets them all.
#[derive(Default)]
pub(crate) struct OnceLog {
    hashes: Mutex<HashSet<u64>>,
    hasher: foldhash::fast::RandomState,
}

impl OnceLog {
    /// Whether `subject` is seen for the first time.
    pub(crate) fn is_first(&self, subject: impl Hash) -> bool {
        let hash = self.hasher.hash_one(subject);
        let mut hashes = self.hashes.lock();
        if hashes.len() >= SUBJECTS_MAX {
            hashes.clear();
        }
        hashes.insert(hash)
    }
}

const SUBJECTS_MAX: usize = 4096;
