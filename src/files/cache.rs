//! The files of a document root: names in front of assets, both cached and bounded. Concurrent requests for one cold file open it
//! once.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::asset::{Asset, AssetBody};
use super::asset_cache::AssetCache;
use super::background::BackgroundTasks;
use super::digests::Digests;
use super::faults::{Fault, Faults};
use super::handle_pool::{Handle, HandlePool};
use super::load::{LoadedAsset, Loader, SizeThresholds, VariantError, verifies};
use super::mapped::Unmapper;
use super::name::{Lookup, Name, NameOutcome, NameResult, TrustState};
use super::name_cache::NameCache;
use super::reads::ColdReads;
use super::root::{Root, RootEntry, RootState};
use super::root_monitor::RootMonitor;
use super::settings::FileSettings;
use super::storage::Storage;
use super::tags::Tags;
use super::version::Version;
use crate::config::policy::rules::Rules;
use crate::files::inotify::{ChangeHint, InotifyWatcher};
use crate::files::recency::PERIOD_MS;
use crate::files::residency;
use crate::files::sidecars::original;
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;
use crate::sys::blocking_pool::{BlockingPool, JobLost};
use crate::telemetry::log_throttle::LogThrottle;

/// The files of one document root. Clones share everything.
///
/// With other settings and rules it is another view of the same caches ([`Files::reconfigured`]): each view uses only the entries
/// of its own generation.
#[derive(Clone)]
pub struct Files {
    inner: Arc<Inner>,
}

/// Views share everything but the loader, the settings and the times that follow from them.
#[derive(Clone)]
struct Inner {
    loader: Arc<Loader>,
    names: Arc<NameCache>,
    assets: Arc<AssetCache>,
    background: BackgroundTasks,
    open_pool: Arc<BlockingPool>,
    reads: Arc<ColdReads>,
    inotify: Option<Arc<InotifyWatcher>>,
    root_monitor: Arc<RootMonitor>,
    settings: FileSettings,
    trust_ms: u64,
    trust_watched_ms: u64,
    disk_timeouts: Arc<AtomicU64>,
    /// End of the current period of recency.
    recency_ends_ms: Arc<AtomicU64>,
}

/// A lookup's result and the name that gave it, which [`Files::recall`] can use again without a lookup.
pub struct FoundFile {
    /// What the path leads to.
    pub lookup: Lookup,
    /// The path's entry in the name cache.
    pub name: Arc<Name>,
    /// The name was cached; else it was looked up, for this request or for another one.
    pub is_known: bool,
}

/// Why no handle of an asset is available.
#[derive(Debug)]
pub(crate) enum NoHandle {
    /// The file is another version by now.
    Changed,
    /// A handle is required, and none became free in time.
    Exhausted,
}

