//! The cache of names: what each path led to, found or missing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{CLOCK_START_MS, CountedCache, Name, PendingLookups, original};
use crate::http::target::SitePath;

/// Names by path, least recently used first to go. Bounded in bytes; a path's bytes are shared by the key and the name.
///
/// Decision: docs/decisions/050-name-cache-bytes.md.
pub(crate) struct NameCache {
    pub(crate) cache: CountedCache<SitePath<'static>, Arc<Name>>,
    pub(super) pending: PendingLookups,
    started: Instant,
    /// Names checked up to this time are not trusted any more.
    invalidated_until_ms: AtomicU64,
}

impl NameCache {
    /// Holds at most `count` names, and at most `count` times [`NAME_BYTES`] bytes: no name weighs less.
    pub(crate) fn new(count: u64) -> Self {
        let weigh = |name: &Arc<Name>| name.bytes().max(NAME_BYTES);
        Self {
            cache: CountedCache::new(count.saturating_mul(NAME_BYTES), weigh),
            pending: PendingLookups::default(),
            started: Instant::now(),
            invalidated_until_ms: AtomicU64::new(0),
        }
    }

    /// Milliseconds on the clock of this cache, which is monotonic.
    ///
    /// Decision: docs/decisions/047-coarse-clock.md.
    pub(crate) fn now_ms(&self) -> u64 {
        CLOCK_START_MS + u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The name of `path`; counts as a use of it.
    pub(crate) async fn get(&self, path: &SitePath<'_>) -> Option<Arc<Name>> {
        self.cache.get(path.as_bytes()).await
    }

    /// Whether `name` was checked so recently that it still holds, and nothing has invalidated it since.
    pub(crate) fn is_trusted(&self, name: &Name, now_ms: u64) -> bool {
        name.is_trusted(now_ms, self.invalidated_until_ms.load(Ordering::Acquire))
    }

    /// Whether a name that was last `checked_ms` was invalidated since, by itself or with all names.
    pub(crate) fn is_invalidated(&self, checked_ms: u64) -> bool {
        checked_ms < CLOCK_START_MS || checked_ms <= self.invalidated_until_ms.load(Ordering::Acquire)
    }

    /// The name of `path`, or the one that `lookup` returns if there is none, or none that `is_usable`. Concurrent calls for
    /// one path share a lookup. A name whose path changes during its lookup is not trusted.
    pub(crate) async fn get_or_look_up(
        &self,
        path: &SitePath<'static>,
        is_usable: impl Fn(&Name) -> bool + Send + Sync,
        lookup: impl Future<Output = Arc<Name>>,
    ) -> Arc<Name> {
        let pending = self.pending.begin(path.clone());
        let entry = self.cache.entry(path.clone());
        let name = entry.or_insert_with_if(lookup, |name| !is_usable(name)).await.into_value();
        // Not before it is in the cache: a change between the two would be missed.
        if pending.is_invalidated() {
            name.invalidate();
        }
        name
    }

    /// Makes the next use of `path` check it.
    pub(crate) async fn invalidate(&self, path: &SitePath<'_>) {
        self.pending.invalidate(path);
        if let Some(name) = self.get(path).await {
            name.invalidate();
        }
    }

    /// The same for `path` and the file that it may be a sidecar of.
    pub(crate) async fn invalidate_with_original(&self, path: &SitePath<'_>) {
        self.invalidate(path).await;
        if let Some(original) = original(path) {
            self.invalidate(&original).await;
        }
    }

    /// Makes the next use of every name check it.
    pub(crate) fn invalidate_all(&self) {
        self.invalidated_until_ms.store(self.now_ms(), Ordering::Release);
    }

    /// All names, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arc<Name>> {
        self.cache.iter().map(|(_, name)| name)
    }

