//! Open files, bounded: a connection pool for file handles.
//!
//! Every open file holds a permit, which returns when the handle closes. Handles that no response uses stay warm, least
//! recently used first to go, until somebody needs their permit, or they have idled or lived too long.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustix::fs::Stat;
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::storage::Storage;
use super::version::{Version, links_of};

/// At most so many files are open at once.
pub(crate) struct HandlePool {
    permits: Arc<Semaphore>,
    warm: Mutex<IdleHandles>,
    handles: usize,
    limits: RwLock<HandleLimits>,
    waits: AtomicU64,
    timeouts: AtomicU64,
    turnover: Arc<Turnover>,
}

/// Handles that came and went.
#[derive(Debug, Default)]
struct Turnover {
    opened: AtomicU64,
    closed: AtomicU64,
}

/// How many handles there may be, and how long each may wait, idle and live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleLimits {
    /// Files open at once.
    pub handles: usize,
    /// How long a request waits for a handle before it is refused.
    pub wait: Duration,
    /// A handle that no response has used for so long is closed.
    pub idle: Duration,
    /// A handle older than this is closed when it is next idle.
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

/// No handle came free in time.
#[derive(Debug)]
pub(crate) struct HandlesExhausted;

impl HandlePool {
    pub(crate) fn new(limits: HandleLimits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.handles)),
            warm: Mutex::new(IdleHandles::default()),
            handles: limits.handles,
            limits: RwLock::new(limits),
            waits: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            turnover: Arc::default(),
        }
    }

    /// From now on handles are waited for, idle and live so long; their number stays.
    pub(crate) fn set_times(&self, limits: HandleLimits) {
        *self.limits.write() = limits;
    }

    /// A permit, waited for if need be. Idle warm handles give theirs up first.
    pub(crate) async fn permit(&self) -> Result<HandlePermit, HandlesExhausted> {
        if let Some(permit) = self.permit_now() {
            return Ok(permit);
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + self.limits.read().wait;
        loop {
            // In slices: a handle that turns idle while we wait stays warm, and is closed for us only when we look.
            let slice = deadline.min(tokio::time::Instant::now() + LOOK_AGAIN_AFTER);
            if let Ok(Ok(permit)) =
                tokio::time::timeout_at(slice, Arc::clone(&self.permits).acquire_owned()).await
            {
                return Ok(self.of(permit));
            }
            if let Some(permit) = self.permit_now() {
                return Ok(permit);
            }
            if tokio::time::Instant::now() >= deadline {
                self.timeouts.fetch_add(1, Ordering::Relaxed);
                return Err(HandlesExhausted);
            }
        }
    }

    /// A permit, if one is free or can be freed at once.
    pub(crate) fn permit_now(&self) -> Option<HandlePermit> {
        let take = || Arc::clone(&self.permits).try_acquire_owned().ok().map(|permit| self.of(permit));
        take().or_else(|| (self.close_idle(1) > 0).then(take).flatten())
    }

    fn of(&self, permit: OwnedSemaphorePermit) -> HandlePermit {
        HandlePermit { _permit: permit, turnover: Arc::clone(&self.turnover) }
    }

    /// Keeps `handle` warm for the asset `id`.
    pub(crate) fn keep(&self, id: u64, handle: Arc<Handle>) {
        self.warm.lock().insert(id, handle);
    }

    /// The warm handle of the asset `id`, which becomes the most recently used.
    pub(crate) fn warm(&self, id: u64) -> Option<Arc<Handle>> {
        self.warm.lock().touch(id)
    }

    /// Whether the asset `id` has a warm handle; that is no use of it.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.warm.lock().by_id.contains_key(&id)
    }

    /// Lets the warm handle of the asset `id` go.
    pub(crate) fn forget(&self, id: u64) {
        let gone = self.warm.lock().remove(id);
        drop(gone); // Closed outside the lock.
    }

    /// Closes up to `count` warm handles that no response uses, least recently used first; returns how many.
    pub(crate) fn close_idle(&self, count: usize) -> usize {
        let closing = self.warm.lock().take_idle(count, |_, _| true);
        closing.len()
    }

    /// Closes idle handles that have idled or lived too long.
    pub(crate) fn sweep(&self, now: Instant) {
        let limits = *self.limits.read();
        let closing = self.warm.lock().take_idle(usize::MAX, |used, handle| {
            now.saturating_duration_since(used) >= limits.idle
                || now.saturating_duration_since(handle.opened) >= limits.max_age
        });
        drop(closing);
    }

    /// Handles that are open now.
    pub(crate) fn in_use(&self) -> usize {
        self.handles.saturating_sub(self.permits.available_permits())
    }

    /// Files that were opened to be sent from, and those that were closed again.
    pub(crate) fn opened_and_closed(&self) -> (u64, u64) {
        (self.turnover.opened.load(Ordering::Relaxed), self.turnover.closed.load(Ordering::Relaxed))
    }

    /// How often a request had to wait for a handle, and how often in vain.
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
        Self { storage, file, links: links_of(stat), opened: Instant::now(), permit }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What the open file is read through.
    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Whether the open file is still the bytes that `version` was: one `fstat`.
    pub(crate) fn still_is(&self, version: &Version) -> bool {
        self.look(version).unwrap_or(false)
    }

    /// As [`Self::still_is`].
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn look(&self, version: &Version) -> Result<bool, Errno> {
        Ok(version.still_is(self.links, &self.storage.fstat(self.fd())?))
    }
}

