//! Reads of cold pages, off the workers: each made once however many wait for it, apart for each device, and among clients in
//! fair order.
//!
//! A disk that hangs takes the threads of its own device and no others; a client with many downloads takes turns with one that
//! has a single one; and what nobody waits for any more is not read.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::asset::Asset;
use super::handle_pool::Handle;
use super::storage::Storage;
use super::window::BATCH;
use crate::files::residency;
use crate::http::client_key::ClientKey;
use crate::sys::blocking_pool::step_back;
use crate::sys::fair_queue::FairQueue;
use crate::telemetry::metrics::histogram::{Histogram, HistogramTotals};

/// The threads that read cold pages, and what waits for them.
pub(crate) struct ColdReads {
    pool: Arc<Pool>,
}

/// What is to be read.
pub(crate) struct ReadRequest {
    pub(crate) asset: Arc<Asset>,
    pub(crate) handle: Option<Arc<Handle>>,
    /// Bytes of the file, within one batch.
    pub(crate) range: Range<u64>,
    /// What will be wanted after them: the disk is told, and nobody waits for it.
    pub(crate) next: Range<u64>,
}

/// A read that somebody waits for. Whoever drops it waits no longer.
pub(crate) struct PendingRead {
    pool: Arc<Pool>,
    read: Arc<Read>,
    done: Shared<oneshot::Receiver<ReadResult>>,
    since: Instant,
}

/// How many reads there are and were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadCounts {
    /// Waiting for a thread.
    pub(crate) waiting: usize,
    /// On a thread.
    pub(crate) running: usize,
    /// Made so far.
    pub(crate) made: u64,
    /// Times that somebody waited for a read that was there already.
    pub(crate) shared: u64,
    /// Let go before their turn came.
    pub(crate) dropped: u64,
}

/// When a read ended well, or what the disk said: a number of errno, where it gave one.
type ReadResult = Result<Instant, Option<i32>>;

/// One read, for whoever waits for it.
struct Read {
    key: Key,
    device: u64,
    range: Range<u64>,
    /// How many wait for it.
    wanted: AtomicUsize,
    /// Taken by whoever makes the read, or lets it go unmade.
    job: Mutex<Option<Job>>,
}

struct Job {
    wanted: ReadRequest,
    done: oneshot::Sender<ReadResult>,
}

/// The asset and the batch.
type Key = (u64, u64);

struct Pool {
    storage: Arc<dyn Storage>,
    threads: usize,
    niceness: i32,
    state: Mutex<State>,
    made: AtomicU64,
    took: Histogram,
    shared: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    by_key: HashMap<Key, Vec<SharedRead>, foldhash::fast::RandomState>,
    devices: HashMap<u64, Device, foldhash::fast::RandomState>,
    is_over: bool,
}

/// A read that can be joined.
struct SharedRead {
    read: Arc<Read>,
    done: Shared<oneshot::Receiver<ReadResult>>,
    /// In whose lines it stands; empty once it runs.
    queued_by: Vec<ClientKey>,
}

struct Device {
    queue: FairQueue<ClientKey, Arc<Read>>,
    /// Entries of the queue that nobody wants any more.
    unwanted: usize,
    threads: usize,
    idle: usize,
    arrived: Arc<Condvar>,
}

