//! Names in front of assets, both bounded. A thousand clients that ask for one cold file open it once.

mod encoding;
pub(crate) mod remembered;
pub(crate) mod warming;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use rustix::fs::FileType;
use rustix::io::Errno;

use self::warming::PERIOD_MS;
use super::asset::{Asset, AssetBody};
use super::digests::Digests;
use super::faults::{Fault, Faults, fault_of};
use super::handle_pool::{Handle, HandlePool};
use super::load::{LoadedAsset, Loader, SizeThresholds};
use super::mapped::Unmapper;
use super::name::{FIRST_MS, Lookup, Name, NameOutcome, TrustState};
use super::reads::ColdReads;
use super::root::{Root, RootEntry, RootState};
use super::settings::{FileGauges, FileSettings};
use super::storage::Storage;
use super::tags::Tags;
use super::version::Version;
use crate::config::Verify;
use crate::config::policy::rules::Rules;
use crate::files::background_queues::BackgroundQueues;
use crate::files::counters::{CacheCounters, FileCounters};
use crate::files::inotify::{ChangeHint, InotifyWatcher};
use crate::files::pending_lookups::PendingLookups;
use crate::files::residency;
use crate::files::sidecars::original;
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;
use crate::sys::blocking_pool::{BlockingPool, JobLost};
use crate::telemetry::log_throttle::LogThrottle;

/// The files of one document root. Cheap to clone; every clone is the same.
///
/// Under other settings and rules it is another view of the same caches ([`Files::changed`]): each knows what it has made
/// by its generation, and uses nothing that another one has.
#[derive(Clone)]
pub struct Files {
    inner: Arc<Inner>,
}

/// Whatever is no value of the settings is shared by all views.
#[derive(Clone)]
struct Inner {
    loader: Loader,
    names: Cache<SitePath<'static>, Arc<Name>, foldhash::fast::RandomState>,
    heap: AssetCache,
    mapped: AssetCache,
    opens: Arc<BlockingPool>,
    reads: Arc<ColdReads>,
    digesting: Arc<BackgroundQueues>,
    compressing: Arc<BackgroundQueues>,
    loading: Arc<PendingLookups>,
    watch: Option<Arc<InotifyWatcher>>,
    settings: FileSettings,
    /// What a mapping weighs at least.
    least_pages: u64,
    trust_ms: u64,
    trust_watched_ms: u64,
    disk_timeouts: Arc<AtomicU64>,
    tallies: Arc<FileCounters>,
    started: Instant,
    /// When the next period of heat begins.
    heat_ages_ms: Arc<AtomicU64>,
    /// Names checked up to this moment are not trusted any more, whatever they say.
    distrusted_until_ms: Arc<AtomicU64>,
    root_is_sound: Arc<AtomicBool>,
    /// How often the root had been swapped when that was last seen to.
    root_swaps: Arc<AtomicU64>,
    /// How often the root is looked at, under the latest settings.
    root_check_ms: Arc<AtomicU64>,
}

