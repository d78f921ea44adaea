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
use rustix::fs::Stat;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{FileStat, Storage, Version};

/// Open files, at most a configured number at once.
///
/// Decision: docs/decisions/049-handle-pool.md.
pub(crate) struct HandlePool {
    permits: Arc<Semaphore>,
    open: OpenHandles,
    handles: usize,
    limits: RwLock<HandleLimits>,
    waits: AtomicU64,
    timeouts: AtomicU64,
    turnover: Arc<Turnover>,
}

/// Number of handles opened and closed.
#[derive(Debug, Default)]
struct Turnover {
    opened: AtomicU64,
    closed: AtomicU64,
}

/// Bounds and times of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleLimits {
    /// Most files open at once.
    pub handles: usize,
    /// Time that a request waits for a handle before it is refused.
    pub wait: Duration,
    /// A handle that no response has used for this time is closed.
    pub idle: Duration,
    /// A handle that has been open for this time is closed when it is next idle.
    pub max_age: Duration,
}

/// An open file and its permit.
pub(crate) struct Handle {
    storage: Arc<dyn Storage>,
    file: OwnedFd,
    links: u64,
    opened: Instant,
    permit: HandlePermit,
}

/// The right to have one file open.
pub(crate) struct HandlePermit {
    _permit: OwnedSemaphorePermit,
    turnover: Arc<Turnover>,
}

/// No handle became free in time.
#[derive(Debug)]
pub(crate) struct HandlesExhausted;