impl Files {
    /// Serves `root` within the bounds of `settings` and under `rules`.
    ///
    /// # Errors
    /// If threads can't be started. A missing inotify is only logged.
    pub fn new(root: Root, settings: &FileSettings, rules: Arc<Rules>) -> io::Result<Self> {
        let storage = Arc::clone(root.storage());
        let loader = Arc::new(Loader {
            root: Arc::new(root),
            generation: 0,
            handles: Arc::new(HandlePool::new(settings.handles)),
            unmapper: Arc::new(Unmapper::new(Arc::clone(&storage))),
            rules,
            tags: Tags { source: settings.etag, digests: Digests::new(settings.digests) },
            logged: Arc::new(LogThrottle::once(STALE_SIDECARS_LOGGED)),
            faults: Arc::default(),
            sizes: SizeThresholds::of(settings),
            verifies: verifies(settings),
        });
        let names = Arc::new(NameCache::new(settings.names));
        let assets = Arc::new(AssetCache::new(settings));
        let inotify = settings.watches.and_then(watcher_or_log).map(Arc::new);
        let background =
            BackgroundTasks::new(Arc::clone(&loader), Arc::clone(&names), Arc::clone(&assets), settings)?;
        let inner = Inner {
            loader,
            recency_ends_ms: Arc::new(AtomicU64::new(names.now_ms() + PERIOD_MS)),
            names,
            assets,
            background,
            open_pool: Arc::new(BlockingPool::new("pagecast-open", settings.disk_threads, 0)?),
            reads: Arc::new(ColdReads::new(storage, settings.populate_threads, READING_NICENESS)),
            inotify,
            root_monitor: Arc::new(RootMonitor::new(settings)),
            settings: settings.clone(),
            trust_ms: milliseconds(settings.revalidate_after),
            trust_watched_ms: trust_watched_ms(settings),
            disk_timeouts: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same files under other settings and rules: names of the present ones are looked up anew, and requests that run keep
    /// theirs. Sizes of caches, threads and watches stay.
    #[must_use]
    pub fn reconfigured(&self, settings: &FileSettings, rules: Arc<Rules>) -> Self {
        let before = &self.inner;
        before.loader.handles.set_times(settings.handles);
        before.root_monitor.reconfigure(settings);
        let is_same = *settings == FileSettings { handles: settings.handles, ..before.settings.clone() };
        if is_same && rules.say_the_same_as(&before.loader.rules) {
            return self.clone();
        }
        let generation = before.loader.generation + 1;
        self.view(settings, rules, generation, Arc::clone(&before.loader.root))
    }

    /// The same files in the present root directory, even if another one replaces it: for readers of many files that keep none
    /// of them.
    pub(crate) fn pinned(&self) -> Self {
        let Inner { loader, settings, .. } = &*self.inner;
        self.view(settings, Arc::clone(&loader.rules), loader.generation, Arc::new(loader.root.pinned()))
    }

    fn view(&self, settings: &FileSettings, rules: Arc<Rules>, generation: u64, root: Arc<Root>) -> Self {
        let before = &self.inner;
        let loader = Arc::new(Loader {
            root,
            generation,
            rules,
            tags: Tags { source: settings.etag, digests: before.loader.tags.digests.clone() },
            sizes: SizeThresholds::of(settings),
            verifies: verifies(settings),
            ..Loader::clone(&before.loader)
        });
        let inner = Inner {
            background: before.background.with_loader(Arc::clone(&loader)),
            loader,
            settings: settings.clone(),
            trust_ms: milliseconds(settings.revalidate_after),
            trust_watched_ms: trust_watched_ms(settings),
            ..Inner::clone(before)
        };
        Self { inner: Arc::new(inner) }
    }

    /// Looks up `path`: in the cache while its entry is trusted, else on the disk.
    pub async fn find(&self, path: &SitePath<'_>) -> FoundFile {
        let now_ms = self.now_ms();
        if let Some(name) = self.inner.names.get(path).await
            && let Some(lookup) = self.recall(&name, now_ms)
        {
            self.inner.names.counters().hit();
            if let Lookup::File(asset) = &lookup {
                self.inner.assets.count_hit(asset);
            }
            return FoundFile { lookup, name, is_known: true };
        }
        self.inner.names.counters().miss();
        let path = path.clone().into_owned();
        if path.as_bytes().len() > PATH_BYTES_MAX {
            return self.found(&path, self.without_lookup(&path, NameOutcome::Missing), now_ms).0;
        }
        self.load(path, now_ms).await
    }

    /// The result of `name`, if it may still be trusted at `now_ms`. Never waits: an expired name is checked against the kernel's
    /// caches, and if they can't confirm it the result is `None`.
    pub fn recall(&self, name: &Name, now_ms: u64) -> Option<Lookup> {
        if !self.is_trusted(name, now_ms) {
            let before = name.checked();
            self.is_confirmed(name, before).then(|| name.confirm(before, now_ms))?;
        }
        name.lookup()
    }

    /// Records a use of `name` and of `sent`, the variant that was sent for it, in the caches.
    pub async fn touch(&self, name: &Name, sent: Option<&Asset>) {
        name.touched(self.now_ms());
        self.inner.names.get(&name.path).await;
        if let Some(asset) = name.file() {
            self.inner.assets.touch(&asset).await;
        }
        if let Some(variant) = sent.filter(|sent| sent.encoding.is_some()) {
            self.inner.assets.touch(variant).await;
        }
    }

    /// Milliseconds on the caches' clock, which is monotonic.
    pub fn now_ms(&self) -> u64 {
        self.inner.names.now_ms()
    }

    /// The variant of the file in `encoding`: from memory, or from its sidecar.
    pub(crate) async fn variant(
        &self,
        asset: &Arc<Asset>,
        encoding: Encoding,
    ) -> Result<Arc<Asset>, VariantError> {
        let variants = asset.variants.as_ref().ok_or(VariantError::Changed)?;
        let tags = &self.inner.loader.tags;
        let is_current = |variant: &Arc<Asset>| !variant.is_racy && !tags.can_improve(variant);
        let current = || variants.cached(encoding).filter(is_current);
        if let Some(variant) = current() {
            return Ok(variant);
        }
        let _lock = variants.lock_opening(encoding).await;
        if let Some(variant) = current() {
            return Ok(variant);
        }
        let permit = self.inner.loader.handles.permit().await.map_err(|_| VariantError::Busy)?;
        let (loader, original) = (Arc::clone(&self.inner.loader), Arc::clone(asset));
        let loaded = self
            .run_blocking(&asset.path, move || loader.load_sidecar(&original, encoding, permit))
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

    /// The handle of the asset that is open already.
    pub(crate) fn open_handle(&self, asset: &Asset) -> Option<Arc<Handle>> {
        self.inner.loader.handles.get(asset.id)
    }

    /// Opens the file again, for sending it by `sendfile`. `None` if no handle is available and the asset can do without.
    ///
    /// # Errors
    /// If the file has changed since, or can't be opened.
    pub(crate) async fn handle(&self, asset: &Arc<Asset>) -> Result<Option<Arc<Handle>>, NoHandle> {
        let permit = match &asset.body {
            AssetBody::Heap => return Ok(None),
            AssetBody::Mapped(_) => self.inner.loader.handles.try_permit(),
            AssetBody::Unmapped => self.inner.loader.handles.permit().await.ok(),
        };
        let Some(permit) = permit else {
            let is_mapped = asset.mapping().is_some();
            return if is_mapped { Ok(None) } else { Err(NoHandle::Exhausted) };
        };
        let (loader, job) = (Arc::clone(&self.inner.loader), Arc::clone(asset));
        let opened = self.run_blocking(&asset.path, move || match loader.root.entry(&job.path) {
            Ok(RootEntry::File { file, stat, .. }) if Version::of(&stat) == job.version => {
                Ok(Some(loader.keep_open(job.id, file, &stat, permit)))
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) if !matches!(job.body, AssetBody::Unmapped) => {
                Ok(None)
            }
            _ => Err(NoHandle::Changed),
        });
        opened.await.unwrap_or_else(|lost| match lost {
            JobLost::TimedOut => Err(NoHandle::Exhausted),
            JobLost::Panicked => Err(NoHandle::Changed),
        })
    }

    /// Whether the file is still the asset's version: by its handle, or without one by the kernel's cached metadata of its path.
    /// Another file that has taken its path is no change of it. Never waits.
    ///
    /// # Errors
    /// Those of the disk for the handle.
    pub(crate) fn is_unchanged(&self, asset: &Asset, handle: Option<&Handle>) -> Result<bool, Errno> {
        match handle {
            Some(handle) => handle.has_bytes_of(&asset.version),
            None => Ok(self.inner.loader.root.stat_if_cached(&asset.path).map_or(true, |stat| {
                let now = stat.version;
                now == asset.version || !now.is_same_file(&asset.version)
            })),
        }
    }

    /// Whether the file is still the asset's version, for a response that needs no handle. Never waits.
    pub(crate) fn is_current(&self, asset: &Asset) -> bool {
        let handle = self.open_handle(asset);
        self.is_unchanged(asset, handle.as_deref()).unwrap_or(false)
    }

    /// Whether the document root could be opened when it was last checked.
    pub fn root_is_sound(&self) -> bool {
        self.inner.root_monitor.is_sound()
    }

    /// Time until the root is to be checked again.
    pub fn root_check_after(&self) -> Duration {
        self.inner.root_monitor.interval()
    }

    /// Checks whether the root can still be served; true if another directory has replaced it, which is served from then on.
    /// Responses that run keep the files of the old one.
    pub async fn check_root(&self) -> bool {
        let (inner, loader) = (&self.inner, Arc::clone(&self.inner.loader));
        let state = match self.run_with_timeout(move || loader.root.check()).await {
            Ok(state) => state,
            Err(JobLost::TimedOut) => RootState::Broken(io::ErrorKind::TimedOut.into()),
            Err(JobLost::Panicked) => return false,
        };
        let is_replaced = inner.root_monitor.record(&inner.loader.root, &state);
        if is_replaced {
            // The watches are on directories of the tree before.
            if let Some(inotify) = &inner.inotify {
                inotify.unwatch_all();
            }
            inner.names.invalidate_all();
        }
        is_replaced
    }

    /// Passes inotify's hints on to the names, for as long as the future is polled.
    pub async fn listen(&self) {
        let Some(inotify) = &self.inner.inotify else { return };
        let names = &self.inner.names;
        let listened = inotify.listen(async |hint| match hint {
            ChangeHint::Everything => names.invalidate_all(),
            ChangeHint::Name(path) => {
                names.invalidate(&path).await;
                if let Some(original) = original(&path) {
                    names.invalidate(&original).await;
                }
            }
        });
        if let Err(error) = listened.await {
            log::warn!("inotify failed ({error}): changes are seen when a name is next revalidated");
        }
    }

    /// Probes a file of the root directory, so that a file system that can't tell which pages are in memory is logged at start
    /// and not under load.
    pub async fn try_probe(&self) {
        let loader = Arc::clone(&self.inner.loader);
        let probed = self.run_with_timeout(move || {
            for name in loader.root.first_names(NAMES_TRIED) {
                if let Ok(RootEntry::File { file, stat, .. }) =
                    loader.root.entry(&SitePath::root().entry(&name))
                    && stat.st_size > 0
                {
                    residency::probe(loader.storage(), file.as_fd(), 0..1, &mut [0]);
                    return;
                }
            }
        });
        // The panic hook has logged a panic.
        let _ = probed.await;
    }

    /// Housekeeping, once a second: expired handles, pending evictions, suppressed log lines, recency.
    pub async fn maintain(&self) {
        let inner = &self.inner;
        inner.loader.handles.close_expired(Instant::now());
        inner.names.maintain().await;
        inner.assets.maintain().await;
        inner.loader.tags.digests.maintain();
        inner.loader.faults.report_suppressed(Instant::now());
        let now_ms = self.now_ms();
        if now_ms >= inner.recency_ends_ms.load(Ordering::Relaxed) {
            inner.recency_ends_ms.store(now_ms + PERIOD_MS, Ordering::Relaxed);
            let names = Arc::clone(&inner.names);
            inner.open_pool.run(move || names.age_recency());
        }
    }

    pub(crate) fn is_trusted(&self, name: &Name, now_ms: u64) -> bool {
        self.is_of_this_view(name) && self.inner.names.is_trusted(name, now_ms)
    }

    /// Makes the next use of `name` check it.
    pub(crate) fn invalidate(&self, name: &Name) {
        name.invalidate();
    }

    /// Closes up to `count` idle handles, for other uses of the process; returns their number.
    pub(crate) fn close_idle_handles(&self, count: usize) -> usize {
        self.inner.loader.handles.close_idle(count)
    }

    /// Counts a response that was cut off since the disk did not answer.
    pub(crate) fn count_disk_timeout(&self) {
        self.inner.disk_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of requests that the disk did not answer in time.
    pub(crate) fn disk_timeouts(&self) -> u64 {
        self.inner.disk_timeouts.load(Ordering::Relaxed)
    }

    /// Time that a response waits for the disk.
    pub(crate) fn disk_timeout(&self) -> Duration {
        self.inner.settings.disk_timeout
    }

    pub(crate) fn background(&self) -> &BackgroundTasks {
        &self.inner.background
    }

    pub(crate) fn reads(&self) -> &ColdReads {
        &self.inner.reads
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.inner.loader.storage()
    }

    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.inner.loader.rules
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.loader.faults
    }

    pub(crate) fn root(&self) -> &Root {
        &self.inner.loader.root
    }

    pub(super) fn loader(&self) -> &Loader {
        &self.inner.loader
    }

    pub(super) fn names(&self) -> &NameCache {
        &self.inner.names
    }

    pub(super) fn assets(&self) -> &AssetCache {
        &self.inner.assets
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
            let name = self.inner.names.get_or_look_up(&path, is_usable, lookup).await;
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
        let Ok(permit) = self.inner.loader.handles.permit().await else {
            self.faults().report(
                Fault::NoHandle,
                path,
                format_args!("/{path}: no file handle became free in time"),
            );
            return self.found(path, self.without_lookup(path, NameOutcome::Busy), now_ms).0;
        };
        let previous = self.inner.names.get(path).await.and_then(|name| name.file());
        let (inner, job_path, before) = (Arc::clone(&self.inner), path.clone(), previous.clone());
        let job = move || {
            let loader = &inner.loader;
            let inotify = inner.inotify.as_ref();
            let is_watched = inotify.is_some_and(|inotify| inotify.watch_parents(&loader.root, &job_path));
            let mut loaded = loader.load(&job_path, before, permit);
            loaded.found.is_watched &= is_watched;
            loaded
        };
        let loaded = self.run_blocking(path, job).await.unwrap_or_else(|lost| match lost {
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
        let trust_ms = match &asset {
            _ if found.is_watched => self.inner.trust_watched_ms,
            Some(asset) if asset.is_racy => self.inner.trust_ms.min(RACY_TRUST_MS),
            _ => self.inner.trust_ms,
        };
        let name = Name::new(path.clone(), found, self.inner.loader.generation, now_ms, trust_ms);
        let lookup = match &asset {
            Some(asset) => Lookup::File(Arc::clone(asset)),
            None => name.lookup().unwrap_or(Lookup::Failed),
        };
        (FoundFile { lookup, name: Arc::new(name), is_known: false }, asset)
    }

    /// The result for a path that was not looked up on the disk.
    fn without_lookup(&self, path: &SitePath<'_>, outcome: NameOutcome) -> LoadedAsset {
        let policy = self.inner.loader.rules.policy(path);
        LoadedAsset {
            found: NameResult { outcome, policy, is_watched: false, is_remote: false },
            asset: None,
        }
    }

    async fn insert(&self, asset: &Arc<Asset>, previous: Option<&Asset>) {
        self.inner.assets.insert(asset, previous).await;
        if asset.etag.is_weak() {
            self.inner.background.start_digest(asset, Algorithm::Sha256);
        }
    }

    fn is_of_this_view(&self, name: &Name) -> bool {
        name.generation == self.inner.loader.generation
    }

    /// Whether the kernel confirms, from its caches alone, what the name says.
    fn is_confirmed(&self, name: &Name, before: TrustState) -> bool {
        if !self.is_of_this_view(name) || name.is_purged() || name.found.is_remote {
            return false;
        }
        let Loader { root, tags, .. } = &*self.inner.loader;
        let stat = root.stat_if_cached(&name.path);
        match &name.found.outcome {
            NameOutcome::File { version, asset } => {
                let is_watched =
                    name.found.is_watched && !before.is_invalidated(self.inner.names.invalidated_until_ms());
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

    /// As [`Self::run_with_timeout`]; reports a timeout as a fault of `path`.
    async fn run_blocking<T: Send + 'static>(
        &self,
        path: &SitePath<'_>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let done = self.run_with_timeout(job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.faults().report(Fault::Open, path, format_args!("/{path}: the disk does not answer"));
        }
        done
    }

    /// Runs `job` on a thread that may block, for at most the disk timeout.
    async fn run_with_timeout<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let done = self.inner.open_pool.ask(self.disk_timeout(), job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.count_disk_timeout();
        }
        done
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Zero if names are to be revalidated at every use: that holds for watched names, too.
fn trust_watched_ms(settings: &FileSettings) -> u64 {
    if settings.revalidate_after.is_zero() {
        return 0;
    }
    milliseconds(settings.revalidate_watched_after.max(settings.revalidate_after))
}

fn watcher_or_log(directories_max: usize) -> Option<InotifyWatcher> {
    InotifyWatcher::new(directories_max)
        .inspect_err(|error| {
            log::warn!("inotify is not available ({error}): changes are seen when a name is next revalidated")
        })
        .ok()
}

/// Longer paths are missing without a lookup: the system allows `PATH_MAX` bytes with a NUL. The file system decides on the length
/// of a component: NTFS and exFAT have names of more than 255 bytes.
const PATH_BYTES_MAX: usize = 4095;

/// Reading cold pages takes processor time as well: workers that send warm ones go first.
const READING_NICENESS: i32 = 5;

/// Names of the root directory that are tried for a file to probe.
const NAMES_TRIED: usize = 64;

/// Racy files are loaded again after this time, however long names are trusted.
const RACY_TRUST_MS: u64 = 1000;

/// Times that a request shares another's lookup before it makes its own.
const SHARED_TRIES: usize = 2;

/// Stale sidecars that are remembered as logged.
const STALE_SIDECARS_LOGGED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DirectoriesGroup, OnOff, Symlinks};
    use crate::files::handle_pool::HandleLimits;
    use crate::files::storage::{Call, Faulty};
    use rustix::fs::{Stat, StatFs};
    use std::os::fd::BorrowedFd;

    #[test]
    fn the_same_settings_and_rules_leave_everything_trusted_and_others_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        let path = SitePath::parse(b"/a").unwrap().path.into_owned();
        let trusted = Duration::from_secs(3600);
        let settings = FileSettings { revalidate_after: trusted, ..FileSettings::small() };
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let other_rules = Rules::new(&Config {
            directories: DirectoriesGroup { listing: OnOff::On, ..DirectoriesGroup::default() }.into(),
            ..Config::default()
        });
        let other_settings = FileSettings { heap_file_bytes: 0, ..settings.clone() };
        actix_rt::System::new().block_on(async {
            let rules = || Rules::new(&Config::default());
            let files = Files::new(root, &settings, rules()).unwrap();
            let name = files.find(&path).await.name;
            let times = HandleLimits { wait: Duration::ZERO, ..settings.handles };
            let same = files.reconfigured(&FileSettings { handles: times, ..settings.clone() }, rules());
            assert!(Arc::ptr_eq(&same.inner, &files.inner));
            for other in
                [files.reconfigured(&settings, other_rules), files.reconfigured(&other_settings, rules())]
            {
                assert!(other.recall(&name, other.now_ms()).is_none());
                let found = other.find(&path).await;
                assert!(!Arc::ptr_eq(&found.name, &name));
                assert!(other.recall(&found.name, other.now_ms()).is_some());
                assert!(files.recall(&found.name, files.now_ms()).is_none(), "nor the other way round");
            }
        });
    }

    fn files_on(storage: Arc<dyn Storage>, dir: &std::path::Path, settings: &FileSettings) -> Files {
        let root = Root::open_on(storage, dir, Symlinks::Inside).unwrap();
        Files::new(root, settings, Rules::new(&Config::default())).unwrap()
    }

    #[test]
    fn a_path_longer_than_the_system_allows_is_missing_without_a_lookup_and_without_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Faulty::new();
        let files = files_on(disk.clone(), dir.path(), &FileSettings::small());
        actix_rt::System::new().block_on(async {
            for (length, is_looked_up) in
                [(PATH_BYTES_MAX, true), (PATH_BYTES_MAX + 1, false), (16_000, false)]
            {
                let opens = disk.count(Call::Open);
                let path = SitePath::root().entry(&b"ab/".repeat(length)[..length]);
                for _ in 0..2 {
                    assert!(matches!(files.find(&path).await.lookup, Lookup::Missing), "{length}");
                }
                assert_eq!(disk.count(Call::Open) > opens, is_looked_up, "{length}");
                files.maintain().await;
                assert_eq!(files.names().counts().entries, 1, "{length}");
            }
        });
    }

    /// Fails the test if a call that may wait for a file server is made on its own thread. Every file is on NFS if `is_remote`.
    struct NoWaitOnWorker {
        is_remote: bool,
    }

    impl Storage for NoWaitOnWorker {
        fn fstat(&self, file: BorrowedFd<'_>) -> Result<Stat, Errno> {
            assert_eq!(std::thread::current().name(), Some("pagecast-open"));
            rustix::fs::fstat(file)
        }

        fn fstatfs(&self, file: BorrowedFd<'_>) -> Result<StatFs, Errno> {
            assert_eq!(std::thread::current().name(), Some("pagecast-open"));
            let mut stat = rustix::fs::fstatfs(file)?;
            stat.f_type = if self.is_remote { 0x6969 } else { 0xef53 };
            Ok(stat)
        }
    }

    #[test]
    fn a_worker_confirms_from_memory_and_leaves_remote_files_to_the_pool() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), vec![1; 100_000]).unwrap();
        let path = SitePath::parse(b"/a").unwrap().path.into_owned();
        let settings =
            FileSettings { revalidate_after: Duration::ZERO, cache_bytes: 1 << 20, ..FileSettings::small() };
        for is_remote in [false, true] {
            let files = files_on(Arc::new(NoWaitOnWorker { is_remote }), dir.path(), &settings);
            actix_rt::System::new().block_on(async {
                let first = files.find(&path).await;
                let asset = first.lookup.into_file().unwrap();
                assert_eq!(asset.mapping().is_some(), !is_remote, "what is remote is not mapped");
                let again = files.find(&path).await;
                assert_eq!(again.is_known, !is_remote);
                assert_eq!(again.lookup.into_file().unwrap().id, asset.id, "nor read again");
                assert!(files.is_current(&asset));
            });
        }
    }
}