/// The warm handles, by asset and by last use.
#[derive(Default)]
struct IdleHandles {
    by_id: HashMap<u64, Kept, foldhash::fast::RandomState>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

struct Kept {
    handle: Arc<Handle>,
    used: Instant,
    stamp: u64,
}

impl IdleHandles {
    fn insert(&mut self, id: u64, handle: Arc<Handle>) {
        self.remove(id);
        let stamp = self.next_stamp();
        self.by_use.insert(stamp, id);
        self.by_id.insert(id, Kept { handle, used: Instant::now(), stamp });
    }

    fn touch(&mut self, id: u64) -> Option<Arc<Handle>> {
        let stamp = self.next_stamp();
        let kept = self.by_id.get_mut(&id)?;
        self.by_use.remove(&kept.stamp);
        self.by_use.insert(stamp, id);
        kept.stamp = stamp;
        kept.used = Instant::now();
        Some(Arc::clone(&kept.handle))
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Handle>> {
        let kept = self.by_id.remove(&id)?;
        self.by_use.remove(&kept.stamp);
        Some(kept.handle)
    }

    fn take_idle(&mut self, count: usize, wanted: impl Fn(Instant, &Handle) -> bool) -> Vec<Arc<Handle>> {
        let idle = |id: &u64| {
            self.by_id
                .get(id)
                .is_some_and(|kept| Arc::strong_count(&kept.handle) == 1 && wanted(kept.used, &kept.handle))
        };
        let ids: Vec<u64> = self.by_use.values().filter(|id| idle(id)).take(count).copied().collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn next_stamp(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

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
        Arc::new(Handle::new(Arc::new(SystemStorage), file.into(), &stat, pool.permit_now().unwrap()))
    }

    #[test]
    fn a_closed_handle_returns_its_permit() {
        let pool = pool(1);
        let handle = open(&pool);
        assert!(pool.permit_now().is_none());
        drop(handle);
        assert!(pool.permit_now().is_some());
    }

    #[test]
    fn the_least_recently_used_idle_handle_gives_its_permit_up() {
        let pool = pool(2);
        pool.keep(1, open(&pool));
        pool.keep(2, open(&pool));
        assert!(pool.warm(1).is_some());
        assert!(pool.permit_now().is_some());
        assert!(pool.warm(2).is_none());
        assert!(pool.warm(1).is_some());
    }

    #[test]
    fn a_handle_in_use_is_not_taken_away() {
        let pool = pool(1);
        let handle = open(&pool);
        pool.keep(1, Arc::clone(&handle));
        assert!(pool.permit_now().is_none());
        drop(handle);
        assert!(pool.permit_now().is_some());
    }

    #[tokio::test]
    async fn a_wait_ends_when_a_warm_handle_turns_idle() {
        let pool = Arc::new(pool(1));
        let handle = open(&pool);
        pool.keep(1, Arc::clone(&handle));
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.permit().await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(handle);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_wait_that_finds_nothing_ends_after_its_time() {
        let pool = pool(1);
        let _held = open(&pool);
        assert!(pool.permit().await.is_err());
        assert_eq!(pool.waits_and_timeouts(), (1, 1));
    }

    #[test]
    fn handles_that_idled_too_long_are_swept() {
        let pool = pool(2);
        pool.keep(1, open(&pool));
        pool.sweep(Instant::now());
        assert_eq!(pool.in_use(), 1);
        pool.sweep(Instant::now() + Duration::from_secs(61));
        assert_eq!(pool.in_use(), 0);
    }
}
