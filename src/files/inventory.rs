//! What the caches hold: listed, counted, and purged on an operator's request.

use std::sync::Arc;

use serde::Serialize;

use super::{Asset, AssetBody, CLOCK_START_MS, FileParts, Files, Name, SharedFiles, original};
use crate::http::path_glob::PathGlobs;
use crate::http::{encoding::Encoding, target::SitePath};

/// Number of purged entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PurgeResult {
    /// Names, which are looked up anew.
    pub(crate) names: u64,
    /// Files, each encoded variant counted by itself. A response that runs keeps its own until it ends.
    pub(crate) files: u64,
}

/// Cached names.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CacheListing {
    /// Number of names that match, listed or not.
    pub(crate) matching: u64,
    /// Listed names, most recently used first.
    pub(crate) entries: Vec<CachedNameInfo>,
}

/// A cached name.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CachedNameInfo {
    pub(crate) path: String,
    /// `file`, `directory`, `missing`, `forbidden`, `busy` or `failed`.
    pub(crate) outcome: &'static str,
    /// Milliseconds since the last check; `None` if the next use checks it.
    pub(crate) checked_ms_ago: Option<u64>,
    /// Milliseconds since the caches last recorded a use; `None` without one.
    pub(crate) used_ms_ago: Option<u64>,
    /// Requests since the lookup, approximately.
    pub(crate) requests: u64,
    /// inotify reports its changes.
    pub(crate) is_watched: bool,
    /// `Cache-Control` by the rules; `None` if no rule sets it.
    pub(crate) cache_control: Option<String>,
    /// `None` if it is no file, or its file was evicted.
    pub(crate) file: Option<CachedFileInfo>,
}

/// A cached file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CachedFileInfo {
    pub(crate) bytes: u64,
    pub(crate) etag: String,
    /// `heap`, `mapped` or `unmapped`.
    pub(crate) content: &'static str,
    pub(crate) is_open: bool,
    /// Bytes of the parts that were sent in the last minutes; `None` if the file is on the heap.
    pub(crate) hot_bytes: Option<u64>,
    /// Encodings that are cached, too.
    pub(crate) codings: Vec<&'static str>,
}

/// A name with many requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BusyName {
    pub(crate) path: String,
    pub(crate) outcome: &'static str,
    /// Length of the file.
    pub(crate) bytes: Option<u64>,
    /// Requests since the last call of [`Files::busiest_names`].
    #[serde(skip)]
    pub(crate) requests: u64,
}

/// Most of these look at every name and take a while.
impl Files {
    /// Lists at most `most` of the names that match `globs`; without globs all names match.
    pub(crate) fn list_names(&self, globs: Option<&PathGlobs>, most: usize) -> CacheListing {
        let last_use = |name: &Name| {
            let matches = globs.is_none_or(|globs| globs.matches(name.path.as_bytes()));
            matches.then(|| name.last_touch())
        };
        let (matching, latest) = self.shared.names.top(most, last_use);
        let now_ms = self.now_ms();
        CacheListing {
            matching,
            entries: latest.iter().map(|(_, name)| self.name_info(name, now_ms)).collect(),
        }
    }

    /// The names with most requests since the last call, at most `most` of them, busiest first.
    pub(crate) fn busiest_names(&self, most: usize) -> Vec<BusyName> {
        let requests = |name: &Name| Some(name.take_uses()).filter(|requests| *requests > 0);
        let (_, busiest) = self.shared.names.top(most, requests);
        let busy = |(requests, name): (u64, Arc<Name>)| BusyName {
            path: for_json(&name.path),
            outcome: name.outcome.word(),
            bytes: name.file().map(|asset| asset.length),
            requests,
        };
        busiest.into_iter().map(busy).collect()
    }

    /// Invalidates the names that match `globs`, so that they are looked up anew. The result removes them and their files from the
    /// caches.
    ///
    /// Decision: docs/decisions/039-purge.md.
    pub(crate) fn purge(&self, globs: &PathGlobs) -> impl Future<Output = PurgeResult> + Send + use<> {
        let SharedFiles { names, assets, .. } = &*self.shared;
        let matches = |path: &SitePath<'_>| globs.matches(path.as_bytes());
        // A lookup that runs now may have read the disk before.
        names.pending.invalidate_matching(matches);
        let is_purged = |name: &Arc<Name>| {
            // What is known of an original includes its sidecars.
            let has_sidecar = || {
                let asset = name.file();
                let variants = asset.as_ref().and_then(|asset| asset.variants.as_ref());
                variants.is_some_and(|variants| variants.all_cached().any(|variant| matches(&variant.path)))
            };
            matches(&name.path) || has_sidecar()
        };
        // Workers have references to them.
        let names_purged: Vec<_> = names.iter().filter(is_purged).inspect(|name| name.purge()).collect();
        let of_purged = |asset: &Arc<Asset>| {
            let original = || asset.encoding.and_then(|_| original(&asset.path));
            matches(&asset.path) || original().is_some_and(|path| matches(&path))
        };
        let assets_purged: Vec<_> = assets.iter().filter(of_purged).collect();
        let files = self.clone();
        async move {
            let Self { loader, shared } = &files;
            for name in &names_purged {
                shared.names.cache.invalidate(name.path.as_bytes()).await;
            }
            for asset in &assets_purged {
                loader.handles.remove(asset.id);
                loader.tags.digests.remove(&asset.version);
                shared.assets.remove(asset).await;
            }
            PurgeResult { names: names_purged.len() as u64, files: assets_purged.len() as u64 }
        }
    }

    fn name_info(&self, name: &Name, now_ms: u64) -> CachedNameInfo {
        let ago = |time: u64| (time >= CLOCK_START_MS).then(|| now_ms.saturating_sub(time));
        let cache_control = name.policy.cache_control();
        CachedNameInfo {
            path: for_json(&name.path),
            outcome: name.outcome.word(),
            checked_ms_ago: ago(name.checked_at()),
            used_ms_ago: ago(name.last_touch()),
            requests: name.uses(),
            is_watched: name.is_watched,
            cache_control: cache_control.map(|value| value.unwrap_or("off").to_owned()),
            file: name.file().map(|asset| self.file_info(&asset)),
        }
    }

    fn file_info(&self, asset: &Asset) -> CachedFileInfo {
        let variants = asset.variants.as_ref();
        let is_cached =
            |encoding: &Encoding| variants.is_some_and(|variants| variants.cached(*encoding).is_some());
        CachedFileInfo {
            bytes: asset.length,
            etag: String::from_utf8_lossy(asset.etag.as_bytes()).into_owned(),
            content: match asset.body {
                AssetBody::Heap => "heap",
                AssetBody::Mapped(_) => "mapped",
                AssetBody::Unmapped => "unmapped",
            },
            is_open: self.loader.handles.contains(asset.id),
            hot_bytes: (!asset.is_on_heap()).then(|| FileParts::bytes(asset.recency.parts(), asset.length)),
            codings: Encoding::ALL.into_iter().filter(is_cached).map(Encoding::name).collect(),
        }
    }
}

/// The path for JSON: bytes that are not UTF-8 are replaced.
fn for_json(path: &SitePath<'_>) -> String {
    format!("/{}", String::from_utf8_lossy(path.as_bytes()))
}
