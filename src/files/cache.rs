//! The files of a document root: names in front of assets, both cached and bounded. Concurrent requests for one cold file open it
//! once.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::io::Errno;

use super::{
    Asset, AssetBody, AssetCache, BackgroundQueues, ChangeHint, ColdReads, Digests, Fault, FileSettings,
    Handle, HandlePool, InotifyWatcher, Loader, Name, NameCache, OpenFile, PERIOD_MS, Root, RootEntry,
    RootMonitor, RootState, Tags, Unavailable, Unmapper, residency,
};
use crate::config::CachesGroup;
use crate::files::policy::Rules;
use crate::http::target::SitePath;
use crate::sys::blocking_pool::{BlockingPool, JobLost};
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::counter::Counter;

/// The files of one document root. Clones share everything.
///
/// With other settings and rules it is another view of the same caches ([`Files::reconfigured`]): each view uses only the entries
/// of its own generation.
#[derive(Clone)]
pub struct Files {
    /// Settings and rules of this view, and what follows from them.
    pub(crate) loader: Arc<Loader>,
    pub(crate) shared: Arc<SharedFiles>,
}

/// Caches, threads and watches that all views share.
pub(crate) struct SharedFiles {
    pub(crate) names: NameCache,
    pub(crate) assets: AssetCache,
    /// End of the current period of recency.
    recency_ends_ms: AtomicU64,
    pub(super) inotify: Option<InotifyWatcher>,
    pub(crate) root_monitor: RootMonitor,
    /// Opens files and looks them up.
    open_pool: BlockingPool,
    pub(crate) disk_timeouts: Counter,
    pub(crate) reads: ColdReads,
    pub(crate) digesting: BackgroundQueues,
    pub(crate) encoding: BackgroundQueues,
}

impl Files {
    /// Creates empty caches and the threads for the files below `root`, bounded by `settings`, with the policies of `rules`.
    ///
    /// # Errors
    /// If threads can't be started. A missing inotify is only logged.
    pub fn new(root: Root, settings: &FileSettings, rules: Arc<Rules>) -> io::Result<Self> {
        let storage = Arc::clone(&root.storage);
        let FileSettings { config, limits } = settings;
        let names = NameCache::new(config.caches.names.get());
        let threads = config.compression.background_threads.as_usize();
        let shared = SharedFiles {
            recency_ends_ms: AtomicU64::new(names.now_ms() + PERIOD_MS),
            names,
            assets: AssetCache::new(limits),
            inotify: watcher_or_log(&config.caches),
            root_monitor: RootMonitor::default(),
            open_pool: BlockingPool::new("pagecast-open", config.sending.disk_threads.as_usize(), 0)?,
            disk_timeouts: Counter::default(),
            reads: ColdReads::new(
                Arc::clone(&storage),
                config.sending.populate_threads.as_usize(),
                READING_NICENESS,
            ),
            digesting: BackgroundQueues::new("pagecast-digest", threads, LONG_TO_DIGEST)?,
            encoding: BackgroundQueues::new("pagecast-code", threads, LONG_TO_ENCODE)?,
        };
        shared.root_monitor.configure(settings);
        let loader = Loader {
            root: Arc::new(root),
            generation: 0,
            settings: settings.clone(),
            rules,
            tags: Tags {
                source: config.integrity.etag,
                digests: Digests::new(config.integrity.digests.get()),
            },
            handles: Arc::new(HandlePool::new(limits.handles, Arc::clone(&settings.config.open_files))),
            unmapper: Arc::new(Unmapper::new(storage)),
            logged: Arc::new(LogThrottle::once(STALE_SIDECARS_LOGGED)),
            faults: Arc::default(),
        };
        Ok(Self { loader: Arc::new(loader), shared: Arc::new(shared) })
    }

    /// The same files under other settings and rules: names of the present ones are looked up anew, and requests that run keep
    /// theirs. Sizes of caches, threads and watches stay.
    #[must_use]
    pub fn reconfigured(&self, settings: &FileSettings, rules: Arc<Rules>) -> Self {
        let loader = &self.loader;
        *loader.handles.times.write() = Arc::clone(&settings.config.open_files);
        self.shared.root_monitor.configure(settings);
        if settings.has_same_effect_as(&loader.settings) && rules.has_same_effect_as(&loader.rules) {
            return self.clone();
        }
        self.with_loader(Loader {
            generation: loader.generation + 1,
            settings: settings.clone(),
            rules,
            tags: Tags { source: settings.config.integrity.etag, digests: loader.tags.digests.clone() },
            ..Loader::clone(loader)
        })
    }

