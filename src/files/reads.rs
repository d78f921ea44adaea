//! Reads of cold pages, off the workers: shared by all that wait for them, separate for each device, and in fair order among
//! clients.
//!
//! A hanging disk occupies the threads of its own device only; a client with many downloads takes turns with one that has a
//! single one; and a read that nothing waits for any more is not made.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Asset, BATCH, Handle, Storage, residency};
use crate::http::client_key::ClientKey;
use crate::sys::blocking_pool::lower_priority;
use crate::sys::fair_queue::FairQueue;
use crate::telemetry::metrics::histogram::Histogram;

/// The threads that read cold pages, and the queues before them.
///
/// Decision: docs/decisions/007-cold-reads.md.
pub(crate) struct ColdReads {
    pool: Arc<Pool>,
}

/// A read to be made.
pub(crate) struct ReadRequest {
    pub(crate) asset: Arc<Asset>,
    pub(crate) handle: Option<Arc<Handle>>,
    /// Bytes of the file, within one batch.
    pub(crate) range: Range<u64>,
    /// Bytes that will be wanted after them: announced to the disk, and not waited for.
    pub(crate) next: Range<u64>,
}

/// A wait for a read; resolves to the time when the read ended. Dropping it ends the wait.
pub(crate) struct PendingRead {
    pool: Arc<Pool>,
    key: ReadKey,
    /// The bytes that are read; they contain the start of the requested range.
    pub(crate) range: Range<u64>,
    /// When the wait began.
    pub(crate) since: Instant,
    done: Shared<oneshot::Receiver<ReadResult>>,
}

/// Counts of cold reads: of those under way now, and totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadCounts {
    /// Waiting for a thread.
    pub(crate) waiting: usize,
    /// On a thread.
    pub(crate) running: usize,
    /// Made so far.
    pub(crate) made: u64,
    /// Waits for a read that was pending already.
    pub(crate) shared: u64,
    /// Dropped before they ran.
    pub(crate) dropped: u64,
}

/// When a read ended, or the errno of its failure, if it has one.
type ReadResult = Result<Instant, Option<i32>>;

/// Asset, first byte, and a number of its own: entries of a queue that name a dropped read name no later one.
type ReadKey = (u64, u64, u64);

/// A read that waits or runs, with any number of waits for it.
struct Read {
    device: u64,
    range: Range<u64>,
    waiters: usize,
    done: Shared<oneshot::Receiver<ReadResult>>,
    /// Taken by the thread that makes the read.
    job: Option<Job>,
    /// Clients in whose queues it is; empty once it runs.
    queued_by: Vec<ClientKey>,
}

struct Job {
    request: ReadRequest,
    done: oneshot::Sender<ReadResult>,
}

struct Pool {
    storage: Arc<dyn Storage>,
    threads: usize,
    niceness: i32,
    state: Mutex<State>,
    took: Histogram,
}

#[derive(Default)]
struct State {
    reads: BTreeMap<ReadKey, Read>,
    /// Number of the next read.
    number: u64,
    devices: HashMap<u64, Device, foldhash::fast::RandomState>,
    is_over: bool,
    /// Without those of the devices.
    counts: ReadCounts,
}

struct Device {
    queue: FairQueue<ClientKey, ReadKey>,
    /// Entries of the queue whose reads are dropped or run already.
    stale: usize,
    threads: usize,
    idle: usize,
    arrived: Arc<Condvar>,
}

impl ColdReads {
    /// Makes at most `threads` reads of one device at once, through `storage`, on threads of this `niceness`.
    pub(crate) fn new(storage: Arc<dyn Storage>, threads: usize, niceness: i32) -> Self {
        let pool = Pool {
            storage,
            threads: threads.max(1),
            niceness,
            state: Mutex::default(),
            took: Histogram::default(),
        };
        Self { pool: Arc::new(pool) }
    }

