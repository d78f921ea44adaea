//! Lookups: from a path to a file, in the caches while they are trusted, else on the disk.

use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{
    Asset, AssetCache, BackgroundTasks, Fault, FileSettings, InotifyWatcher, LoadedAsset, Loader, Lookup,
    Name, NameCache, NameOutcome, NameResult, OpenPool, TrustState, VariantError,
};
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;
use crate::sys::blocking_pool::JobLost;

/// Looks up paths under the settings of one view of the files.
#[derive(Clone)]
pub(crate) struct PathLookup {
    pub(crate) loader: Arc<Loader>,
    pub(crate) names: Arc<NameCache>,
    pub(crate) assets: Arc<AssetCache>,
    pub(crate) background: BackgroundTasks,
    pub(crate) open_pool: OpenPool,
    pub(crate) inotify: Option<Arc<InotifyWatcher>>,
    pub(crate) trust: TrustTimes,
}

/// Times for which a name is trusted after a check, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct TrustTimes {
    unwatched_ms: u64,
    watched_ms: u64,
}

/// A lookup's result and the name that gave it, which [`Files::recall`](crate::files::Files::recall) can use again without a lookup.
pub struct FoundFile {
    /// What the path leads to.
    pub lookup: Lookup,
    /// The path's entry in the name cache.
    pub name: Arc<Name>,
    /// The name was cached; else it was looked up, for this request or for another one.
    pub is_known: bool,
}

impl PathLookup {
    /// Looks up `path`: in the cache while its entry is trusted, else on the disk.
    pub(crate) async fn find(&self, path: &SitePath<'_>) -> FoundFile {
        let now_ms = self.names.now_ms();
        if let Some(name) = self.names.get(path).await
            && let Some(lookup) = self.recall(&name, now_ms)
        {
            self.names.counters().hit();
            if let Lookup::File(asset) = &lookup {
                self.assets.count_hit(asset);
            }
            return FoundFile { lookup, name, is_known: true };
        }
        self.names.counters().miss();
        let path = path.clone().into_owned();
        if path.as_bytes().len() > PATH_BYTES_MAX {
            return self.found(&path, self.without_lookup(&path, NameOutcome::Missing), now_ms).0;
        }
        self.load(path, now_ms).await
    }

    /// The result of `name`, if it may still be trusted at `now_ms`. Never waits: an expired name is checked against the kernel's
    /// caches, and if they can't confirm it the result is `None`.
    pub(crate) fn recall(&self, name: &Name, now_ms: u64) -> Option<Lookup> {
        if !self.is_trusted(name, now_ms) {
            let before = name.checked();
            self.is_confirmed(name, before).then(|| name.confirm(before, now_ms))?;
        }
        name.lookup()
    }

    /// The variant of the file in `encoding`: from memory, or from its sidecar.
    pub(crate) async fn variant(
        &self,
        asset: &Arc<Asset>,
        encoding: Encoding,
    ) -> Result<Arc<Asset>, VariantError> {
        let variants = asset.variants.as_ref().ok_or(VariantError::Changed)?;
        let tags = &self.loader.tags;
        let is_current = |variant: &Arc<Asset>| !variant.is_racy && !tags.can_improve(variant);
        let current = || variants.cached(encoding).filter(is_current);
        if let Some(variant) = current() {
            return Ok(variant);
        }
        let _lock = variants.lock_opening(encoding).await;
        if let Some(variant) = current() {
            return Ok(variant);
        }
        let permit = self.loader.handles.permit().await.map_err(|_| VariantError::Busy)?;
        let (loader, original) = (Arc::clone(&self.loader), Arc::clone(asset));
        let loaded = self
            .open_pool
            .run_for(&asset.path, move || loader.load_sidecar(&original, encoding, permit))
            .await
            .unwrap_or_else(|lost| match lost {
                JobLost::TimedOut => Err(VariantError::Busy),
                JobLost::Panicked => Err(VariantError::Failed),
            });
        let variant = loaded.inspect_err(|error| {
            if matches!(error, VariantError::Failed) {
                variants.mark_unreadable(encoding);
            }
        })?;
        self.insert(&variant, None).await;
        variants.insert(encoding, variant.cache_ref());
        Ok(variant)
    }

    pub(crate) fn is_trusted(&self, name: &Name, now_ms: u64) -> bool {
        self.is_of_this_view(name) && self.names.is_trusted(name, now_ms)
    }

    async fn load(&self, path: SitePath<'static>, now_ms: u64) -> FoundFile {
        for _ in 0..SHARED_TRIES {
            let mut own = None;
            let lookup = async {
                let found = self.look_up(&path, now_ms).await;
                let name = Arc::clone(&found.name);
                own = Some(found);
                name
            };
            let is_usable = |name: &Name| self.is_trusted(name, now_ms) && name.lookup().is_some();
            let name = self.names.get_or_look_up(&path, is_usable, lookup).await;
            if let Some(found) = own {
                return found;
            }
            // Another request looked it up; where memory is very short its asset may be evicted already.
            if self.is_of_this_view(&name)
                && let Some(lookup) = name.lookup()
            {
                return FoundFile { lookup, name, is_known: false };
            }
        }
        self.look_up(&path, now_ms).await
    }

