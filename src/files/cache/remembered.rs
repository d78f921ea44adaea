//! What the caches remember: shown, counted, and forgotten at an operator's word.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use serde::Serialize;

use super::{AssetCache, AssetKey, Files, key_of};
use crate::config::PathGlobs;
use crate::files::asset::{Asset, AssetBody};
use crate::files::name::{FIRST_MS, Lookup, Name};
use crate::files::recency::FileParts;
use crate::files::sidecars::original;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PurgeResult {
    /// Names that are looked up anew.
    pub(crate) names: u64,
    /// Files that were let go, each form of one by itself. A response under way keeps its own until it ends.
    pub(crate) files: u64,
}

/// What is remembered of many names.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CacheListing {
    /// Names that match, shown or not.
    pub(crate) matching: u64,
    /// Those used last come first.
    pub(crate) entries: Vec<CachedNameInfo>,
}

/// What is remembered of one name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CachedNameInfo {
    pub(crate) path: String,
    /// `file`, `directory`, `missing`, `forbidden`, `busy` or `failed`.
    pub(crate) outcome: &'static str,
    /// Milliseconds since it was last checked; none where its next use checks it.
    pub(crate) checked_ms_ago: Option<u64>,
    /// Milliseconds since the caches last heard of a use; none where there was none.
    pub(crate) used_ms_ago: Option<u64>,
    /// Requests for it since it was looked up, nearly.
    pub(crate) requests: u64,
    /// The kernel tells of its changes.
    pub(crate) is_watched: bool,
    /// What a rule says of its `Cache-Control`; none where no rule does.
    pub(crate) cache_control: Option<String>,
    /// None where it is no file, or its file was let go.
    pub(crate) file: Option<CachedFileInfo>,
}

/// A file as it is remembered.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CachedFileInfo {
    pub(crate) bytes: u64,
    pub(crate) etag: String,
    /// `heap`, `mapped` or `unmapped`.
    pub(crate) content: &'static str,
    pub(crate) is_open: bool,
    /// Bytes of the parts that were sent in the last minutes; none where all of it is on the heap.
    pub(crate) hot_bytes: Option<u64>,
    /// Codings in which it is cached as well.
    pub(crate) codings: Vec<&'static str>,
}

/// A name that many ask for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BusyName {
    pub(crate) path: String,
    pub(crate) outcome: &'static str,
    /// Length of the file.
    pub(crate) bytes: Option<u64>,
    /// Requests since the last time that anybody asked which names are busy.
    pub(crate) requests: u64,
}

/// What is to be forgotten.
#[derive(Default)]
pub(crate) struct PurgeRequest {
    names: Vec<Arc<Name>>,
    heap: Vec<Arc<Asset>>,
    mapped: Vec<Arc<Asset>>,
}

impl Files {
    /// What is remembered of the names that `globs` match, without globs of all: at most `most` of them. Looks at every name,
    /// so that it takes a while.
    pub(crate) fn remembered(&self, globs: Option<&PathGlobs>, most: usize) -> CacheListing {
        let (mut matching, mut latest) = (0, Vec::new());
        let latest_first = |name: &Arc<Name>| Reverse(name.last_touch());
        for (path, name) in &self.inner.names {
            if globs.is_none_or(|globs| globs.matches(path.as_bytes())) {
                matching += 1;
                latest.push(name);
            }
            if latest.len() >= most.saturating_mul(2).max(LEAST_SORTED) {
                latest.sort_by_key(latest_first);
                latest.truncate(most);
            }
        }
        latest.sort_by_key(latest_first);
        latest.truncate(most);
        let now_ms = self.now_ms();
        CacheListing { matching, entries: latest.iter().map(|name| self.entry(name, now_ms)).collect() }
    }