impl HandlePool {
    pub(crate) fn new(limits: HandleLimits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.handles)),
            open: OpenHandles::new(),
            handles: limits.handles,
            limits: RwLock::new(limits),
            waits: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            turnover: Arc::default(),
        }
    }

    /// Sets the times of `limits`; the number of handles stays.
    pub(crate) fn set_times(&self, limits: HandleLimits) {
        *self.limits.write() = limits;
    }

    /// A permit, after waiting if none is free. Idle handles are closed for it first.
    pub(crate) async fn permit(&self) -> Result<HandlePermit, HandlesExhausted> {
        if let Some(permit) = self.try_permit() {
            return Ok(permit);
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + self.limits.read().wait;
        loop {
            // In slices: a handle that becomes idle meanwhile stays open, and is closed for us only when we try again.
            let slice = deadline.min(tokio::time::Instant::now() + TRY_AGAIN_AFTER);
            if let Ok(Ok(permit)) =
                tokio::time::timeout_at(slice, Arc::clone(&self.permits).acquire_owned()).await
            {
                return Ok(self.wrap(permit));
            }
            if let Some(permit) = self.try_permit() {
                return Ok(permit);
            }
            if tokio::time::Instant::now() >= deadline {
                self.timeouts.fetch_add(1, Ordering::Relaxed);
                return Err(HandlesExhausted);
            }
        }
    }

    /// A permit, if one is free or an idle handle can be closed for it.
    pub(crate) fn try_permit(&self) -> Option<HandlePermit> {
        let take = || Arc::clone(&self.permits).try_acquire_owned().ok().map(|permit| self.wrap(permit));
        take().or_else(|| (self.close_idle(1) > 0).then(take).flatten())
    }

    fn wrap(&self, permit: OwnedSemaphorePermit) -> HandlePermit {
        HandlePermit { _permit: permit, turnover: Arc::clone(&self.turnover) }
    }

    /// Keeps `handle` open for the asset `id`.
    pub(crate) fn insert(&self, id: u64, handle: Arc<Handle>) {
        self.open.insert(id, handle);
    }

    /// The open handle of the asset `id`; counts as a use of it.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Handle>> {
        self.open.get(id)
    }

    /// Whether the asset `id` has an open handle; does not count as a use.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.open.shard(id).read().contains_key(&id)
    }

    /// Removes the handle of the asset `id`; it closes when no response uses it.
    pub(crate) fn remove(&self, id: u64) {
        let removed = self.open.shard(id).write().remove(&id);
        drop(removed); // Closed without the lock.
    }

    /// Closes up to `count` handles that no response uses, those not used recently first; returns their number.
    pub(crate) fn close_idle(&self, count: usize) -> usize {
        self.open.take_idle(count).len()
    }

    /// Closes handles that have been idle or open for too long.
    pub(crate) fn close_expired(&self, now: Instant) {
        let limits = *self.limits.read();
        drop(self.open.take_expired(now, limits));
    }

    /// Handles that are open now.
    pub(crate) fn in_use(&self) -> usize {
        self.handles.saturating_sub(self.permits.available_permits())
    }

    /// Number of files opened to be sent from, and number of those closed again.
    pub(crate) fn opened_and_closed(&self) -> (u64, u64) {
        (self.turnover.opened.load(Ordering::Relaxed), self.turnover.closed.load(Ordering::Relaxed))
    }

    /// Number of requests that waited for a handle, and number of those that waited in vain.
    pub(crate) fn waits_and_timeouts(&self) -> (u64, u64) {
        (self.waits.load(Ordering::Relaxed), self.timeouts.load(Ordering::Relaxed))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.permit.turnover.closed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Handle {
    pub(crate) fn new(storage: Arc<dyn Storage>, file: OwnedFd, stat: &Stat, permit: HandlePermit) -> Self {
        permit.turnover.opened.fetch_add(1, Ordering::Relaxed);
        Self { storage, file, links: FileStat::from(stat).links, opened: Instant::now(), permit }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The storage that the file is read through.
    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Whether the open file still has the bytes of `version`: one `statx`, which never waits.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn has_bytes_of(&self, version: &Version) -> Result<bool, Errno> {
        Ok(version.has_same_bytes(self.links, &self.storage.stat_cached(self.fd())?))
    }

    /// As [`Self::has_bytes_of`]; false if the disk fails.
    pub(crate) fn is_version(&self, version: &Version) -> bool {
        self.has_bytes_of(version).unwrap_or(false)
    }
}

/// Open handles by asset. A use takes a shared lock on one shard and sets a bit; eviction goes round the shards and skips the
/// handles that were used since its last round (the clock algorithm). With two workers it serves 2 to 3 times the hits of one mutex
/// around an exact LRU order.
struct OpenHandles {
    shards: [RwLock<Shard>; SHARDS],
    /// The shard at which the next eviction begins.
    hand: AtomicUsize,
    started: Instant,
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

impl OpenHandles {
    fn new() -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        Self { shards, hand: AtomicUsize::new(0), started: Instant::now() }
    }

    fn shard(&self, id: u64) -> &RwLock<Shard> {
        &self.shards[usize::try_from(id).unwrap_or(0) % SHARDS]
    }

    fn ms_at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn insert(&self, id: u64, handle: Arc<Handle>) {
        let used_ms = AtomicU64::new(self.ms_at(Instant::now()));
        let open = OpenHandle { handle, used_ms, is_recent: AtomicBool::new(false) };
        let replaced = self.shard(id).write().insert(id, open);
        drop(replaced); // Closed without the lock.
    }

    fn get(&self, id: u64) -> Option<Arc<Handle>> {
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

    /// Removes up to `count` handles that no response uses. The second round finds those that were used before the first.
    fn take_idle(&self, count: usize) -> Vec<Arc<Handle>> {
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
                    return taken;
                }
                let Some((id, open)) = shard.pop_front() else { break };
                if open.is_idle() && !open.is_recent.swap(false, Ordering::Relaxed) {
                    taken.push(open.handle);
                } else {
                    shard.insert(id, open);
                }
            }
        }
        taken
    }

    /// Removes the idle handles that have reached the times of `limits`.
    fn take_expired(&self, now: Instant, limits: HandleLimits) -> Vec<Arc<Handle>> {
        let now_ms = self.ms_at(now);
        let has_expired = |open: &OpenHandle| {
            let idle_ms = u128::from(now_ms.saturating_sub(open.used_ms.load(Ordering::Relaxed)));
            idle_ms >= limits.idle.as_millis()
                || now.saturating_duration_since(open.handle.opened) >= limits.max_age
        };
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
        taken
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
    use crate::files::storage::SystemStorage;

    fn pool(handles: usize) -> HandlePool {
        HandlePool::new(HandleLimits {
            handles,
            wait: Duration::from_millis(60),
            idle: Duration::from_secs(60),
            max_age: Duration::from_secs(600),
        })
    }

    fn open(pool: &HandlePool) -> Arc<Handle> {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        Arc::new(Handle::new(Arc::new(SystemStorage), file.into(), &stat, pool.try_permit().unwrap()))
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
            async move { pool.permit().await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(handle);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_wait_in_vain_ends_after_its_time() {
        let pool = pool(1);
        let _open = open(&pool);
        assert!(pool.permit().await.is_err());
        assert_eq!(pool.waits_and_timeouts(), (1, 1));
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