    /// Looks up `path` on the disk.
    async fn look_up(&self, path: &SitePath<'static>, now_ms: u64) -> FoundFile {
        let Ok(permit) = self.loader.handles.permit().await else {
            self.loader.faults.report(
                Fault::NoHandle,
                path,
                format_args!("/{path}: no file handle became free in time"),
            );
            return self.found(path, self.without_lookup(path, NameOutcome::Busy), now_ms).0;
        };
        let previous = self.names.get(path).await.and_then(|name| name.file());
        let (loader, inotify) = (Arc::clone(&self.loader), self.inotify.clone());
        let (job_path, before) = (path.clone(), previous.clone());
        let job = move || {
            let is_watched = inotify.is_some_and(|inotify| inotify.watch_parents(&loader.root, &job_path));
            let mut loaded = loader.load(&job_path, before, permit);
            loaded.found.is_watched &= is_watched;
            loaded
        };
        let loaded = self.open_pool.run_for(path, job).await.unwrap_or_else(|lost| match lost {
            JobLost::TimedOut => self.without_lookup(path, NameOutcome::Busy),
            JobLost::Panicked => self.without_lookup(path, NameOutcome::Failed),
        });
        let (found, asset) = self.found(path, loaded, now_ms);
        if let Some(asset) = asset {
            self.insert(&asset, previous.as_deref()).await;
        }
        found
    }

    /// The name and the result that a load gives, with the loaded asset.
    fn found(
        &self,
        path: &SitePath<'static>,
        loaded: LoadedAsset,
        now_ms: u64,
    ) -> (FoundFile, Option<Arc<Asset>>) {
        let LoadedAsset { found, asset } = loaded;
        let trust_ms = self.trust.trust_ms(&found, asset.as_deref());
        let name = Name::new(path.clone(), found, self.loader.generation, now_ms, trust_ms);
        let lookup = match &asset {
            Some(asset) => Lookup::File(Arc::clone(asset)),
            None => name.lookup().unwrap_or(Lookup::Failed),
        };
        (FoundFile { lookup, name: Arc::new(name), is_known: false }, asset)
    }

    /// The result for a path that was not looked up on the disk.
    fn without_lookup(&self, path: &SitePath<'_>, outcome: NameOutcome) -> LoadedAsset {
        let policy = self.loader.rules.policy(path);
        LoadedAsset {
            found: NameResult { outcome, policy, is_watched: false, is_remote: false },
            asset: None,
        }
    }

    async fn insert(&self, asset: &Arc<Asset>, previous: Option<&Asset>) {
        self.assets.insert(asset, previous).await;
        if asset.etag.is_weak() {
            self.background.start_digest(asset, Algorithm::Sha256);
        }
    }

    fn is_of_this_view(&self, name: &Name) -> bool {
        name.generation == self.loader.generation
    }

    /// Whether the kernel confirms, from its caches alone, what the name says.
    fn is_confirmed(&self, name: &Name, before: TrustState) -> bool {
        if !self.is_of_this_view(name) || name.is_purged() || name.found.is_remote {
            return false;
        }
        let Loader { root, tags, .. } = &*self.loader;
        let stat = root.stat_if_cached(&name.path);
        match &name.found.outcome {
            NameOutcome::File { version, asset } => {
                let is_watched =
                    name.found.is_watched && !before.is_invalidated(self.names.invalidated_until_ms());
                let is_current = |asset: Arc<Asset>| {
                    !asset.is_racy
                        && !tags.can_improve(&asset)
                        && asset.sidecars.is_unchanged(root, &name.path, is_watched)
                };
                stat.is_ok_and(|stat| stat.version == *version) && asset.get().is_some_and(is_current)
            }
            NameOutcome::Directory => stat.is_ok_and(|stat| stat.kind == FileType::Directory),
            NameOutcome::Missing => matches!(stat, Err(Errno::NOENT | Errno::NOTDIR)),
            NameOutcome::Forbidden | NameOutcome::Busy | NameOutcome::Failed => false,
        }
    }
}

impl TrustTimes {
    pub(crate) fn of(settings: &FileSettings) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (unwatched, watched) = (settings.revalidate_after, settings.revalidate_watched_after);
        // If names are to be revalidated at every use, that holds for watched names, too.
        let watched = if unwatched.is_zero() { unwatched } else { watched.max(unwatched) };
        Self { unwatched_ms: milliseconds(unwatched), watched_ms: milliseconds(watched) }
    }

    fn trust_ms(&self, found: &NameResult, asset: Option<&Asset>) -> u64 {
        match asset {
            _ if found.is_watched => self.watched_ms,
            Some(asset) if asset.is_racy => self.unwatched_ms.min(RACY_TRUST_MS),
            _ => self.unwatched_ms,
        }
    }
}

/// Longer paths are missing without a lookup: the system allows `PATH_MAX` bytes with a NUL. The file system decides on the length
/// of a component: NTFS and exFAT have names of more than 255 bytes.
pub(super) const PATH_BYTES_MAX: usize = 4095;

/// Racy files are loaded again after this time, however long names are trusted.
const RACY_TRUST_MS: u64 = 1000;

/// Times that a request shares another's lookup before it makes its own.
const SHARED_TRIES: usize = 2;
