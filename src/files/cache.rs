//! The files of a document root: names in front of assets, both cached and bounded. Concurrent requests for one cold file open it
//! once.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{
    Asset, AssetBody, AssetCache, BackgroundTasks, ChangeHint, ColdReads, Digests, Faults, FileSettings,
    FoundFile, Handle, HandlePool, InotifyWatcher, Loader, Lookup, Name, NameCache, OpenPool, PERIOD_MS,
    PathLookup, Root, RootEntry, RootMonitor, RootState, SizeThresholds, Storage, Tags, TrustTimes, Unmapper,
    VariantError, Version, original, residency, verifies,
};
use crate::config::policy::rules::Rules;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;
use crate::sys::blocking_pool::JobLost;
use crate::telemetry::log_throttle::LogThrottle;

/// The files of one document root. Clones share everything.
///
/// With other settings and rules it is another view of the same caches ([`Files::reconfigured`]): each view uses only the entries
/// of its own generation.
#[derive(Clone)]
pub struct Files {
    inner: Arc<Inner>,
}

/// Views share everything but the settings and the loader that follows from them.
#[derive(Clone)]
struct Inner {
    lookup: PathLookup,
    reads: Arc<ColdReads>,
    root_monitor: Arc<RootMonitor>,
    settings: FileSettings,
    /// End of the current period of recency.
    recency_ends_ms: Arc<AtomicU64>,
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
            recency_ends_ms: Arc::new(AtomicU64::new(names.now_ms() + PERIOD_MS)),
            lookup: PathLookup {
                open_pool: OpenPool::new(settings, Arc::clone(&loader.faults))?,
                loader,
                names,
                assets,
                background,
                inotify,
                trust: TrustTimes::of(settings),
            },
            reads: Arc::new(ColdReads::new(storage, settings.populate_threads, READING_NICENESS)),
            root_monitor: Arc::new(RootMonitor::new(settings)),
            settings: settings.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same files under other settings and rules: names of the present ones are looked up anew, and requests that run keep
    /// theirs. Sizes of caches, threads and watches stay.
    #[must_use]
    pub fn reconfigured(&self, settings: &FileSettings, rules: Arc<Rules>) -> Self {
        let before = &self.inner;
        let loader = self.loader();
        loader.handles.set_times(settings.handles);
        before.root_monitor.reconfigure(settings);
        let is_same = *settings == FileSettings { handles: settings.handles, ..before.settings.clone() };
        if is_same && rules.say_the_same_as(&loader.rules) {
            return self.clone();
        }
        self.view(settings, rules, loader.generation + 1, Arc::clone(&loader.root))
    }

    /// The same files in the present root directory, even if another one replaces it: for readers of many files that keep none
    /// of them.
    pub(crate) fn pinned(&self) -> Self {
        let (loader, settings) = (self.loader(), &self.inner.settings);
        self.view(settings, Arc::clone(&loader.rules), loader.generation, Arc::new(loader.root.pinned()))
    }

    fn view(&self, settings: &FileSettings, rules: Arc<Rules>, generation: u64, root: Arc<Root>) -> Self {
        let before = &self.inner.lookup;
        let loader = Arc::new(Loader {
            root,
            generation,
            rules,
            tags: Tags { source: settings.etag, digests: before.loader.tags.digests.clone() },
            sizes: SizeThresholds::of(settings),
            verifies: verifies(settings),
            ..Loader::clone(&before.loader)
        });
        let lookup = PathLookup {
            background: before.background.with_loader(Arc::clone(&loader)),
            open_pool: before.open_pool.with_timeout(settings.disk_timeout),
            loader,
            trust: TrustTimes::of(settings),
            ..before.clone()
        };
        let inner = Inner { lookup, settings: settings.clone(), ..Inner::clone(&self.inner) };
        Self { inner: Arc::new(inner) }
    }

    /// Looks up `path`: in the cache while its entry is trusted, else on the disk.
    pub async fn find(&self, path: &SitePath<'_>) -> FoundFile {
        self.inner.lookup.find(path).await
    }

    /// The result of `name`, if it may still be trusted at `now_ms`. Never waits: an expired name is checked against the kernel's
    /// caches, and if they can't confirm it the result is `None`.
    pub fn recall(&self, name: &Name, now_ms: u64) -> Option<Lookup> {
        self.inner.lookup.recall(name, now_ms)
    }

    /// Whether `name` may be used at `now_ms` without a check.
    pub(crate) fn is_trusted(&self, name: &Name, now_ms: u64) -> bool {
        self.inner.lookup.is_trusted(name, now_ms)
    }

    /// The variant of the file in `encoding`: from memory, or from its sidecar.
    pub(crate) async fn variant(
        &self,
        asset: &Arc<Asset>,
        encoding: Encoding,
    ) -> Result<Arc<Asset>, VariantError> {
        self.inner.lookup.variant(asset, encoding).await
    }

    /// Records a use of `name` and of `sent`, the variant that was sent for it, in the caches.
    pub async fn touch(&self, name: &Name, sent: Option<&Asset>) {
        name.touched(self.now_ms());
        self.names().get(&name.path).await;
        if let Some(asset) = name.file() {
            self.assets().touch(&asset).await;
        }
        if let Some(variant) = sent.filter(|sent| sent.encoding.is_some()) {
            self.assets().touch(variant).await;
        }
    }

    /// Milliseconds on the caches' clock, which is monotonic.
    pub fn now_ms(&self) -> u64 {
        self.names().now_ms()
    }

    /// The handle of the asset that is open already.
    pub(crate) fn open_handle(&self, asset: &Asset) -> Option<Arc<Handle>> {
        self.loader().handles.get(asset.id)
    }

