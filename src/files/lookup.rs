//! Lookups: from a path to a file, in the caches while they are trusted, else on the disk.

use std::sync::Arc;
use std::time::Duration;

use rustix::{fs::FileType, io::Errno};

use super::{Asset, Fault, Files, Loader, Lookup, Name, NameResult, PathOutcome, Unavailable};
use crate::http::{digest::Algorithm, encoding::Encoding, target::SitePath};
use crate::sys::blocking_pool::JobLost;

/// A lookup's result and the name that gave it, which [`Files::recall`] can use again without a lookup.
pub struct FoundFile {
    /// What the path leads to.
    pub lookup: Lookup,
    /// The path's entry in the name cache.
    pub name: Arc<Name>,
    /// The name was cached; else it was looked up, for this request or for another one.
    pub is_known: bool,
}

impl Files {
    /// Looks up `path`: in the cache while its entry is trusted, else on the disk.
    pub async fn find(&self, path: &SitePath<'_>) -> FoundFile {
        let (now_ms, names) = (self.now_ms(), &self.shared.names);
        if let Some(name) = names.get(path).await
            && let Some(lookup) = self.recall(&name, now_ms)
        {
            names.cache.counters.hit();
            if let Lookup::File(asset) = &lookup {
                self.shared.assets.count_hit(asset);
            }
            return FoundFile { lookup, name, is_known: true };
        }
        names.cache.counters.miss();
        let path = path.clone().into_owned();
        if path.as_bytes().len() > PATH_BYTES_MAX {
            let missing = self.loader.without_file(&path, Lookup::Missing, false);
            return self.found(&path, missing, now_ms);
        }
        self.load(path, now_ms).await
    }

    /// The result of `name`, if it may still be trusted at `now_ms`. Never waits: an expired name is checked against the kernel's
    /// caches, and if they can't confirm it the result is `None`.
    pub fn recall(&self, name: &Name, now_ms: u64) -> Option<Lookup> {
        if !self.is_trusted(name, now_ms) {
            let checked_ms = name.checked_at();
            self.is_confirmed(name, checked_ms).then(|| name.confirm(checked_ms, now_ms))?;
        }
        name.lookup()
    }

    /// Whether `name` may be used at `now_ms` without a check.
    pub(crate) fn is_trusted(&self, name: &Name, now_ms: u64) -> bool {
        self.is_of_this_view(name) && self.shared.names.is_trusted(name, now_ms)
    }

    /// The variant of the file in `encoding`: from memory, or from its sidecar.
    pub(crate) async fn variant(
        &self,
        asset: &Arc<Asset>,
        encoding: Encoding,
    ) -> Result<Arc<Asset>, Unavailable> {
        let variants = asset.variants.as_ref().ok_or(Unavailable::Changed)?;
        let tags = &self.loader.tags;
        let is_current = |variant: &Arc<Asset>| !variant.is_racy && !tags.can_improve(variant);
        let current = || variants.cached(encoding).filter(is_current);
        if let Some(variant) = current() {
            return Ok(variant);
        }
        let _lock = variants.slot(encoding).opening.lock().await;
        if let Some(variant) = current() {
            return Ok(variant);
        }
        let permit = self.loader.handles.permit().await.ok_or(Unavailable::Busy)?;
        let (loader, original) = (Arc::clone(&self.loader), Arc::clone(asset));
        let load = move || loader.load_sidecar(&original, encoding, permit);
        let loaded = self.run_for(&asset.path, load).await.unwrap_or_else(|lost| Err(lost.into()));
        let variant = loaded.inspect_err(|error| {
            if matches!(error, Unavailable::Failed) {
                variants.mark_unreadable(encoding);
            }
        })?;
        self.insert(&variant, None).await;
        variants.insert(encoding, variant.cache_ref());
        Ok(variant)
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
            let name = self.shared.names.get_or_look_up(&path, is_usable, lookup).await;
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
        let without_file = |lookup| self.loader.without_file(path, lookup, false);
        let Some(permit) = self.loader.handles.permit().await else {
            let message = format_args!("/{path}: no file handle became free in time");
            self.loader.faults.report(Fault::NoHandle, path, message);
            return self.found(path, without_file(Lookup::Busy), now_ms);
        };
        let previous = self.shared.names.get(path).await.and_then(|name| name.file());
        let (files, job_path, before) = (self.clone(), path.clone(), previous.clone());
        let job = move || {
            let Self { loader, shared } = &files;
            let inotify = shared.inotify.as_ref();
            let is_watched = inotify.is_some_and(|inotify| inotify.watch_parents(&loader.root, &job_path));
            let mut loaded = loader.load(&job_path, before, permit);
            loaded.is_watched &= is_watched;
            loaded
        };
        let loaded = self.run_for(path, job).await.unwrap_or_else(|lost| match lost {
            JobLost::TimedOut => without_file(Lookup::Busy),
            JobLost::Panicked => without_file(Lookup::Failed),
        });
        let found = self.found(path, loaded, now_ms);
        if let Lookup::File(asset) = &found.lookup {
            self.insert(asset, previous.as_deref()).await;
        }
        found
    }

