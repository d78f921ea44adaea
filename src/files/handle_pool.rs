//! Open files, bounded: a connection pool for file handles.
//!
//! Every open file holds a permit, which returns when the handle closes. Handles that no response uses stay open until another
//! file needs their permit, or they have been idle or open for too long.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashlink::LinkedHashMap;
use parking_lot::RwLock;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{FileStat, Storage};
use crate::config::OpenFilesGroup;
use crate::telemetry::metrics::counter::Counter;

/// Open files, at most a configured number at once.
///
/// A use takes a shared lock on one shard and sets a bit; eviction goes round the shards and skips the handles that were used since
/// its last round (the clock algorithm). With two workers it serves 2 to 3 times the hits of one mutex around an exact LRU order.
///
/// Decision: docs/decisions/049-handle-pool.md.
pub(crate) struct HandlePool {
    permits: Arc<Semaphore>,
    handles: usize,
    pub(crate) times: RwLock<Arc<OpenFilesGroup>>,
    shards: [RwLock<Shard>; SHARDS],
    /// The shard at which the next eviction begins.
    hand: AtomicUsize,
    started: Instant,
    /// Requests that had to wait for a handle.
    pub(crate) waits: Counter,
    /// Requests that waited in vain.
    pub(crate) timeouts: Counter,
    pub(crate) turnover: Arc<Turnover>,
}

/// Handles by asset, in the order in which eviction visits them.
type Shard = LinkedHashMap<u64, OpenHandle, foldhash::fast::RandomState>;

struct OpenHandle {
    handle: Arc<Handle>,
    /// Milliseconds since the pool was made.
    used_ms: AtomicU64,
    /// Used since eviction last visited it.
    is_recent: AtomicBool,
}

/// Number of files opened to be sent from, and of those closed again.
#[derive(Debug, Default)]
pub(crate) struct Turnover {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
}

/// An open file and its permit.
pub(crate) struct Handle {
    storage: Arc<dyn Storage>,
    file: OwnedFd,
    stat: FileStat,
    opened: Instant,
    turnover: Arc<Turnover>,
    _permit: HandlePermit,
}

/// An open regular file, its metadata, and the right to have it open.
pub(crate) struct OpenFile {
    pub(crate) file: OwnedFd,
    pub(crate) stat: FileStat,
    pub(crate) permit: HandlePermit,
}

/// The right to have one file open.
pub(crate) type HandlePermit = OwnedSemaphorePermit;