    /// Whether the asset has an open handle; counts as a use of it. For benchmarks.
    #[cfg(any(test, feature = "test-doubles"))]
    pub fn has_open_handle(&self, asset: &Asset) -> bool {
        self.open_handle(asset).is_some()
    }

    /// Opens the file again, for sending it by `sendfile`. `None` if no handle is available and the asset can do without.
    ///
    /// # Errors
    /// If the file has changed since, or can't be opened.
    pub(crate) async fn handle(&self, asset: &Arc<Asset>) -> Result<Option<Arc<Handle>>, NoHandle> {
        let permit = match &asset.body {
            AssetBody::Heap => return Ok(None),
            AssetBody::Mapped(_) => self.loader().handles.try_permit(),
            AssetBody::Unmapped => self.loader().handles.permit().await.ok(),
        };
        let Some(permit) = permit else {
            let is_mapped = asset.mapping().is_some();
            return if is_mapped { Ok(None) } else { Err(NoHandle::Exhausted) };
        };
        let (loader, job) = (Arc::clone(&self.inner.lookup.loader), Arc::clone(asset));
        let opened =
            self.inner.lookup.open_pool.run_for(&asset.path, move || match loader.root.entry(&job.path) {
                Ok(RootEntry::File { file, stat, .. }) if Version::of(&stat) == job.version => {
                    Ok(Some(loader.keep_open(job.id, file, &stat, permit)))
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
                    if !matches!(job.body, AssetBody::Unmapped) =>
                {
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
            None => Ok(self.loader().root.stat_if_cached(&asset.path).map_or(true, |stat| {
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
        let lookup = &self.inner.lookup;
        let loader = Arc::clone(&lookup.loader);
        let state = match lookup.open_pool.run(move || loader.root.check()).await {
            Ok(state) => state,
            Err(JobLost::TimedOut) => RootState::Broken(io::ErrorKind::TimedOut.into()),
            Err(JobLost::Panicked) => return false,
        };
        let is_replaced = self.inner.root_monitor.record(self.root(), &state);
        if is_replaced {
            // The watches are on directories of the tree before.
            if let Some(inotify) = &lookup.inotify {
                inotify.unwatch_all();
            }
            lookup.names.invalidate_all();
        }
        is_replaced
    }

    /// Passes inotify's hints on to the names, for as long as the future is polled.
    pub async fn listen(&self) {
        let Some(inotify) = &self.inner.lookup.inotify else { return };
        let names = self.names();
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
        let loader = Arc::clone(&self.inner.lookup.loader);
        let probed = self.inner.lookup.open_pool.run(move || {
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
        let (PathLookup { loader, names, assets, open_pool, .. }, now) = (&self.inner.lookup, Instant::now());
        loader.handles.close_expired(now);
        names.maintain().await;
        assets.maintain().await;
        loader.tags.digests.maintain();
        loader.faults.report_suppressed(now);
        let (now_ms, ends_ms) = (self.now_ms(), &self.inner.recency_ends_ms);
        if now_ms >= ends_ms.load(Ordering::Relaxed) {
            ends_ms.store(now_ms + PERIOD_MS, Ordering::Relaxed);
            let names = Arc::clone(names);
            open_pool.run_detached(move || names.age_recency());
        }
    }

    /// Makes the next use of `name` check it.
    pub(crate) fn invalidate(&self, name: &Name) {
        name.invalidate();
    }

    /// Closes up to `count` idle handles, for other uses of the process; returns their number.
    pub(crate) fn close_idle_handles(&self, count: usize) -> usize {
        self.loader().handles.close_idle(count)
    }

    /// Counts a response that was cut off since the disk did not answer.
    pub(crate) fn count_disk_timeout(&self) {
        self.inner.lookup.open_pool.count_timeout();
    }

    /// Number of requests that the disk did not answer in time.
    pub(crate) fn disk_timeouts(&self) -> u64 {
        self.inner.lookup.open_pool.timeouts()
    }

    /// Time that a response waits for the disk.
    pub(crate) fn disk_timeout(&self) -> Duration {
        self.inner.lookup.open_pool.timeout()
    }

    pub(crate) fn background(&self) -> &BackgroundTasks {
        &self.inner.lookup.background
    }

    pub(crate) fn reads(&self) -> &ColdReads {
        &self.inner.reads
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.loader().storage()
    }

    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.loader().rules
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.loader().faults
    }

    pub(crate) fn root(&self) -> &Root {
        &self.loader().root
    }

    pub(super) fn loader(&self) -> &Loader {
        &self.inner.lookup.loader
    }

    pub(super) fn names(&self) -> &NameCache {
        &self.inner.lookup.names
    }

    pub(super) fn assets(&self) -> &AssetCache {
        &self.inner.lookup.assets
    }
}

fn watcher_or_log(directories_max: usize) -> Option<InotifyWatcher> {
    InotifyWatcher::new(directories_max)
        .inspect_err(|error| {
            log::warn!("inotify is not available ({error}): changes are seen when a name is next revalidated")
        })
        .ok()
}

/// Reading cold pages takes processor time as well: workers that send warm ones go first.
const READING_NICENESS: i32 = 5;

/// Names of the root directory that are tried for a file to probe.
const NAMES_TRIED: usize = 64;

/// Stale sidecars that are remembered as logged.
const STALE_SIDECARS_LOGGED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DirectoriesGroup, OnOff, Symlinks};
    use crate::files::handle_pool::HandleLimits;
    use crate::files::lookup::PATH_BYTES_MAX;
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