impl ColdReads {
    /// At most `threads` reads of one device at once, through `storage`. The threads stand back by `niceness`.
    pub(crate) fn new(storage: Arc<dyn Storage>, threads: usize, niceness: i32) -> Self {
        let pool = Pool {
            storage,
            threads: threads.max(1),
            niceness,
            state: Mutex::default(),
            made: AtomicU64::new(0),
            took: Histogram::default(),
            shared: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        Self { pool: Arc::new(pool) }
    }

    /// Has `wanted` read for `client`, or at least as much of its beginning as a read that is under way brings.
    pub(crate) fn read(&self, client: ClientKey, wanted: ReadRequest) -> PendingRead {
        let pool = &self.pool;
        let key = (wanted.asset.id, wanted.range.start / BATCH);
        let mut state = pool.state.lock();
        let device = state.device_of(wanted.asset.version.device());
        let start = wanted.range.start;
        let known = state
            .by_key
            .get_mut(&key)
            .and_then(|reads| reads.iter_mut().find(|known| known.read.range.contains(&start)));
        let (read, done, queue) = match known {
            Some(known) => {
                pool.shared.fetch_add(1, Ordering::Relaxed);
                known.read.wanted.fetch_add(1, Ordering::Relaxed);
                // It comes with the turn of whoever has it first: a client with many others does not hold it up for this one.
                let is_mine = known.queued_by.is_empty() || known.queued_by.contains(&client);
                if !is_mine {
                    known.queued_by.push(client);
                }
                (Arc::clone(&known.read), known.done.clone(), !is_mine)
            }
            None => {
                let (tell, told) = oneshot::channel();
                let done = told.shared();
                let range = wanted.range.clone();
                let job = Mutex::new(Some(Job { wanted, done: tell }));
                let read = Arc::new(Read { key, device, range, wanted: AtomicUsize::new(1), job });
                let under_way =
                    SharedRead { read: Arc::clone(&read), done: done.clone(), queued_by: vec![client] };
                state.by_key.entry(key).or_default().push(under_way);
                (read, done, true)
            }
        };
        let needs_thread = queue && state.queue(client, &read, pool.threads);
        drop(state);
        if needs_thread {
            pool.start_thread(read.device);
        }
        PendingRead { pool: Arc::clone(pool), read, done, since: Instant::now() }
    }

    /// Whether reads of the asset's device would wait for a thread.
    pub(crate) fn is_busy(&self, asset: &Asset) -> bool {
        let mut state = self.pool.state.lock();
        let device = state.device_of(asset.version.device());
        state.devices.get(&device).is_some_and(|device| device.queue.len() > device.idle + device.unwanted)
    }

    /// How long the reads took that were made.
    pub(crate) fn durations(&self) -> HistogramTotals {
        let mut durations = HistogramTotals::default();
        self.pool.took.add_to(&mut durations);
        durations
    }

    pub(crate) fn counts(&self) -> ReadCounts {
        let state = self.pool.state.lock();
        let devices = state.devices.values();
        let sum = |of: fn(&Device) -> usize| devices.clone().map(of).sum();
        ReadCounts {
            waiting: sum(|device| device.queue.len().saturating_sub(device.unwanted)),
            running: sum(|device| device.threads - device.idle),
            made: self.pool.made.load(Ordering::Relaxed),
            shared: self.pool.shared.load(Ordering::Relaxed),
            dropped: self.pool.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for ColdReads {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.is_over = true;
        for device in state.devices.values() {
            device.arrived.notify_all();
        }
    }
}

impl PendingRead {
    /// What is read: it contains the start of what was wanted.
    pub(crate) fn range(&self) -> &Range<u64> {
        &self.read.range
    }

    /// Since when it is waited for.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// It counts as waited for from now on.
    pub(crate) fn restart(mut self) -> Self {
        self.since = Instant::now();
        self
    }
}

impl Future for PendingRead {
    /// When the read ended.
    type Output = io::Result<Instant>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.done.poll_unpin(cx)) {
            Ok(Ok(at)) => Ok(at),
            Ok(Err(Some(errno))) => Err(io::Error::from_raw_os_error(errno)),
            Ok(Err(None)) => Err(io::ErrorKind::Other.into()),
            // The panic hook has said why.
            Err(_) => Err(io::Error::other("the read was not made")),
        })
    }
}