    /// The same files in the present root directory, even if another one replaces it: for readers of many files that keep none
    /// of them.
    pub(crate) fn pinned(&self) -> Self {
        let root = Arc::new(self.loader.root.pinned());
        self.with_loader(Loader { root, ..Loader::clone(&self.loader) })
    }

    fn with_loader(&self, loader: Loader) -> Self {
        Self { loader: Arc::new(loader), shared: Arc::clone(&self.shared) }
    }

    /// Records a use of `name` and of `sent`, the variant that was sent for it, in the caches.
    pub async fn touch(&self, name: &Name, sent: Option<&Asset>) {
        let SharedFiles { names, assets, .. } = &*self.shared;
        name.touched(self.now_ms());
        names.get(&name.path).await;
        if let Some(asset) = name.file() {
            assets.touch(&asset).await;
        }
        if let Some(variant) = sent.filter(|sent| sent.encoding.is_some()) {
            assets.touch(variant).await;
        }
    }

    /// Milliseconds on the caches' clock, which is monotonic.
    pub fn now_ms(&self) -> u64 {
        self.shared.names.now_ms()
    }

    /// The handle of the asset that is open already.
    pub(crate) fn open_handle(&self, asset: &Asset) -> Option<Arc<Handle>> {
        self.loader.handles.get(asset.id)
    }

    /// Whether the asset has an open handle; counts as a use of it. For benchmarks.
    #[cfg(any(test, feature = "test-doubles"))]
    pub fn has_open_handle(&self, asset: &Asset) -> bool {
        self.open_handle(asset).is_some()
    }

    /// The open handle of the asset, or a new one, for sending it by `sendfile`. `None` if no handle is available and the asset can do
    /// without.
    ///
    /// # Errors
    /// If the file has changed since, or can't be opened.
    pub(crate) async fn handle(&self, asset: &Arc<Asset>) -> Result<Option<Arc<Handle>>, Unavailable> {
        if let Some(handle) = self.open_handle(asset) {
            return Ok(Some(handle));
        }
        let handles = &self.loader.handles;
        let permit = match &asset.body {
            AssetBody::Heap => None,
            AssetBody::Mapped(_) => handles.try_permit(),
            AssetBody::Unmapped => Some(handles.permit().await.ok_or(Unavailable::Busy)?),
        };
        let Some(permit) = permit else { return Ok(None) };
        let (loader, job) = (Arc::clone(&self.loader), Arc::clone(asset));
        let opened = self.run_for(&asset.path, move || match loader.root.entry(&job.path) {
            Ok(RootEntry::File { file, stat, .. }) if stat.version == job.version => {
                Ok(Some(loader.keep_open(job.id, OpenFile { file, stat, permit })))
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) if job.mapping().is_some() => Ok(None),
            _ => Err(Unavailable::Changed),
        });
        opened.await?
    }

    /// Result of `job` on a thread that may wait for the disk, if it has one in time.
    async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, JobLost> {
        let done = self.shared.open_pool.run_within(self.loader.settings.disk_timeout(), job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.count_disk_timeout();
        }
        done
    }

