//! A worker's own cache from raw request paths to names: no parsing, no shared cache.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::files::Name;

/// A direct-mapped cache: each path has one slot, which the latest path takes. Entries are trusted no longer than the shared
/// cache trusts them, and keep no file's bytes alive.
pub(crate) struct PathCache {
    /// Empty until the first entry.
    slots: Vec<Option<CacheEntry>>,
    hasher: foldhash::fast::RandomState,
}

/// The name that a raw path resolves to.
#[derive(Clone)]
pub(crate) struct CachedPath {
    pub(crate) name: Arc<Name>,
    /// The path names a directory; `name` is then its index.
    pub(crate) wants_directory: bool,
    /// No access rule closes the path or the name.
    pub(crate) is_public: bool,
}

struct CacheEntry {
    raw: Box<[u8]>,
    path: CachedPath,
    /// Requests that the name's own count does not have yet: counting each of them there would have the workers contend for it.
    uses: Cell<u32>,
}

impl PathCache {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), hasher: foldhash::fast::RandomState::default() }
    }

    /// Returns what the path names, and the index of its slot.
    pub(crate) fn get(&self, raw: &[u8]) -> Option<(CachedPath, usize)> {
        let slot = self.slot(raw);
        let entry = self.slots.get(slot)?.as_ref()?;
        (*entry.raw == *raw).then(|| (entry.path.clone(), slot))
    }

    /// Counts a request that was answered by the entry in `slot`. If `is_due`, the count is added to the name's own.
    pub(crate) fn count_use(&self, slot: usize, is_due: bool) {
        let Some(Some(entry)) = self.slots.get(slot) else { return };
        entry.uses.set(entry.uses.get().saturating_add(1));
        if is_due {
            entry.flush_uses();
        }
    }

    /// Stores what a path names, unless the path is longer than [`RAW_MAX`].
    pub(crate) fn put(&mut self, raw: &[u8], path: CachedPath) {
        if raw.len() > RAW_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let slot = self.slot(raw);
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.iter().for_each(CacheEntry::flush_uses);
            *entry = Some(CacheEntry { raw: raw.into(), path, uses: Cell::new(0) });
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    fn slot(&self, raw: &[u8]) -> usize {
        self.hasher.hash_one(raw) as usize % SLOTS
    }
}

impl CacheEntry {
    fn flush_uses(&self) {
        self.path.name.add_uses(u64::from(self.uses.take()));
    }
}

/// Slots of the cache, 40 bytes each.
const SLOTS: usize = 16_384;

/// Longest path in bytes that is stored, so that the size of the cache in bytes is bounded.
const RAW_MAX: usize = 256;