impl Drop for PendingRead {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        if self.read.wanted.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        // Its file and its handle go at once, whenever its place in the queue does.
        let Some(job) = self.read.job.lock().take() else { return };
        let lines = state.forget(&self.read);
        if let Some(device) = state.devices.get_mut(&self.read.device) {
            device.unwanted += lines;
            device.tidy();
        }
        drop(state);
        drop(job);
        self.pool.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl State {
    /// Under which number a device goes here: its own, or, where there are many, one that it shares.
    fn device_of(&mut self, device: u64) -> u64 {
        if self.devices.contains_key(&device) || self.devices.len() < DEVICES_MAX {
            return device;
        }
        self.devices.retain(|_, device| device.threads > 0 || !device.queue.is_empty());
        if self.devices.len() < DEVICES_MAX {
            return device;
        }
        let place = usize::try_from(device).unwrap_or(0) % DEVICES_MAX;
        self.devices.keys().nth(place).copied().unwrap_or(device)
    }

    /// Puts a read into its client's line; true where a thread more should be started for it.
    fn queue(&mut self, client: ClientKey, read: &Arc<Read>, threads: usize) -> bool {
        let device = self.devices.entry(read.device).or_insert_with(Device::new);
        device.queue.push(client, read.range.end - read.range.start, Arc::clone(read));
        device.arrived.notify_one();
        let is_short = device.queue.len() - device.unwanted.min(device.queue.len()) > device.idle;
        let starts = is_short && device.threads < threads;
        device.threads += usize::from(starts);
        starts
    }

    /// Nobody can join the read any more; returns in how many lines it still stands.
    fn forget(&mut self, read: &Arc<Read>) -> usize {
        let Some(reads) = self.by_key.get_mut(&read.key) else { return 0 };
        let mut lines = 0;
        reads.retain(|known| {
            let is_it = Arc::ptr_eq(&known.read, read);
            lines += if is_it { known.queued_by.len() } else { 0 };
            !is_it
        });
        if reads.is_empty() {
            self.by_key.remove(&read.key);
        }
        lines
    }

    /// The read begins: nobody needs to queue for it any more. The lines that it still stands in hold nothing now.
    fn begin(&mut self, read: &Arc<Read>) -> usize {
        let known = self
            .by_key
            .get_mut(&read.key)
            .and_then(|reads| reads.iter_mut().find(|known| Arc::ptr_eq(&known.read, read)));
        known.map_or(0, |known| std::mem::take(&mut known.queued_by).len().saturating_sub(1))
    }
}

impl Device {
    fn new() -> Self {
        Self {
            queue: FairQueue::new(BATCH),
            unwanted: 0,
            threads: 0,
            idle: 0,
            arrived: Arc::new(Condvar::new()),
        }
    }

    /// Clears the queue of what nobody wants, once that is most of it.
    fn tidy(&mut self) {
        if self.unwanted > TIDY_FROM.max(self.queue.len() / 2) {
            self.queue.retain(|read| read.job.lock().is_some());
            self.unwanted = 0;
        }
    }
}

impl Pool {
    fn start_thread(self: &Arc<Self>, device: u64) {
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name("pagecast-read".to_owned());
        if let Err(error) = thread.spawn(move || pool.run(device)) {
            log::error!("no thread for reading is to be had: {error}");
            self.end_thread(device);
        }
    }

    /// One thread of a device: read by read, until none has come for a while.
    fn run(&self, device: u64) {
        step_back(self.niceness);
        while let Some((read, job)) = self.next(device) {
            let Job { wanted: ReadRequest { asset, handle, range, next }, done } = job;
            let read_now = || residency::populate(&*self.storage, &asset, handle.as_ref(), range, next);
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read_now));
            self.took.record_shared(begun.elapsed());
            self.made.fetch_add(1, Ordering::Relaxed);
            self.state.lock().forget(&read);
            // Nobody hears of a panic here but those who wait: the sender is dropped without a word.
            if let Ok(outcome) = outcome {
                let outcome = outcome.map(|()| Instant::now()).map_err(|error| error.raw_os_error());
                let _ = done.send(outcome);
            }
        }
    }

    /// The next read that somebody wants; none after a while without any.
    fn next(&self, number: u64) -> Option<(Arc<Read>, Job)> {
        let mut state = self.state.lock();
        loop {
            let device = state.devices.get_mut(&number)?;
            match device.queue.pop() {
                Some(read) => {
                    let Some(job) = read.job.lock().take() else {
                        device.unwanted = device.unwanted.saturating_sub(1);
                        continue;
                    };
                    let lines = state.begin(&read);
                    if let Some(device) = state.devices.get_mut(&number) {
                        device.unwanted += lines;
                    }
                    return Some((read, job));
                }
                None => {
                    let arrived = Arc::clone(&device.arrived);
                    device.unwanted = 0;
                    device.idle += 1;
                    let is_over = state.is_over || arrived.wait_for(&mut state, IDLE).timed_out();
                    let device = state.devices.get_mut(&number)?;
                    device.idle -= 1;
                    if is_over && device.queue.is_empty() {
                        device.threads -= 1;
                        return None;
                    }
                }
            }
        }
    }

    /// A thread could not be started: where the device has none at all, what waits for it is let go.
    fn end_thread(&self, number: u64) {
        let mut state = self.state.lock();
        let Some(device) = state.devices.get_mut(&number) else { return };
        device.threads -= 1;
        let mut stranded = Vec::new();
        while device.threads == 0
            && let Some(read) = device.queue.pop()
        {
            stranded.push(read);
        }
        for read in &stranded {
            state.forget(read);
            drop(read.job.lock().take());
        }
    }
}

