//! Mappings, and the thread that unmaps them: not a worker, since unmapping a large file interrupts every thread of the process,
//! and takes longer the more of it was in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Mapping, Storage};

/// A mapping that is handed to the [`Unmapper`] when dropped.
pub(crate) struct Mapped {
    /// Taken by `drop` alone.
    mapping: Option<Mapping>,
    unmapper: Arc<Unmapper>,
}

/// A thread that unmaps mappings in batches. Ends when dropped.
///
/// Decision: docs/decisions/011-unmapping-thread.md.
pub(crate) struct Unmapper {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    waiting_bytes: AtomicU64,
    in_place: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    mappings: Vec<Mapping>,
    is_over: bool,
}

impl Mapped {
    pub(crate) fn new(mapping: Mapping, unmapper: &Arc<Unmapper>) -> Self {
        Self { mapping: Some(mapping), unmapper: Arc::clone(unmapper) }
    }

    /// The mapping; `Some` until drop.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(mapping) = self.mapping.take() {
            self.unmapper.unmap_later(mapping);
        }
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.mapping.fmt(f)
    }
}

impl Unmapper {
    /// Unmaps through `storage`. If the thread can't be started, mappings are unmapped where they are dropped.
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        let shared = Arc::new(Shared {
            storage,
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            waiting_bytes: AtomicU64::new(0),
            in_place: AtomicU64::new(0),
        });
        let job = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("pagecast-unmap".to_owned());
        if let Err(error) = thread.spawn(move || job.run()) {
            log::warn!("no thread for unmapping ({error}): workers unmap files themselves");
            shared.waiting.lock().is_over = true;
        }
        Self { shared }
    }

    /// Unmaps all waiting mappings on this thread. Blocks.
    pub(crate) fn unmap_now(&self) {
        self.shared.unmap(std::mem::take(&mut self.shared.waiting.lock().mappings));
    }

    /// Bytes of mappings that wait to be unmapped.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.shared.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Number of mappings that were unmapped where they were dropped, since too many waited.
    pub(crate) fn in_place(&self) -> u64 {
        self.shared.in_place.load(Ordering::Relaxed)
    }

    fn unmap_later(&self, mapping: Mapping) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.is_over || waiting.mappings.len() >= WAITING_MAX {
            drop(waiting);
            self.shared.in_place.fetch_add(1, Ordering::Relaxed);
            return self.shared.storage.unmap(mapping);
        }
        self.shared.waiting_bytes.fetch_add(mapping.len() as u64, Ordering::Relaxed);
        waiting.mappings.push(mapping);
        if waiting.mappings.len() == 1 {
            self.shared.arrived.notify_one();
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            while waiting.mappings.is_empty() {
                if waiting.is_over {
                    return;
                }
                self.arrived.wait(&mut waiting);
            }
            if !waiting.is_over {
                // Evictions come in bursts: one wake-up handles a burst.
                drop(waiting);
                std::thread::sleep(GATHER);
                waiting = self.waiting.lock();
            }
            let batch = std::mem::take(&mut waiting.mappings);
            drop(waiting);
            self.unmap(batch);
        }
    }

    fn unmap(&self, batch: Vec<Mapping>) {
        for mapping in batch {
            let length = mapping.len() as u64;
            self.storage.unmap(mapping);
            self.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
        }
    }
}

impl Drop for Unmapper {
    fn drop(&mut self) {
        self.shared.waiting.lock().is_over = true;
        self.shared.arrived.notify_one();
    }
}

/// Most mappings that wait: each still counts against the system's limit on mappings.
const WAITING_MAX: usize = 1024;

const GATHER: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::storage::{Call, Faulty, InjectedFault, When};
    use std::os::fd::AsFd;
    use std::time::Instant;

    fn mapped(disk: &Arc<Faulty>, unmapper: &Arc<Unmapper>) -> Mapped {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        Mapped::new(disk.map(file.as_fd(), 10).unwrap(), unmapper)
    }

    fn wait_for(disk: &Faulty, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while disk.count(Call::Unmap) < count {
            assert!(Instant::now() < deadline, "{} of {count}", disk.count(Call::Unmap));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn mappings_are_unmapped_by_another_thread() {
        let disk = Faulty::new();
        let unmapper = Arc::new(Unmapper::new(disk.clone()));
        drop([mapped(&disk, &unmapper), mapped(&disk, &unmapper)]);
        wait_for(&disk, 2);
        assert!(disk.seen(Call::Unmap).iter().all(|seen| seen.thread == "pagecast-unmap"));
        drop(unmapper);
    }

    #[test]
    fn mappings_beyond_the_bound_are_unmapped_where_they_are_dropped() {
        let disk = Faulty::new();
        let unmapper = Arc::new(Unmapper::new(disk.clone()));
        disk.inject(When::every(Call::Unmap).times(1), InjectedFault::Hang);
        drop(mapped(&disk, &unmapper));
        assert!(disk.wait_until_hanging(1, Duration::from_secs(20)));
        for _ in 0..WAITING_MAX + 2 {
            drop(mapped(&disk, &unmapper));
        }
        assert_eq!((unmapper.in_place(), unmapper.waiting_bytes()), (2, 10 * (1 + WAITING_MAX as u64)));
        unmapper.unmap_now();
        assert_eq!(unmapper.waiting_bytes(), 10, "the one that hangs");
        disk.heal();
        drop(mapped(&disk, &unmapper));
        drop(unmapper);
        wait_for(&disk, WAITING_MAX as u64 + 4);
    }
}