    /// Starts a read for `client`, or waits for a pending one that has the beginning of the range.
    pub(crate) fn read(&self, client: ClientKey, request: ReadRequest) -> PendingRead {
        let pool = &self.pool;
        let mut locked = pool.state.lock();
        let state = &mut *locked;
        let device = state.device_of(request.asset.version.device);
        let (asset, start) = (request.asset.id, request.range.start);
        let in_batch = (asset, start / BATCH * BATCH, 0)..=(asset, start, u64::MAX);
        let known = state.reads.range(in_batch).rfind(|(_, known)| known.range.contains(&start));
        state.counts.shared += u64::from(known.is_some());
        let key = known.map_or((asset, start, state.number), |(key, _)| *key);
        state.number += 1;
        let read = state.reads.entry(key).or_insert_with(|| Read::new(device, request));
        read.waiters += 1;
        // It is made when the first of its clients has a turn: one with many reads does not hold it up for another.
        let is_queued = read.job.is_none() || read.queued_by.contains(&client);
        let mut starts_thread = false;
        if !is_queued {
            read.queued_by.push(client);
            let device = state.devices.entry(read.device).or_insert_with(Device::new);
            starts_thread = device.queue(client, key, read.range.end - read.range.start, pool.threads);
        }
        let (device, range, done) = (read.device, read.range.clone(), read.done.clone());
        drop(locked);
        if starts_thread {
            pool.start_thread(device);
        }
        PendingRead { pool: Arc::clone(pool), key, range, since: Instant::now(), done }
    }

    /// Whether reads of the asset's device would wait for a thread.
    pub(crate) fn is_busy(&self, asset: &Asset) -> bool {
        let mut state = self.pool.state.lock();
        let device = state.device_of(asset.version.device);
        state.devices.get(&device).is_some_and(|device| device.queue.len() > device.idle + device.stale)
    }

    /// Durations of the reads.
    pub(crate) fn durations(&self) -> &Histogram {
        &self.pool.took
    }

    pub(crate) fn counts(&self) -> ReadCounts {
        let state = self.pool.state.lock();
        let devices = state.devices.values();
        let sum = |of: fn(&Device) -> usize| devices.clone().map(of).sum();
        ReadCounts {
            waiting: sum(|device| device.queue.len().saturating_sub(device.stale)),
            running: sum(|device| device.threads - device.idle),
            ..state.counts
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
    /// Counts the wait from now on.
    pub(crate) fn restart(mut self) -> Self {
        self.since = Instant::now();
        self
    }
}

impl Future for PendingRead {
    type Output = io::Result<Instant>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.done.poll_unpin(cx)) {
            Ok(Ok(at)) => Ok(at),
            Ok(Err(Some(errno))) => Err(io::Error::from_raw_os_error(errno)),
            Ok(Err(None)) => Err(io::ErrorKind::Other.into()),
            // The panic hook has logged why.
            Err(_) => Err(io::Error::other("the read was not made")),
        })
    }
}

impl Drop for PendingRead {
    fn drop(&mut self) {
        let mut locked = self.pool.state.lock();
        let State { reads, devices, counts, .. } = &mut *locked;
        let Some(read) = reads.get_mut(&self.key) else { return };
        read.waiters -= 1;
        if read.waiters > 0 || read.job.is_none() {
            return;
        }
        // Its file and its handle are released at once, though its queue entries may stay for a while.
        let Some(read) = reads.remove(&self.key) else { return };
        if let Some(device) = devices.get_mut(&read.device) {
            device.stale += read.queued_by.len();
            device.clean_queue(reads);
        }
        counts.dropped += 1;
        drop(locked);
        drop(read);
    }
}

impl Read {
    fn new(device: u64, request: ReadRequest) -> Self {
        let (sender, receiver) = oneshot::channel();
        Self {
            device,
            range: request.range.clone(),
            waiters: 0,
            done: receiver.shared(),
            job: Some(Job { request, done: sender }),
            queued_by: Vec::new(),
        }
    }
}