    /// The names that were asked for most since the last time, at most `most` of them, the busiest first. Looks at every
    /// name, so that it takes a while.
    pub(crate) fn busiest(&self, most: usize) -> Vec<BusyName> {
        let mut busiest = BinaryHeap::with_capacity(most + 1);
        for (_, name) in &self.inner.names {
            let requests = name.take_uses();
            let is_among = busiest.len() < most
                || busiest.peek().is_some_and(|Reverse((least, _)): &Reverse<(u64, _)>| requests > *least);
            if requests > 0 && is_among {
                busiest.push(Reverse((requests, RankedName(name))));
                if busiest.len() > most {
                    busiest.pop();
                }
            }
        }
        busiest
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse((requests, RankedName(name)))| busy(&name, requests))
            .collect()
    }

    /// What there is to forget of the names that `globs` match. They are looked up anew from now on. Looks at every name and
    /// every file, so that it takes a while.
    pub(crate) fn forgettable(&self, globs: &PathGlobs) -> PurgeRequest {
        let inner = &self.inner;
        let matches = |path: &SitePath<'_>| globs.matches(path.as_bytes());
        let mut found = PurgeRequest::default();
        // What is being looked up now may have been read before.
        inner.loading.doubt_all(matches);
        for (path, name) in &inner.names {
            // A sidecar belongs to what is known of its original.
            let is_beside = || sidecars_of(&name).any(|sidecar| matches(&sidecar.path));
            if matches(&path) || is_beside() {
                // Workers have short cuts to it.
                name.purge();
                found.names.push(name);
            }
        }
        let collect = |cache: &AssetCache, into: &mut Vec<Arc<Asset>>| {
            let wanted = cache.iter().map(|(_, asset)| asset).filter(|asset| {
                matches(&asset.path)
                    || asset.coding.is_some() && original(&asset.path).is_some_and(|path| matches(&path))
            });
            into.extend(wanted);
        };
        collect(&inner.heap, &mut found.heap);
        collect(&inner.mapped, &mut found.mapped);
        found
    }

    /// Lets go what was found to be forgotten.
    pub(crate) async fn forget(&self, found: PurgeRequest) -> PurgeResult {
        let inner = &self.inner;
        let purged = PurgeResult {
            names: found.names.len() as u64,
            files: (found.heap.len() + found.mapped.len()) as u64,
        };
        for name in found.names {
            inner.names.invalidate(name.path.as_bytes()).await;
        }
        for (cache, assets) in [(&inner.heap, found.heap), (&inner.mapped, found.mapped)] {
            for asset in assets {
                inner.loader.handles.forget(asset.id);
                inner.loader.tags.digests.forget(&asset.version);
                let key: AssetKey = key_of(&asset);
                cache.invalidate(&key).await;
            }
        }
        purged
    }

    fn entry(&self, name: &Name, now_ms: u64) -> CachedNameInfo {
        let lookup = name.lookup();
        let file = match &lookup {
            Some(Lookup::File(asset)) => Some(self.file(asset)),
            _ => None,
        };
        let ago = |moment: u64| (moment >= FIRST_MS).then(|| now_ms.saturating_sub(moment));
        CachedNameInfo {
            path: shown(&name.path),
            outcome: name.outcome.word(),
            checked_ms_ago: ago(name.checked_at()),
            used_ms_ago: ago(name.last_touch()),
            requests: name.uses(),
            is_watched: name.is_told_of,
            cache_control: name.policy.cache_control().map(|value| value.unwrap_or("off").to_owned()),
            file,
        }
    }

    fn file(&self, asset: &Asset) -> CachedFileInfo {
        let forms = asset.forms.as_ref();
        let is_cached = |coding: &Encoding| forms.is_some_and(|forms| forms.ready(*coding).is_some());
        CachedFileInfo {
            bytes: asset.length(),
            etag: String::from_utf8_lossy(asset.etag.as_bytes()).into_owned(),
            content: match asset.content {
                AssetBody::Heap => "heap",
                AssetBody::Mapped(_) => "mapped",
                AssetBody::Unmapped => "unmapped",
            },
            is_open: self.inner.loader.handles.is_open(asset.id),
            hot_bytes: (!asset.is_on_heap()).then(|| FileParts::bytes(asset.heat.parts(), asset.length())),
            codings: Encoding::ALL.into_iter().filter(is_cached).map(Encoding::token).collect(),
        }
    }
}

fn busy(name: &Name, requests: u64) -> BusyName {
    let bytes = match name.lookup() {
        Some(Lookup::File(asset)) => Some(asset.length()),
        _ => None,
    };
    BusyName { path: shown(&name.path), outcome: name.outcome.word(), bytes, requests }
}

/// For JSON: what is no UTF-8 is replaced.
fn shown(path: &SitePath<'_>) -> String {
    format!("/{}", String::from_utf8_lossy(path.as_bytes()))
}

/// A name among others: those that are asked for equally often are in the order of their paths.
struct RankedName(Arc<Name>);

impl PartialEq for RankedName {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for RankedName {}

impl PartialOrd for RankedName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RankedName {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.path.as_bytes().cmp(self.0.path.as_bytes())
    }
}

/// Sidecars of a name's file that are in memory.
fn sidecars_of(name: &Name) -> impl Iterator<Item = Arc<Asset>> {
    let asset = match name.lookup() {
        Some(Lookup::File(asset)) => Some(asset),
        _ => None,
    };
    Encoding::ALL.into_iter().filter_map(move |coding| asset.as_ref()?.forms.as_ref()?.ready(coding))
}

/// Names are sorted in runs of at least so many.
const LEAST_SORTED: usize = 4096;