impl HandlePool {
    /// At most `handles` open files, under the times of `times`.
    pub(crate) fn new(handles: usize, times: Arc<OpenFilesGroup>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(handles)),
            handles,
            times: RwLock::new(times),
            shards: std::array::from_fn(|_| RwLock::default()),
            hand: AtomicUsize::new(0),
            started: Instant::now(),
            waits: Counter::default(),
            timeouts: Counter::default(),
            turnover: Arc::default(),
        }
    }

    /// A permit, after waiting if none is free; `None` if none became free in time. Idle handles are closed for it first.
    pub(crate) async fn permit(&self) -> Option<HandlePermit> {
        if let Some(permit) = self.try_permit() {
            return Some(permit);
        }
        self.waits.add_shared(1);
        let longest = self.times.read().handle_wait.get();
        let waiting = async {
            loop {
                // In slices: a handle that becomes idle meanwhile stays open, and is closed for us only when we try again.
                let freed = Arc::clone(&self.permits).acquire_owned();
                let freed = tokio::time::timeout(TRY_AGAIN_AFTER, freed).await.ok().and_then(Result::ok);
                if let Some(permit) = freed.or_else(|| self.try_permit()) {
                    break permit;
                }
            }
        };
        let permit = tokio::time::timeout(longest, waiting).await.ok().or_else(|| self.try_permit());
        if permit.is_none() {
            self.timeouts.add_shared(1);
        }
        permit
    }

    /// A permit, if one is free or an idle handle can be closed for it.
    pub(crate) fn try_permit(&self) -> Option<HandlePermit> {
        let take = || Arc::clone(&self.permits).try_acquire_owned().ok();
        take().or_else(|| (self.close_idle(1) > 0).then(take).flatten())
    }

    pub(crate) fn wrap(
        &self,
        storage: &Arc<dyn Storage>,
        OpenFile { file, stat, permit }: OpenFile,
    ) -> Arc<Handle> {
        self.turnover.opened.add_shared(1);
        let (storage, turnover) = (Arc::clone(storage), Arc::clone(&self.turnover));
        Arc::new(Handle { storage, file, stat, opened: Instant::now(), turnover, _permit: permit })
    }

    /// Keeps `handle` open for the asset `id`.
    pub(crate) fn insert(&self, id: u64, handle: Arc<Handle>) {
        let used_ms = AtomicU64::new(self.ms_at(Instant::now()));
        let open = OpenHandle { handle, used_ms, is_recent: AtomicBool::new(false) };
        let replaced = self.shard(id).write().insert(id, open);
        drop(replaced); // Closed without the lock.
    }

    /// The open handle of the asset `id`; counts as a use of it.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Handle>> {
        let now_ms = self.ms_at(Instant::now());
        let shard = self.shard(id).read();
        let open = shard.get(&id)?;
        // Written only if that is new: other workers read the same cache line.
        if open.used_ms.load(Ordering::Relaxed) != now_ms {
            open.used_ms.store(now_ms, Ordering::Relaxed);
        }
        if !open.is_recent.load(Ordering::Relaxed) {
            open.is_recent.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&open.handle))
    }

    /// Whether the asset `id` has an open handle; does not count as a use.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.shard(id).read().contains_key(&id)
    }

    /// Removes the handle of the asset `id`; it closes when no response uses it.
    pub(crate) fn remove(&self, id: u64) {
        let removed = self.shard(id).write().remove(&id);
        drop(removed); // Closed without the lock.
    }

    /// Closes up to `count` handles that no response uses, those not used recently first; returns their number. The second round
    /// finds those that were used before the first.
    pub(crate) fn close_idle(&self, count: usize) -> usize {
        // Closed without a lock, at the end.
        let mut taken = Vec::new();
        let start = self.hand.load(Ordering::Relaxed);
        // Each caller visits every shard twice, whatever others do meanwhile.
        for step in 0..2 * SHARDS {
            if taken.len() >= count {
                break;
            }
            let at = start.wrapping_add(step);
            self.hand.store(at, Ordering::Relaxed);
            let mut shard = self.shards[at % SHARDS].write();
            if !shard.values().any(OpenHandle::is_idle) {
                continue;
            }
            for _ in 0..shard.len() {
                if taken.len() >= count {
                    return count;
                }
                let Some((id, open)) = shard.pop_front() else { break };
                if open.is_idle() && !open.is_recent.swap(false, Ordering::Relaxed) {
                    taken.push(open.handle);
                } else {
                    shard.insert(id, open);
                }
            }
        }
        taken.len()
    }

    /// Closes handles that have been idle or open for too long.
    pub(crate) fn close_expired(&self, now: Instant) {
        let (idle, max_age) = {
            let times = self.times.read();
            (times.handle_idle.get(), times.handle_max_age.get())
        };
        let now_ms = self.ms_at(now);
        let has_expired = |open: &OpenHandle| {
            let idle_ms = u128::from(now_ms.saturating_sub(open.used_ms.load(Ordering::Relaxed)));
            idle_ms >= idle.as_millis() || now.saturating_duration_since(open.handle.opened) >= max_age
        };
        // Closed without a lock, at the end.
        let mut taken = Vec::new();
        for shard in &self.shards {
            shard.write().retain(|_, open| {
                let goes = open.is_idle() && has_expired(open);
                if goes {
                    taken.push(Arc::clone(&open.handle));
                }
                !goes
            });
        }
    }

    /// Handles that are open now.
    pub(crate) fn in_use(&self) -> usize {
        self.handles.saturating_sub(self.permits.available_permits())
    }

    fn shard(&self, id: u64) -> &RwLock<Shard> {
        &self.shards[usize::try_from(id).unwrap_or(0) % SHARDS]
    }

    fn ms_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.turnover.closed.add_shared(1);
    }
}