/// Devices that have threads of their own; further ones share them.
const DEVICES_MAX: usize = 64;

/// A thread that had nothing to read for so long ends.
const IDLE: Duration = Duration::from_secs(10);

/// Fewer entries are not worth clearing away.
const TIDY_FROM: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::rules::Rules;
    use crate::config::{Config, Symlinks};
    use crate::files::storage::{Call, Faulty, InjectedFault, RecordedCall, Slow, When};
    use crate::files::{FileSettings, Files, Lookup, Root};
    use crate::http::target::SitePath;

    const PATIENCE: Duration = Duration::from_secs(20);

    const SIZE: u64 = 3 * BATCH;

    /// Files of [`SIZE`] bytes, cold, on a disk that does as it is told.
    struct Site {
        _dir: tempfile::TempDir,
        disk: Arc<Faulty>,
        files: Files,
    }

    impl Site {
        fn of(names: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in names {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::File::create(path).unwrap().set_len(SIZE).unwrap();
            }
            let disk = Faulty::over(Slow::new(Duration::ZERO, 64 * SIZE));
            let root = Root::open_on(disk.clone(), dir.path(), Symlinks::Inside).unwrap();
            let settings = FileSettings { cache_bytes: 1 << 30, ..FileSettings::small() };
            let files = Files::new(root, &settings, Rules::new(&Config::default())).unwrap();
            Self { _dir: dir, disk, files }
        }

        async fn asset(&self, name: &str) -> Arc<Asset> {
            let found = self.files.find(&SitePath::root().entry(name.as_bytes())).await;
            match found.lookup {
                Lookup::File(asset) => asset,
                other => panic!("{name}: {other:?}"),
            }
        }

        async fn read(&self, client: u32, name: &str, batch: u64) -> PendingRead {
            let asset = self.asset(name).await;
            let range = batch * BATCH..(batch + 1) * BATCH;
            let wanted = ReadRequest { asset, handle: None, range, next: 0..0 };
            self.files.reads().read(ClientKey::V4(client), wanted)
        }

        fn populated(&self) -> Vec<RecordedCall> {
            self.disk.seen(Call::Populate)
        }

        fn order(&self) -> Vec<String> {
            let name = |seen: &RecordedCall| seen.path.rsplit('/').next().unwrap().to_owned();
            self.populated().iter().map(name).collect()
        }
    }

    #[tokio::test]
    async fn who_asks_for_what_is_being_read_waits_for_that_read() {
        let site = Site::of(&["a"]);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let first = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        let (second, other) = (site.read(2, "a", 0).await, site.read(2, "a", 1).await);
        assert_eq!(*second.range(), 0..BATCH);
        drop(first);
        site.disk.lift(hang);
        second.await.unwrap();
        other.await.unwrap();
        assert_eq!(site.populated().len(), 2);
        let counts = site.files.reads().counts();
        assert_eq!((counts.made, counts.shared, counts.dropped), (2, 1, 0));
    }

    #[tokio::test]
    async fn a_client_of_many_reads_takes_turns_with_a_client_of_one() {
        let names = ["a0", "a1", "a2", "a3", "a4", "b"];
        let site = Site::of(&names);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let mut readings = Vec::new();
        for name in ["a0", "a1", "a2", "a3", "a4"] {
            readings.push(site.read(1, name, 0).await);
        }
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        readings.push(site.read(2, "b", 0).await);
        assert_eq!(site.files.reads().counts().waiting, 5);
        site.disk.lift(hang);
        for reading in readings {
            reading.await.unwrap();
        }
        let order = site.order();
        let place = order.iter().position(|name| name == "b").unwrap();
        assert!(place <= 2, "{order:?}");
    }

    #[tokio::test]
    async fn what_two_clients_want_comes_with_the_first_turn_of_either() {
        let site = Site::of(&["a0", "a1", "a2", "a3", "shared"]);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let mut readings = Vec::new();
        for name in ["a0", "a1", "a2", "a3", "shared"] {
            readings.push(site.read(1, name, 0).await);
        }
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        readings.push(site.read(2, "shared", 0).await);
        site.disk.lift(hang);
        for reading in readings {
            reading.await.unwrap();
        }
        let order = site.order();
        assert_eq!(order.len(), 5, "read once: {order:?}");
        assert!(order.iter().position(|name| name == "shared").unwrap() <= 2, "{order:?}");
        let counts = site.files.reads().counts();
        assert_eq!((counts.waiting, counts.dropped), (0, 0));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_read() {
        let site = Site::of(&["a", "b", "c"]);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let first = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        let (gone, one, other) =
            (site.read(1, "b", 0).await, site.read(1, "c", 0).await, site.read(2, "c", 0).await);
        drop((gone, one));
        assert_eq!(site.files.reads().counts().waiting, 2, "in two lines for one read");
        site.disk.lift(hang);
        first.await.unwrap();
        other.await.unwrap();
        assert_eq!(site.order(), ["a", "c"]);
        assert_eq!(site.files.reads().counts().dropped, 1);
        // And who asks for it again gets it.
        site.read(1, "b", 0).await.await.unwrap();
    }

    #[tokio::test]
    async fn a_queue_of_what_nobody_wants_is_cleared() {
        let site = Site::of(&["a", "b"]);
        site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let _first = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        for client in 0..1000 {
            drop(site.read(client, "b", 0).await);
        }
        let state = site.files.reads().pool.state.lock();
        assert!(
            state.by_key.len() == 1
                && state.devices.values().all(|device| device.queue.len() <= 2 * TIDY_FROM)
        );
        drop(state);
        site.disk.heal();
    }

    #[tokio::test]
    async fn a_dead_device_does_not_stop_another() {
        let site = Site::of(&["dead", "living"]);
        site.disk.inject(When::every(Call::Fstat).of("/dead"), InjectedFault::Device(4711));
        site.disk.inject(When::every(Call::Populate).of("/dead"), InjectedFault::Hang);
        let dead = [site.read(1, "dead", 0).await, site.read(1, "dead", 1).await];
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        site.read(1, "living", 0).await.await.unwrap();
        assert_eq!(site.files.reads().counts().waiting, 1, "the second of the dead device, of one thread");
        site.disk.heal();
        for reading in dead {
            reading.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_the_disk_says_reaches_all_who_wait() {
        let site = Site::of(&["a"]);
        let hang = site.disk.inject(When::every(Call::Populate).times(1), InjectedFault::Hang);
        let busy = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        let (one, other) = (site.read(1, "a", 1).await, site.read(2, "a", 1).await);
        site.disk.inject(When::every(Call::Populate), InjectedFault::Errno(rustix::io::Errno::IO));
        site.disk.lift(hang);
        busy.await.unwrap();
        for reading in [one, other] {
            assert_eq!(reading.await.unwrap_err().raw_os_error(), Some(libc::EIO));
        }
    }

    #[tokio::test]
    async fn devices_beyond_the_bound_share_threads() {
        let site = Site::of(&["a"]);
        let mut state = State::default();
        for device in 0..DEVICES_MAX as u64 {
            let mut busy = Device::new();
            busy.threads = 1;
            state.devices.insert(device, busy);
        }
        assert_eq!(state.device_of(3), 3);
        assert!(state.device_of(1000) < DEVICES_MAX as u64);
        state.devices.values_mut().for_each(|device| device.threads = 0);
        assert_eq!(state.device_of(1000), 1000);
        site.read(1, "a", 0).await.await.unwrap();
    }
}