impl State {
    /// The number that a device is known by here: its own, or with too many devices one that it shares.
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
}

impl Device {
    fn new() -> Self {
        Self {
            queue: FairQueue::new(BATCH),
            stale: 0,
            threads: 0,
            idle: 0,
            arrived: Arc::new(Condvar::new()),
        }
    }

    /// Adds a read to its client's queue; true if another thread should be started for it.
    fn queue(&mut self, client: ClientKey, key: ReadKey, cost: u64, threads: usize) -> bool {
        self.queue.push(client, cost, key);
        self.arrived.notify_one();
        let is_short = self.queue.len() - self.stale.min(self.queue.len()) > self.idle;
        let starts = is_short && self.threads < threads;
        self.threads += usize::from(starts);
        starts
    }

    /// Removes stale entries once they are most of the queue.
    fn clean_queue(&mut self, reads: &BTreeMap<ReadKey, Read>) {
        if self.stale > CLEAN_FROM.max(self.queue.len() / 2) {
            self.queue.retain(|key| reads.get(key).is_some_and(|read| read.job.is_some()));
            self.stale = 0;
        }
    }
}

impl Pool {
    fn start_thread(self: &Arc<Self>, device: u64) {
        let pool = Arc::clone(self);
        let thread = std::thread::Builder::new().name("pagecast-read".to_owned());
        if let Err(error) = thread.spawn(move || pool.run(device)) {
            log::error!("no thread for reading from the disk can be started: {error}");
            self.end_thread(device);
        }
    }

    /// The loop of one thread of a device; ends after a while without reads.
    fn run(&self, device: u64) {
        lower_priority(self.niceness);
        while let Some((key, job)) = self.next(device) {
            let Job { request: ReadRequest { asset, handle, range, next }, done } = job;
            let read_pages = || residency::populate(&*self.storage, &asset, handle.as_ref(), range, next);
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read_pages));
            self.took.record_shared(begun.elapsed());
            let mut state = self.state.lock();
            state.counts.made += 1;
            state.reads.remove(&key);
            drop(state);
            // After a panic the waits fail: the sender is dropped without a result.
            if let Ok(outcome) = outcome {
                let outcome = outcome.map(|()| Instant::now()).map_err(|error| error.raw_os_error());
                let _ = done.send(outcome);
            }
        }
    }

    /// The next read that something waits for; `None` after a while without one.
    fn next(&self, number: u64) -> Option<(ReadKey, Job)> {
        let mut locked = self.state.lock();
        loop {
            let State { reads, devices, is_over, .. } = &mut *locked;
            let device = devices.get_mut(&number)?;
            if let Some(key) = device.queue.pop() {
                let waiting =
                    reads.get_mut(&key).and_then(|read| Some((read.job.take()?, &mut read.queued_by)));
                if let Some((job, queued_by)) = waiting {
                    device.stale += std::mem::take(queued_by).len().saturating_sub(1);
                    return Some((key, job));
                }
                device.stale = device.stale.saturating_sub(1);
                continue;
            }
            let arrived = Arc::clone(&device.arrived);
            device.stale = 0;
            device.idle += 1;
            let is_over = *is_over || arrived.wait_for(&mut locked, IDLE).timed_out();
            let device = locked.devices.get_mut(&number)?;
            device.idle -= 1;
            if is_over && device.queue.is_empty() {
                device.threads -= 1;
                return None;
            }
        }
    }

    /// Handles a thread that could not be started: if the device has none at all, its reads fail.
    fn end_thread(&self, number: u64) {
        let State { reads, devices, .. } = &mut *self.state.lock();
        let Some(device) = devices.get_mut(&number) else { return };
        device.threads -= 1;
        while device.threads == 0
            && let Some(key) = device.queue.pop()
        {
            reads.remove(&key);
        }
    }
}

/// Most devices with threads of their own; further ones share them.
const DEVICES_MAX: usize = 64;

/// A thread without reads for this time ends.
const IDLE: Duration = Duration::from_secs(10);