impl Handle {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The storage that the file is read through.
    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Whether the open file still has the bytes that it was opened with: one `statx`, which never waits.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn is_unchanged(&self) -> Result<bool, Errno> {
        Ok(self.stat.has_same_bytes(&self.storage.stat_cached(self.fd())?))
    }
}

impl OpenHandle {
    /// Whether no response uses the handle. Exact under the shard's exclusive lock: only the shard can hand out another
    /// reference then.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.handle) == 1
    }
}

/// Shards of the open handles: enough that workers rarely meet in one.
const SHARDS: usize = 16;

const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DurationSetting;
    use crate::files::storage::SystemStorage;

    fn pool(handles: usize) -> HandlePool {
        let times = OpenFilesGroup {
            handle_wait: DurationSetting::millis(60),
            handle_idle: DurationSetting::seconds(60),
            handle_max_age: DurationSetting::seconds(600),
            ..OpenFilesGroup::default()
        };
        HandlePool::new(handles, times.into())
    }

    fn open(pool: &HandlePool) -> Arc<Handle> {
        let file = tempfile::tempfile().unwrap();
        let stat = FileStat::from(&rustix::fs::fstat(&file).unwrap());
        let storage: Arc<dyn Storage> = Arc::new(SystemStorage);
        let permit = pool.try_permit().unwrap();
        pool.wrap(&storage, OpenFile { file: file.into(), stat, permit })
    }

    #[test]
    fn a_closed_handle_returns_its_permit() {
        let pool = pool(1);
        let handle = open(&pool);
        assert!(pool.try_permit().is_none());
        drop(handle);
        assert!(pool.try_permit().is_some());
    }

    #[test]
    fn an_idle_handle_that_was_not_used_recently_gives_up_its_permit() {
        let pool = pool(2);
        pool.insert(1, open(&pool));
        pool.insert(2, open(&pool));
        assert!(pool.get(1).is_some());
        assert!(pool.try_permit().is_some());
        assert!(pool.get(2).is_none());
        assert!(pool.get(1).is_some());
    }

    #[test]
    fn a_handle_in_use_is_not_closed() {
        let pool = pool(1);
        let handle = open(&pool);
        pool.insert(1, Arc::clone(&handle));
        assert!(pool.try_permit().is_none());
        drop(handle);
        assert!(pool.try_permit().is_some());
    }

    #[tokio::test]
    async fn a_wait_ends_when_an_open_handle_becomes_idle() {
        let pool = Arc::new(pool(1));
        let handle = open(&pool);
        pool.insert(1, Arc::clone(&handle));
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.permit().await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(handle);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_wait_in_vain_ends_after_its_time() {
        let pool = pool(1);
        let _open = open(&pool);
        assert!(pool.permit().await.is_none());
        let counts = [&pool.waits, &pool.timeouts].map(Counter::get);
        assert_eq!(counts, [1, 1]);
    }

    #[test]
    fn handles_that_are_idle_too_long_are_closed() {
        let pool = pool(2);
        pool.insert(1, open(&pool));
        pool.close_expired(Instant::now());
        assert_eq!(pool.in_use(), 1);
        pool.close_expired(Instant::now() + Duration::from_secs(61));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn all_idle_handles_can_be_closed_whatever_their_shard_and_last_use() {
        let pool = pool(100);
        (0..100).for_each(|id| pool.insert(id, open(&pool)));
        (0..100).filter(|id| id % 3 == 0).for_each(|id| assert!(pool.get(id).is_some()));
        let used = pool.get(7).unwrap();
        assert_eq!(pool.close_idle(65), 65, "those that were not used go first");
        assert!((0..100).filter(|id| id % 3 == 0).all(|id| pool.contains(id)) && pool.contains(7));
        assert_eq!((pool.close_idle(100), pool.in_use()), (34, 1));
        drop(used);
        assert_eq!((pool.close_idle(100), pool.in_use()), (1, 0));
    }
}