    /// As [`Self::run`]; reports a timeout as a fault of `path`.
    pub(super) async fn run_for<T: Send + 'static>(
        &self,
        path: &SitePath<'_>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let done = self.run(job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.loader.faults.report(Fault::Open, path, format_args!("/{path}: the disk does not answer"));
        }
        done
    }

    /// Counts a request that the disk did not answer in time.
    pub(crate) fn count_disk_timeout(&self) {
        self.shared.disk_timeouts.add_shared(1);
    }

    /// Whether the file is still the asset's version: by its handle, or without one by the kernel's cached metadata of its path.
    /// Another file that has taken its path is no change of it. Never waits.
    ///
    /// # Errors
    /// Those of the disk for the handle.
    pub(crate) fn is_unchanged(&self, asset: &Asset, handle: Option<&Handle>) -> Result<bool, Errno> {
        match handle {
            Some(handle) => handle.is_unchanged(),
            None => Ok(self.loader.root.stat_if_cached(&asset.path).map_or(true, |stat| {
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

    /// Checks whether the root can still be served; true if another directory has replaced it, which is served from then on.
    /// Responses that run keep the files of the old one.
    pub async fn check_root(&self) -> bool {
        let (root, shared) = (&self.loader.root, &self.shared);
        let job = Arc::clone(root);
        let state = match self.run(move || job.check()).await {
            Ok(state) => state,
            Err(JobLost::TimedOut) => RootState::Broken(io::ErrorKind::TimedOut.into()),
            Err(JobLost::Panicked) => return false,
        };
        let is_replaced = shared.root_monitor.record(root, &state);
        if is_replaced {
            // The watches are on directories of the tree before.
            if let Some(inotify) = &shared.inotify {
                inotify.unwatch_all();
            }
            shared.names.invalidate_all();
        }
        is_replaced
    }

    /// Passes inotify's hints on to the names, for as long as the future is polled.
    pub async fn listen(&self) {
        let SharedFiles { inotify: Some(inotify), names, .. } = &*self.shared else { return };
        let listened = inotify.listen(async |hint| match hint {
            ChangeHint::Everything => names.invalidate_all(),
            ChangeHint::Name(path) => names.invalidate_with_original(&path).await,
        });
        if let Err(error) = listened.await {
            log::warn!("inotify failed ({error}): changes are seen when a name is next revalidated");
        }
    }

    /// Probes a file of the root directory, so that a file system that can't tell which pages are in memory is logged at start
    /// and not under load.
    pub async fn try_probe(&self) {
        let loader = Arc::clone(&self.loader);
        let probed = self.run(move || {
            for name in loader.root.first_names(NAMES_TRIED) {
                if let Ok(RootEntry::File { file, stat, .. }) =
                    loader.root.entry(&SitePath::root().entry(&name))
                    && stat.version.size > 0
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
        let (loader, shared, now) = (&self.loader, &self.shared, Instant::now());
        loader.handles.close_expired(now);
        shared.names.maintain().await;
        shared.assets.maintain().await;
        loader.tags.digests.maintain();
        loader.faults.report_suppressed(now);
        let now_ms = self.now_ms();
        if now_ms >= shared.recency_ends_ms.load(Ordering::Relaxed) {
            shared.recency_ends_ms.store(now_ms + PERIOD_MS, Ordering::Relaxed);
            let job = Arc::clone(shared);
            shared.open_pool.run(move || job.names.age_recency());
        }
    }
}

fn watcher_or_log(caches: &CachesGroup) -> Option<InotifyWatcher> {
    let watcher = caches.watch.is_on().then(|| InotifyWatcher::new(caches.watches.as_usize()))?;
    let log = |error: &io::Error| {
        log::warn!("inotify is not available ({error}): changes are seen when a name is next revalidated");
    };
    watcher.inspect_err(log).ok()
}

/// From this length on a digest takes so long (about 20 ms) that others should not wait behind it.
const LONG_TO_DIGEST: u64 = 16 * 1024 * 1024;

/// The same for encoding (about half a second).
const LONG_TO_ENCODE: u64 = 512 * 1024;

/// Reading cold pages takes processor time as well: workers that send warm ones go first.
const READING_NICENESS: i32 = 5;

/// Names of the root directory that are tried for a file to probe.
const NAMES_TRIED: usize = 64;

/// Stale sidecars that are remembered as logged.
const STALE_SIDECARS_LOGGED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        ByteCount, Config, DirectoriesGroup, DurationSetting, OnOff, OpenFilesGroup, Symlinks,
    };
    use crate::files::Lookup;
    use crate::files::lookup::PATH_BYTES_MAX;
    use crate::files::storage::{Call, Faulty, FileStat, Storage, SystemStorage};
    use rustix::fs::StatFs;
    use std::os::fd::BorrowedFd;

    #[test]
    fn the_same_settings_and_rules_leave_everything_trusted_and_others_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        let path = SitePath::parse(b"/a").unwrap().path.into_owned();
        let settings =
            FileSettings::small().with_caches(|caches| caches.revalidate_after = DurationSetting::hours(1));
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let other_rules = Rules::new(&Config {
            directories: DirectoriesGroup { listing: OnOff::On, ..DirectoriesGroup::default() }.into(),
            ..Config::default()
        });
        let other_settings =
            settings.clone().with_caches(|caches| caches.heap_file_bytes = ByteCount::bytes(0));
        actix_rt::System::new().block_on(async {
            let rules = || Rules::new(&Config::default());
            let files = Files::new(root, &settings, rules()).unwrap();
            let name = files.find(&path).await.name;
            let mut other_times = settings.clone();
            other_times.config.open_files =
                OpenFilesGroup { handle_wait: DurationSetting::ZERO, ..OpenFilesGroup::default() }.into();
            let same = files.reconfigured(&other_times, rules());
            assert!(Arc::ptr_eq(&same.loader, &files.loader));
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
                assert_eq!(files.shared.names.cache.counts().entries, 1, "{length}");
            }
        });
    }

    /// Fails the test if a call that may wait for a file server is made on its own thread. Every file is on NFS if `is_remote`.
    struct NoWaitOnWorker {
        is_remote: bool,
    }

    impl Storage for NoWaitOnWorker {
        fn fstat(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
            assert_eq!(std::thread::current().name(), Some("pagecast-open"));
            SystemStorage.fstat(file)
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
            FileSettings::small().with_caches(|caches| caches.revalidate_after = DurationSetting::ZERO);
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