    /// The `most` names with the largest keys, largest first, and the number of names that have a key. Looks at every name.
    pub(crate) fn top(
        &self,
        most: usize,
        key: impl Fn(&Name) -> Option<u64>,
    ) -> (u64, Vec<(u64, Arc<Name>)>) {
        let (mut matching, mut top) = (0, Vec::new());
        let order = |a: &(u64, Arc<Name>), b: &(u64, Arc<Name>)| {
            b.0.cmp(&a.0).then_with(|| a.1.path.as_bytes().cmp(b.1.path.as_bytes()))
        };
        for name in self.iter() {
            let Some(key) = key(&name) else { continue };
            matching += 1;
            top.push((key, name));
            if top.len() >= most.saturating_mul(2).max(SORTED_MIN) {
                top.sort_by(order);
                top.truncate(most);
            }
        }
        top.sort_by(order);
        top.truncate(most);
        (matching, top)
    }

    /// Begins a new period of recency for every cached file. Looks at every name.
    pub(crate) fn age_recency(&self) {
        for asset in self.iter().filter_map(|name| name.file()) {
            let variants = asset.variants.iter().flat_map(|variants| variants.all_cached());
            variants.for_each(|variant| variant.recency.age());
            asset.recency.age();
        }
    }

    /// Applies pending evictions.
    pub(crate) async fn maintain(&self) {
        self.cache.run_pending_tasks().await;
    }
}

/// Bytes that the setting `names` allows for each name. Covers paths of up to half a KiB.
const NAME_BYTES: u64 = 1024;

/// Names are sorted in runs of at least this length.
const SORTED_MIN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::files::name::{Lookup, NameResult};
    use crate::files::policy::Rules;

    fn missing(path: &SitePath<'static>, now_ms: u64) -> Arc<Name> {
        let policy = Rules::new(&Config::default()).policy(path);
        let found = NameResult { lookup: Lookup::Missing, policy, is_watched: false, is_remote: false };
        Arc::new(Name::new(path.clone(), &found, 0, now_ms, 1000))
    }

    async fn fill(cache: &NameCache, count: usize, length: usize) {
        for number in 0..count {
            let path = SitePath::root().entry(format!("{number:0length$}").as_bytes());
            cache.get_or_look_up(&path, |_| true, async { missing(&path, cache.now_ms()) }).await;
        }
        cache.maintain().await;
    }

    #[tokio::test]
    async fn names_are_bounded_in_bytes_and_in_number() {
        const COUNT: u64 = 64;
        for (length, kept_max) in [(1, COUNT), (500, COUNT), (4000, COUNT / 4)] {
            let cache = NameCache::new(COUNT);
            fill(&cache, 500, length).await;
            let kept = cache.cache.counts().entries;
            assert!(kept <= kept_max && kept * 2 >= kept_max, "{kept} names of {length} bytes");
            let bytes: u64 = cache.iter().map(|name| name.bytes()).sum();
            assert!(bytes <= COUNT * NAME_BYTES, "{bytes} bytes of names of {length}");
            assert_eq!(cache.cache.counts().evictions + kept, 500, "{length}");
        }
    }

    #[tokio::test]
    async fn a_path_is_kept_once() {
        let cache = NameCache::new(64);
        fill(&cache, 1, 1000).await;
        for (key, name) in &*cache.cache {
            assert_eq!(key.as_bytes().as_ptr(), name.path.as_bytes().as_ptr());
        }
        assert_eq!(cache.cache.counts().entries, 1);
    }

    #[tokio::test]
    async fn the_largest_keys_come_first_and_equal_ones_by_path() {
        let cache = NameCache::new(64);
        fill(&cache, 5, 1).await;
        let key = |name: &Name| name.path.as_bytes().first().map(|digit| u64::from(digit % 3));
        let (matching, top) = cache.top(3, key);
        let paths: Vec<_> = top.iter().map(|(_, name)| name.path.to_string()).collect();
        assert_eq!((matching, paths), (5, vec!["2".to_owned(), "1".to_owned(), "4".to_owned()]));
    }
}