/// An asset by what it is of, and in which form.
type AssetKey = (SitePath<'static>, Version, Option<Encoding>);

type AssetCache = Cache<AssetKey, Arc<Asset>, foldhash::fast::RandomState>;

/// An answer, and the name that gave it: whoever keeps the name can ask it again without a lookup.
pub struct FoundFile {
    /// What stands at the path.
    pub lookup: Lookup,
    /// What is known of the path.
    pub name: Arc<Name>,
    /// It was known before; else it was looked up, here or for another request.
    pub is_known: bool,
}

/// Why an asset can't be sent.
#[derive(Debug)]
pub(crate) enum NoHandle {
    /// The file behind it is not that asset any more.
    Changed,
    /// It needs a handle, and none came free in time.
    Exhausted,
}

impl Files {
    /// Serves from `root` within the bounds of `settings` and under `rules`.
    ///
    /// # Errors
    /// Where threads can't be started. A missing inotify is only logged.
    pub fn new(root: Root, settings: &FileSettings, rules: Arc<Rules>) -> io::Result<Self> {
        let mapped_pages = settings.cache_bytes / PAGE;
        let least_pages = (mapped_pages / settings.mappings.max(1)).max(1);
        let storage = Arc::clone(root.storage());
        let loader = Loader {
            root: Arc::new(root),
            generation: 0,
            handles: Arc::new(HandlePool::new(settings.handles)),
            reaper: Arc::new(Unmapper::new(Arc::clone(&storage))),
            rules,
            tags: Tags { source: settings.etag, digests: Digests::new(settings.digests) },
            logged: Arc::new(LogThrottle::once(STALE_SIDECARS_LOGGED)),
            faults: Arc::default(),
            sizes: sizes(settings),
            heeds_checksums: settings.verify == Verify::Serve,
        };
        let lanes = |name, long_from| {
            BackgroundQueues::new(name, settings.background_threads, long_from).map(Arc::new)
        };
        let pool = |name, threads, niceness| BlockingPool::new(name, threads, niceness).map(Arc::new);
        let tallies = FileCounters::default();
        let inner = Inner {
            loader,
            names: cache(settings.names, &tallies.names, |_, _| 1),
            heap: cache(settings.heap_bytes, &tallies.heap, |_, asset: &Arc<Asset>| {
                clamp(asset.heap_bytes() as u64)
            }),
            mapped: cache(mapped_pages, &tallies.mapped, move |_, asset: &Arc<Asset>| {
                clamp(asset.length().div_ceil(PAGE).max(least_pages))
            }),
            opens: pool("pagecast-open", settings.disk_threads, 0)?,
            reads: Arc::new(ColdReads::new(storage, settings.populate_threads, READING_NICENESS)),
            digesting: lanes("pagecast-digest", LONG_TO_HASH)?,
            compressing: lanes("pagecast-code", LONG_TO_COMPRESS)?,
            loading: Arc::default(),
            watch: settings.watches.and_then(watch_or_say).map(Arc::new),
            settings: settings.clone(),
            least_pages,
            trust_ms: milliseconds(settings.revalidate_after),
            trust_watched_ms: watched_trust_ms(settings),
            disk_timeouts: Arc::default(),
            tallies: Arc::new(tallies),
            started: Instant::now(),
            heat_ages_ms: Arc::new(AtomicU64::new(FIRST_MS + PERIOD_MS)),
            distrusted_until_ms: Arc::default(),
            root_is_sound: Arc::new(AtomicBool::new(true)),
            root_swaps: Arc::default(),
            root_check_ms: Arc::new(AtomicU64::new(root_check_ms(settings))),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The same files under other settings and rules: what is remembered under those of before is looked up anew, and what
    /// is under way goes on with what it has. Sizes of caches, threads and watches stay as they are.
    #[must_use]
    pub fn changed(&self, settings: &FileSettings, rules: Arc<Rules>) -> Self {
        let before = &self.inner;
        before.loader.handles.set_times(settings.handles);
        before.root_check_ms.store(root_check_ms(settings), Ordering::Relaxed);
        let is_same = *settings == FileSettings { handles: settings.handles, ..before.settings.clone() };
        if is_same && rules.say_the_same_as(&before.loader.rules) {
            return self.clone();
        }
        let generation = before.loader.generation + 1;
        self.view(settings, rules, generation, Arc::clone(&before.loader.root))
    }

    /// The same files in the directory that is the root now, whatever is swapped: for whoever reads many of them, and
    /// remembers none.
    pub(crate) fn pinned(&self) -> Self {
        let Inner { loader, settings, .. } = &*self.inner;
        self.view(settings, Arc::clone(&loader.rules), loader.generation, Arc::new(loader.root.pinned()))
    }

    fn view(&self, settings: &FileSettings, rules: Arc<Rules>, generation: u64, root: Arc<Root>) -> Self {
        let before = &self.inner;
        let loader = Loader {
            root,
            generation,
            rules,
            tags: Tags { source: settings.etag, digests: before.loader.tags.digests.clone() },
            sizes: sizes(settings),
            heeds_checksums: settings.verify == Verify::Serve,
            ..before.loader.clone()
        };
        let inner = Inner {
            loader,
            settings: settings.clone(),
            trust_ms: milliseconds(settings.revalidate_after),
            trust_watched_ms: watched_trust_ms(settings),
            ..Inner::clone(before)
        };
        Self { inner: Arc::new(inner) }
    }

    /// What stands at `path`: from the cache while that is trusted, else from the disk.
    pub async fn find(&self, path: &SitePath<'_>) -> FoundFile {
        let now_ms = self.now_ms();
        let known = self.inner.names.get(path.as_bytes()).await;
        if let Some(name) = known
            && let Some(lookup) = self.recall(&name, now_ms)
        {
            self.count_hit(&lookup);
            return FoundFile { lookup, name, is_known: true };
        }
        self.inner.tallies.names.miss();
        self.load(path.clone().into_owned(), now_ms).await
    }

    fn count_hit(&self, lookup: &Lookup) {
        let tallies = &self.inner.tallies;
        tallies.names.hit();
        match lookup {
            Lookup::File(asset) if asset.is_on_heap() => tallies.heap.hit(),
            Lookup::File(asset) if asset.mapping().is_some() => tallies.mapped.hit(),
            _ => {}
        }
    }

    /// What `name` says, if it may still be trusted at `now_ms`. Never waits: a name whose time is up is checked against
    /// what the kernel has in memory, and where that does not settle it the answer is none.
    pub fn recall(&self, name: &Name, now_ms: u64) -> Option<Lookup> {
        if !self.is_trusted(name, now_ms) {
            let before = name.checked();
            self.check(name, before).then(|| name.confirm(before, now_ms))?;
        }
        name.lookup()
    }

    /// Tells the caches that `name` was used, and `sent` for it: what an LRU goes by.
    pub async fn touch(&self, name: &Name, sent: Option<&Asset>) {
        name.touched(self.now_ms());
        self.inner.names.get(name.path.as_bytes()).await;
        if let Some(Lookup::File(asset)) = name.lookup() {
            self.touch_asset(&asset).await;
        }
        if let Some(form) = sent.filter(|sent| sent.coding.is_some()) {
            self.touch_asset(form).await;
        }
    }

    async fn touch_asset(&self, asset: &Asset) {
        if let Some(cache) = self.cache_of(asset) {
            cache.get(&key_of(asset)).await;
        }
    }

    /// Milliseconds on the clock of this cache, which is monotonic.
    pub fn now_ms(&self) -> u64 {
        FIRST_MS + milliseconds(self.inner.started.elapsed())
    }

    /// The handle of the asset that is open already.
    pub(crate) fn warm_handle(&self, asset: &Asset) -> Option<Arc<Handle>> {
        self.inner.loader.handles.warm(asset.id)
    }

    /// A handle for sending the asset by `sendfile`: the file opened again. None where no handle is to be had for an asset
    /// that can do without.
    ///
    /// # Errors
    /// Where the file has changed since, or can't be opened.
    pub(crate) async fn handle(&self, asset: &Arc<Asset>) -> Result<Option<Arc<Handle>>, NoHandle> {
        let permit = match &asset.content {
            AssetBody::Heap => return Ok(None),
            AssetBody::Mapped(_) => self.inner.loader.handles.permit_now(),
            AssetBody::Unmapped => self.inner.loader.handles.permit().await.ok(),
        };
        let Some(permit) = permit else {
            let is_mapped = asset.mapping().is_some();
            return if is_mapped { Ok(None) } else { Err(NoHandle::Exhausted) };
        };
        let (inner, asset) = (Arc::clone(&self.inner), Arc::clone(asset));
        let path = asset.path.clone();
        let opened = self.ask(move || match inner.loader.root.entry(&asset.path) {
            Ok(RootEntry::File { file, stat, .. }) if Version::of(&stat) == asset.version => {
                let handle = inner.loader.new_handle(file, &stat, permit);
                inner.loader.handles.keep(asset.id, Arc::clone(&handle));
                Ok(Some(handle))
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
                if !matches!(asset.content, AssetBody::Unmapped) =>
            {
                Ok(None)
            }
            _ => Err(NoHandle::Changed),
        });
        opened.await.unwrap_or_else(|why| match why {
            JobLost::TimedOut => {
                self.tell_of_silence(&path);
                Err(NoHandle::Exhausted)
            }
            JobLost::Panicked => Err(NoHandle::Changed),
        })
    }

    /// Whether the file is still the asset's version: by its handle; without one, by what the kernel has in memory of its
    /// path, where another file in its place is no change of this one. Never waits.
    ///
    /// # Errors
    /// What the disk says of the handle.
    pub(crate) fn is_unchanged(&self, asset: &Asset, handle: Option<&Handle>) -> Result<bool, Errno> {
        match handle {
            Some(handle) => handle.look(&asset.version),
            None => Ok(self.inner.loader.root.glance(&asset.path).map_or(true, |stat| {
                let now = Version::of(&stat);
                now == asset.version || !now.is_same_file(&asset.version)
            })),
        }
    }

    /// Whether the file is still the asset's version, for a response that needs no handle: by an idle handle of the asset,
    /// else by its path. Never waits.
    pub(crate) fn is_current(&self, asset: &Asset) -> bool {
        let handle = self.warm_handle(asset);
        self.is_unchanged(asset, handle.as_deref()).unwrap_or(false)
    }

    /// The threads that read cold pages into memory.
    pub(crate) fn reads(&self) -> &ColdReads {
        &self.inner.reads
    }

    /// What the files are read through.
    pub(crate) fn storage(&self) -> &dyn Storage {
        self.inner.loader.storage()
    }

    /// How long the disk may keep a response waiting.
    pub(crate) fn disk_timeout(&self) -> Duration {
        self.inner.settings.disk_timeout
    }

    fn tell_of_silence(&self, path: &SitePath<'_>) {
        self.faults().report(Fault::Open, path, format_args!("/{path}: the disk does not answer"));
    }

    /// A response was cut since the disk kept it waiting.
    pub(crate) fn count_disk_timeout(&self) {
        self.inner.disk_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// What `job` brings on a thread that opens and looks up, if it does in time.
    async fn ask<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, JobLost> {
        let done = self.inner.opens.run_within(self.disk_timeout(), job).await;
        if matches!(done, Err(JobLost::TimedOut)) {
            self.count_disk_timeout();
        }
        done
    }

    /// Whether the document root could be opened when it was last looked at.
    pub fn root_is_sound(&self) -> bool {
        self.inner.root_is_sound.load(Ordering::Relaxed)
    }

    /// Frees handles for the rest of the process; returns how many.
    pub(crate) fn close_idle_handles(&self, count: usize) -> usize {
        self.inner.loader.handles.close_idle(count)
    }

    /// The names' next use goes to the disk.
    pub(crate) fn distrust(&self, name: &Name) {
        name.distrust();
    }

    /// Asks about a page of some file of the root's directory, so that a file system that can't tell which pages are in
    /// memory is known, and logged, at start and not under load.
    pub async fn try_probe(&self) {
        let inner = Arc::clone(&self.inner);
        let probed = self.ask(move || {
            let mut scratch = [0];
            for name in inner.loader.root.some_names(NAMES_TRIED) {
                if let Ok(RootEntry::File { file, stat, .. }) =
                    inner.loader.root.entry(&SitePath::root().entry(&name))
                    && stat.st_size > 0
                {
                    residency::probe(inner.loader.storage(), file.as_fd(), 0..1, &mut scratch);
                    return;
                }
            }
        });
        // A panic has been logged by its hook.
        let _ = probed.await;
    }

    /// Housekeeping, once a second: idle handles and evictions that are due.
    pub async fn maintain(&self) {
        let inner = &self.inner;
        inner.loader.handles.sweep(Instant::now());
        inner.names.run_pending_tasks().await;
        inner.heap.run_pending_tasks().await;
        inner.mapped.run_pending_tasks().await;
        inner.loader.tags.digests.tidy();
        inner.loader.faults.report_suppressed(Instant::now());
        self.age_heat_when_due();
    }

    /// How long to wait before the root is looked at again: no longer than a name is trusted.
    pub fn root_check_after(&self) -> Duration {
        Duration::from_millis(self.inner.root_check_ms.load(Ordering::Relaxed))
    }

    /// Looks whether the root can still be served from; true where it is another directory now, which is served from then
    /// on. What is under way goes on with the old one's files.
    pub async fn check_root(&self) -> bool {
        let (inner, job) = (&self.inner, Arc::clone(&self.inner));
        let state = match self.ask(move || job.loader.root.check()).await {
            Ok(state) => state,
            Err(JobLost::TimedOut) => RootState::Broken(io::ErrorKind::TimedOut.into()),
            Err(JobLost::Panicked) => return false,
        };
        if matches!(&state, RootState::Broken(error) if is_short(error)) {
            // That says nothing of the root.
            return false;
        }
        let is_sound = !matches!(state, RootState::Broken(_));
        let was_sound = inner.root_is_sound.swap(is_sound, Ordering::Relaxed);
        let root = &inner.loader.root;
        if let RootState::Broken(error) = state
            && was_sound
        {
            log::error!("the root {} can't be served from: {error}", root.path().display());
        }
        // Whoever missed a file may have taken up the other directory before.
        let swaps = root.swaps();
        if inner.root_swaps.swap(swaps, Ordering::Relaxed) == swaps {
            return false;
        }
        log::info!(
            "the root {} is another directory now: all names are looked up anew",
            root.path().display()
        );
        // Watches are on the directories of the tree that was there before.
        if let Some(watch) = &inner.watch {
            watch.forget_all();
        }
        self.distrust_all();
        true
    }

    /// Passes inotify's hints on to the names, for as long as it is polled.
    pub async fn listen(&self) {
        let Some(watch) = &self.inner.watch else { return };
        let heard = watch.listen(async |hint| match hint {
            ChangeHint::Everything => self.distrust_all(),
            ChangeHint::Name(path) => {
                self.distrust_path(&path).await;
                if let Some(original) = original(&path) {
                    self.distrust_path(&original).await;
                }
            }
        });
        if let Err(error) = heard.await {
            log::warn!(
                "inotify is not heard any more: {error}; changes are seen when a name is next checked"
            );
        }
    }

    /// Counts for gauges and tests.
    pub fn counts(&self) -> FileGauges {
        let (handle_waits, handle_timeouts) = self.inner.loader.handles.waits_and_timeouts();
        let (handles_opened, handles_closed) = self.inner.loader.handles.opened_and_closed();
        let (reads, tallies) = (self.inner.reads.counts(), &self.inner.tallies);
        FileGauges {
            handles: self.inner.loader.handles.in_use(),
            handle_waits,
            handle_timeouts,
            names: self.inner.names.entry_count(),
            heap_bytes: self.inner.heap.weighted_size(),
            mapped_bytes: self.inner.mapped.weighted_size() * PAGE,
            mappings: self.inner.mapped.entry_count(),
            digests: self.inner.loader.tags.digests.count(),
            background: self.inner.digesting.taken() + self.inner.compressing.taken(),
            unanswered_probes: residency::unanswered(),
            reads_waiting: reads.waiting,
            reads_running: reads.running,
            reads: reads.made,
            reads_shared: reads.shared,
            reads_dropped: reads.dropped,
            disk_timeouts: self.inner.disk_timeouts.load(Ordering::Relaxed),
            unmapping_bytes: self.inner.loader.reaper.waiting_bytes(),
            unmapped_in_place: self.inner.loader.reaper.in_place(),
            name_cache: tallies.names.counts(self.inner.names.entry_count()),
            heap_cache: tallies.heap.counts(self.inner.heap.entry_count()),
            mapped_cache: tallies.mapped.counts(self.inner.mapped.entry_count()),
            digest_cache: self.inner.loader.tags.digests.counts(),
            digesting: tallies.digesting.counts(self.inner.digesting.taken(), BackgroundQueues::PLACES),
            compressing: tallies.compressing.counts(self.inner.compressing.taken(), BackgroundQueues::PLACES),
            handles_opened,
            handles_closed,
        }
    }

    async fn load(&self, path: SitePath<'static>, now_ms: u64) -> FoundFile {
        let load = self.inner.loading.begin(path.clone());
        for _ in 0..SHARED_TRIES {
            let mut mine = None;
            let init = async {
                let found = self.resolve(&path, now_ms).await;
                let name = Arc::clone(&found.name);
                mine = Some(found);
                name
            };
            let entry = self.inner.names.entry(path.clone());
            let name = entry.or_insert_with_if(init, |name| !self.is_usable(name, now_ms)).await.into_value();
            if let Some(found) = mine {
                if load.is_doubted() {
                    found.name.distrust();
                }
                return found;
            }
            // Another request opened it; its asset may be gone again already where memory is very short.
            if self.is_of_these_settings(&name)
                && let Some(lookup) = name.lookup()
            {
                return FoundFile { lookup, name, is_known: false };
            }
        }
        self.resolve(&path, now_ms).await
    }

    async fn resolve(&self, path: &SitePath<'static>, now_ms: u64) -> FoundFile {
        let name = |outcome, policy, is_told_of, trust_ms| {
            let generation = self.inner.loader.generation;
            Arc::new(Name::new(path.clone(), outcome, policy, is_told_of, generation, now_ms, trust_ms))
        };
        let policy = || self.inner.loader.rules.policy(path);
        let Ok(permit) = self.inner.loader.handles.permit().await else {
            self.faults().report(Fault::NoHandle, path, format_args!("no handle came free for /{path}"));
            return FoundFile {
                lookup: Lookup::Busy,
                name: name(NameOutcome::Busy, policy(), false, 0),
                is_known: false,
            };
        };
        let previous = self.inner.names.get(path.as_bytes()).await.and_then(|name| match name.lookup() {
            Some(Lookup::File(asset)) => Some(asset),
            _ => None,
        });
        let (inner, job_path, before) = (Arc::clone(&self.inner), path.clone(), previous.clone());
        let job = move || {
            let is_watched =
                inner.watch.as_ref().is_some_and(|watch| watch.cover(&inner.loader.root, &job_path));
            let loaded = inner.loader.load(&job_path, before, permit);
            LoadedAsset { is_told_of: loaded.is_told_of && is_watched, ..loaded }
        };
        let failed = |why| {
            let outcome = match why {
                JobLost::TimedOut => {
                    self.tell_of_silence(path);
                    NameOutcome::Busy
                }
                JobLost::Panicked => NameOutcome::Failed,
            };
            LoadedAsset { outcome, asset: None, policy: policy(), is_told_of: false }
        };
        let LoadedAsset { outcome, asset, policy, is_told_of } = self.ask(job).await.unwrap_or_else(failed);
        let trust_ms = match &asset {
            _ if is_told_of => self.inner.trust_watched_ms,
            Some(asset) if asset.is_racy => self.inner.trust_ms.min(RACY_TRUST_MS),
            _ => self.inner.trust_ms,
        };
        let name = name(outcome, policy, is_told_of, trust_ms);
        if let Some(asset) = asset {
            self.keep(&asset, previous.as_deref()).await;
            return FoundFile { lookup: Lookup::File(asset), name, is_known: false };
        }
        let lookup = name.lookup().unwrap_or(Lookup::Failed);
        FoundFile { lookup, name, is_known: false }
    }

    async fn keep(&self, asset: &Arc<Asset>, previous: Option<&Asset>) {
        let is_news = previous.is_none_or(|old| old.id != asset.id);
        match asset.content {
            AssetBody::Heap if is_news => self.inner.tallies.heap.miss(),
            AssetBody::Mapped(_) if is_news => self.inner.tallies.mapped.miss(),
            _ => {}
        }
        if let Some(old) = previous.filter(|old| old.id != asset.id)
            && let Some(cache) = self.cache_of(old)
        {
            cache.invalidate(&key_of(old)).await;
        }
        if let Some(cache) = self.cache_of(asset) {
            cache.insert(key_of(asset), Arc::clone(asset)).await;
        }
        if asset.etag.is_weak() {
            self.digest_soon(asset, Algorithm::Sha256);
        }
    }

    /// The cache that decides how long the asset lives.
    fn cache_of(&self, asset: &Asset) -> Option<&AssetCache> {
        match asset.content {
            AssetBody::Heap => Some(&self.inner.heap),
            AssetBody::Mapped(_) => Some(&self.inner.mapped),
            AssetBody::Unmapped => None,
        }
    }

    async fn distrust_path(&self, path: &SitePath<'_>) {
        self.inner.loading.doubt(path);
        if let Some(name) = self.inner.names.get(path.as_bytes()).await {
            name.distrust();
        }
    }

    pub(crate) fn is_trusted(&self, name: &Name, now_ms: u64) -> bool {
        self.is_of_these_settings(name)
            && name.is_trusted(now_ms, self.inner.distrusted_until_ms.load(Ordering::Acquire))
    }

    fn is_of_these_settings(&self, name: &Name) -> bool {
        name.generation == self.inner.loader.generation
    }

    fn is_usable(&self, name: &Name, now_ms: u64) -> bool {
        self.is_trusted(name, now_ms) && name.lookup().is_some()
    }

    /// Whether the kernel confirms, from memory alone, what the name says.
    fn check(&self, name: &Name, before: TrustState) -> bool {
        if !self.is_of_these_settings(name) || name.is_purged() {
            return false;
        }
        let Loader { root, tags, .. } = &self.inner.loader;
        let seen = root.glance(&name.path);
        match &name.outcome {
            NameOutcome::File { version, asset } => {
                let distrusted_until_ms = self.inner.distrusted_until_ms.load(Ordering::Acquire);
                let is_told_of = name.is_told_of && !before.is_doubted(distrusted_until_ms);
                let is_same = |asset: Arc<Asset>| {
                    !asset.is_racy
                        && !tags.have_improved(&asset)
                        && asset.beside.is_unchanged(root, &name.path, is_told_of)
                };
                seen.is_ok_and(|stat| Version::of(&stat) == *version) && asset.get().is_some_and(is_same)
            }
            NameOutcome::Directory => {
                seen.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            }
            NameOutcome::Missing => matches!(seen, Err(Errno::NOENT | Errno::NOTDIR)),
            NameOutcome::Forbidden | NameOutcome::Busy | NameOutcome::Failed => false,
        }
    }

    fn distrust_all(&self) {
        self.inner.distrusted_until_ms.store(self.now_ms(), Ordering::Release);
    }

    /// What is said of which part of the site.
    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.inner.loader.rules
    }

    /// What goes wrong is told here.
    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.loader.faults
    }

    /// The directory that is served, for those who read directories.
    pub(crate) fn root(&self) -> &Root {
        &self.inner.loader.root
    }
}

/// Whether the process or the system was out of handles or memory.
fn is_short(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| fault_of(code, Fault::Open).1)
}

fn key_of(asset: &Asset) -> AssetKey {
    (asset.path.clone(), asset.version, asset.coding)
}

fn cache<K, V>(
    capacity: u64,
    tally: &Arc<CacheCounters>,
    weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static,
) -> Cache<K, V, foldhash::fast::RandomState>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let tally = Arc::clone(tally);
    Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(EvictionPolicy::lru())
        .weigher(weigh)
        .eviction_listener(move |_, _, cause| {
            if cause.was_evicted() {
                tally.evicted();
            }
        })
        .build_with_hasher(foldhash::fast::RandomState::default())
}

fn sizes(settings: &FileSettings) -> SizeThresholds {
    let heap_fits = if settings.heap_bytes == 0 { 0 } else { settings.heap_file_bytes };
    SizeThresholds {
        heap_file_bytes: heap_fits.min(settings.heap_bytes / LARGEST_SHARE),
        mapped_file_bytes: settings.cache_bytes / LARGEST_SHARE,
        compressed: settings.compressed.clone().filter(|_| settings.heap_bytes >= LARGEST_SHARE),
        form_bytes: settings.heap_bytes / LARGEST_SHARE,
    }
}

/// A root that is swapped is seen as soon as a name that changed, and within a second however long names are trusted.
fn root_check_ms(settings: &FileSettings) -> u64 {
    milliseconds(settings.revalidate_after).clamp(ROOT_CHECK_MS_MIN, ROOT_CHECK_MS_MAX)
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Who wants every name looked up at every use wants it of watched names too.
fn watched_trust_ms(settings: &FileSettings) -> u64 {
    if settings.revalidate_after.is_zero() {
        return 0;
    }
    milliseconds(settings.revalidate_watched_after.max(settings.revalidate_after))
}

fn clamp(weight: u64) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

fn watch_or_say(directories: usize) -> Option<InotifyWatcher> {
    InotifyWatcher::new(directories)
        .inspect_err(|error| {
            log::warn!("inotify is not to be had ({error}): changes are seen when a name is next checked")
        })
        .ok()
}

/// Reading cold pages costs processor time as well: it gives way to those who serve what is warm.
const READING_NICENESS: i32 = 5;

/// From this length on a file's checksum takes so long (about 20 ms) that others should not wait behind it.
const LONG_TO_HASH: u64 = 16 * 1024 * 1024;

/// The same for compressing (about half a second).
const LONG_TO_COMPRESS: u64 = 512 * 1024;

/// Names of the root's directory that are looked at for a file to probe.
const NAMES_TRIED: usize = 64;

/// Mapped files are weighed in pages of this size, so that weights fit 32 bits up to 16 TiB.
const PAGE: u64 = 4096;

/// No single file may take more than one part in so many of the mapped bytes.
const LARGEST_SHARE: u64 = 4;

/// What may have changed without a trace is read again before long, however long names are trusted.
const RACY_TRUST_MS: u64 = 1000;

const ROOT_CHECK_MS_MIN: u64 = 50;
const ROOT_CHECK_MS_MAX: u64 = 1000;

/// How often a request shares another's look-up before it makes its own.
const SHARED_TRIES: usize = 2;

/// Stale sidecars of which is remembered that they were logged.
const STALE_SIDECARS_LOGGED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DirectoriesGroup, OnOff, Symlinks};
    use crate::files::handle_pool::HandleLimits;

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
            let same = files.changed(&FileSettings { handles: times, ..settings.clone() }, rules());
            assert!(Arc::ptr_eq(&same.inner, &files.inner));
            for other in [files.changed(&settings, other_rules), files.changed(&other_settings, rules())] {
                assert!(other.recall(&name, other.now_ms()).is_none());
                let found = other.find(&path).await;
                assert!(!Arc::ptr_eq(&found.name, &name));
                assert!(other.recall(&found.name, other.now_ms()).is_some());
                assert!(files.recall(&found.name, files.now_ms()).is_none(), "nor the other way round");
            }
        });
    }
}
