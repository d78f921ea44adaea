//! A worker's own short cut from a raw path to what is known of it: no parsing, no shared cache.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::files::Name;

/// A fixed table: a path has one place, and the latest to want it has it. What it holds is never trusted for longer than
/// the shared cache would, and keeps no file's bytes alive.
pub(crate) struct PathCache {
    places: Vec<Option<CacheEntry>>,
    hasher: foldhash::fast::RandomState,
}

/// Where a raw path leads.
#[derive(Clone)]
pub(crate) struct CachedPath {
    pub(crate) name: Arc<Name>,
    /// The path names a directory; `name` is then its index.
    pub(crate) wants_directory: bool,
    /// The path and the name are for everybody.
    pub(crate) is_public: bool,
}

struct CacheEntry {
    raw: Box<[u8]>,
    shortcut: CachedPath,
    /// Requests that went this way and are not in the name's own count yet: counting each there would have the workers
    /// contend for it.
    uses: Cell<u32>,
}

impl PathCache {
    pub(crate) fn new() -> Self {
        Self { places: Vec::new(), hasher: foldhash::fast::RandomState::default() }
    }

    /// Where the path leads, and its place in the table.
    pub(crate) fn get(&self, raw: &[u8]) -> Option<(CachedPath, usize)> {
        let place = self.place(raw);
        let taken = self.places.get(place)?.as_ref()?;
        (*taken.raw == *raw).then(|| (taken.shortcut.clone(), place))
    }

    /// A request went the way that was found at `place`. Now and then, where that `is_due`, the name hears of it and of those
    /// before it.
    pub(crate) fn used(&self, place: usize, is_due: bool) {
        let Some(Some(taken)) = self.places.get(place) else { return };
        taken.uses.set(taken.uses.get().saturating_add(1));
        if is_due {
            taken.tell();
        }
    }

    pub(crate) fn put(&mut self, raw: &[u8], shortcut: CachedPath) {
        if raw.len() > RAW_MAX {
            return;
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let place = self.place(raw);
        if let Some(taken) = self.places.get_mut(place) {
            taken.iter().for_each(CacheEntry::tell);
            *taken = Some(CacheEntry { raw: raw.into(), shortcut, uses: Cell::new(0) });
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    fn place(&self, raw: &[u8]) -> usize {
        self.hasher.hash_one(raw) as usize % PLACES
    }
}

impl CacheEntry {
    fn tell(&self) {
        self.shortcut.name.add_uses(u64::from(self.uses.take()));
    }
}

/// Places in the table, 40 bytes each.
const PLACES: usize = 16_384;

/// Longer paths are looked up every time, so that the table's size in bytes is bounded as well.
const RAW_MAX: usize = 256;