/// Fewer stale entries are not worth removing.
const CLEAN_FROM: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Symlinks};
    use crate::files::policy::Rules;
    use crate::files::storage::{Call, Faulty, InjectedFault, RecordedCall, Slow, When};
    use crate::files::{FileSettings, Files, Lookup, Root};
    use crate::http::target::SitePath;

    const PATIENCE: Duration = Duration::from_secs(20);

    const SIZE: u64 = 3 * BATCH;

    /// Cold files of [`SIZE`] bytes on a disk with injected faults.
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
            let mut settings = FileSettings::small();
            settings.limits.cache_bytes = 1 << 30;
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
            let request = ReadRequest { asset, handle: None, range, next: 0..0 };
            self.files.shared.reads.read(ClientKey::V4(client), request)
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
    async fn requests_for_the_same_batch_share_a_read() {
        let site = Site::of(&["a"]);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let first = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        let (second, other) = (site.read(2, "a", 0).await, site.read(2, "a", 1).await);
        assert_eq!(second.range, 0..BATCH);
        drop(first);
        site.disk.lift(hang);
        second.await.unwrap();
        other.await.unwrap();
        assert_eq!(site.populated().len(), 2);
        let counts = site.files.shared.reads.counts();
        assert_eq!((counts.made, counts.shared, counts.dropped), (2, 1, 0));
    }

    #[tokio::test]
    async fn a_client_with_many_reads_takes_turns_with_a_client_with_one() {
        let names = ["a0", "a1", "a2", "a3", "a4", "b"];
        let site = Site::of(&names);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let mut readings = Vec::new();
        for name in ["a0", "a1", "a2", "a3", "a4"] {
            readings.push(site.read(1, name, 0).await);
        }
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        readings.push(site.read(2, "b", 0).await);
        assert_eq!(site.files.shared.reads.counts().waiting, 5);
        site.disk.lift(hang);
        for reading in readings {
            reading.await.unwrap();
        }
        let order = site.order();
        let place = order.iter().position(|name| name == "b").unwrap();
        assert!(place <= 2, "{order:?}");
    }

    #[tokio::test]
    async fn a_read_of_two_clients_is_made_in_the_first_turn_of_either() {
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
        let counts = site.files.shared.reads.counts();
        assert_eq!((counts.waiting, counts.dropped), (0, 0));
    }

    #[tokio::test]
    async fn a_read_without_waits_is_not_made() {
        let site = Site::of(&["a", "b", "c"]);
        let hang = site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let first = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        let (gone, one, other) =
            (site.read(1, "b", 0).await, site.read(1, "c", 0).await, site.read(2, "c", 0).await);
        drop((gone, one));
        assert_eq!(site.files.shared.reads.counts().waiting, 2, "in two queues for one read");
        site.disk.lift(hang);
        first.await.unwrap();
        other.await.unwrap();
        assert_eq!(site.order(), ["a", "c"]);
        assert_eq!(site.files.shared.reads.counts().dropped, 1);
        // A new request for it is read.
        site.read(1, "b", 0).await.await.unwrap();
    }

    #[tokio::test]
    async fn a_queue_of_dropped_reads_is_cleaned() {
        let site = Site::of(&["a", "b"]);
        site.disk.inject(When::every(Call::Populate), InjectedFault::Hang);
        let _first = site.read(1, "a", 0).await;
        assert!(site.disk.wait_until_hanging(1, PATIENCE));
        for client in 0..1000 {
            drop(site.read(client, "b", 0).await);
        }
        let state = site.files.shared.reads.pool.state.lock();
        assert!(
            state.reads.len() == 1
                && state.devices.values().all(|device| device.queue.len() <= 2 * CLEAN_FROM)
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
        assert_eq!(
            site.files.shared.reads.counts().waiting,
            1,
            "the second of the dead device, of one thread"
        );
        site.disk.heal();
        for reading in dead {
            reading.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_error_of_the_disk_reaches_all_waits() {
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