    /// The name and the result that a load gives.
    fn found(&self, path: &SitePath<'static>, loaded: NameResult, now_ms: u64) -> FoundFile {
        let (trust_ms, generation) = (self.trust_ms(&loaded), self.loader.generation);
        let name = Arc::new(Name::new(path.clone(), &loaded, generation, now_ms, trust_ms));
        FoundFile { lookup: loaded.lookup, name, is_known: false }
    }

    /// Time for which a name is trusted after a check.
    fn trust_ms(&self, found: &NameResult) -> u64 {
        let caches = &self.loader.settings.config.caches;
        let (unwatched, watched) = (caches.revalidate_after.get(), caches.revalidate_watched_after.get());
        let time = match &found.lookup {
            // If names are to be revalidated at every use, that holds for watched names, too.
            _ if found.is_watched && !unwatched.is_zero() => watched.max(unwatched),
            Lookup::File(asset) if asset.is_racy => unwatched.min(RACY_TRUST),
            _ => unwatched,
        };
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }

    async fn insert(&self, asset: &Arc<Asset>, previous: Option<&Asset>) {
        self.shared.assets.insert(asset, previous).await;
        if asset.etag.is_weak() {
            self.start_digest(asset, Algorithm::Sha256);
        }
    }

    fn is_of_this_view(&self, name: &Name) -> bool {
        name.generation == self.loader.generation
    }

    /// Whether the kernel confirms, from its caches alone, what the name says. It was last `checked_ms`.
    fn is_confirmed(&self, name: &Name, checked_ms: u64) -> bool {
        if !self.is_of_this_view(name) || name.is_purged() || name.is_remote {
            return false;
        }
        let Loader { root, tags, .. } = &*self.loader;
        let stat = root.stat_if_cached(&name.path);
        match &name.outcome {
            PathOutcome::File(asset) => {
                let is_watched = name.is_watched && !self.shared.names.is_invalidated(checked_ms);
                let is_current = |asset: Arc<Asset>| {
                    stat.is_ok_and(|stat| stat.version == asset.version)
                        && !asset.is_racy
                        && !tags.can_improve(&asset)
                        && asset.sidecars.is_unchanged(root, &name.path, is_watched)
                };
                asset.get().is_some_and(is_current)
            }
            PathOutcome::Directory => stat.is_ok_and(|stat| stat.kind == FileType::Directory),
            PathOutcome::Missing => matches!(stat, Err(Errno::NOENT | Errno::NOTDIR)),
            PathOutcome::Forbidden | PathOutcome::Busy | PathOutcome::Failed => false,
        }
    }
}

/// Longer paths are missing without a lookup: the system allows `PATH_MAX` bytes with a NUL. The file system decides on the length
/// of a component: NTFS and exFAT have names of more than 255 bytes.
pub(super) const PATH_BYTES_MAX: usize = 4095;

/// Racy files are loaded again after this time, however long names are trusted.
const RACY_TRUST: Duration = Duration::from_secs(1);

/// Times that a request shares another's lookup before it makes its own.
const SHARED_TRIES: usize = 2;
