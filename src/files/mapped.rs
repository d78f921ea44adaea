//! Mappings, and the thread that unmaps them: not a worker, since unmapping a large file interrupts every thread of the process,
//! and takes longer the more of it was in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Mapping, Storage};
use crate::telemetry::metrics::counter::Counter;

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
    /// Has no other end if the thread could not be started.
    sender: Sender<Mapping>,
    waiting: Arc<WaitingMappings>,
    /// Number of mappings that were unmapped where they were dropped, since too many waited.
    pub(crate) in_place: Counter,
}

struct WaitingMappings {
    storage: Arc<dyn Storage>,
    mappings: Receiver<Mapping>,
    bytes: AtomicU64,
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

impl Unmapper {
    /// Unmaps through `storage`. If the thread can't be started, mappings are unmapped where they are dropped.
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        let (mut sender, mappings) = bounded(WAITING_MAX);
        let waiting = Arc::new(WaitingMappings { storage, mappings, bytes: AtomicU64::new(0) });
        let job = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name("pagecast-unmap".to_owned());
        if let Err(error) = thread.spawn(move || job.run()) {
            log::warn!("no thread for unmapping ({error}): workers unmap files themselves");
            sender = bounded(0).0;
        }
        Self { sender, waiting, in_place: Counter::default() }
    }

    /// Unmaps all waiting mappings on this thread. Blocks.
    pub(crate) fn unmap_now(&self) {
        self.waiting.mappings.try_iter().for_each(|mapping| self.waiting.unmap(mapping));
    }

    /// Bytes of mappings that wait to be unmapped.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting.bytes.load(Ordering::Relaxed)
    }

    fn unmap_later(&self, mapping: Mapping) {
        self.waiting.bytes.fetch_add(mapping.len() as u64, Ordering::Relaxed);
        if let Err(unsent) = self.sender.try_send(mapping) {
            self.in_place.add_shared(1);
            self.waiting.unmap(unsent.into_inner());
        }
    }
}

impl WaitingMappings {
    fn run(&self) {
        while let Ok(mapping) = self.mappings.recv() {
            self.unmap(mapping);
            // Evictions come in bursts: one wake-up handles a burst. Meanwhile all wait where `unmap_now` finds them.
            std::thread::sleep(GATHER);
            self.mappings.try_iter().for_each(|mapping| self.unmap(mapping));
        }
    }

    fn unmap(&self, mapping: Mapping) {
        let length = mapping.len() as u64;
        self.storage.unmap(mapping);
        self.bytes.fetch_sub(length, Ordering::Relaxed);
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
        assert_eq!((unmapper.in_place.get(), unmapper.waiting_bytes()), (2, 10 * (1 + WAITING_MAX as u64)));
        unmapper.unmap_now();
        assert_eq!(unmapper.waiting_bytes(), 10, "the one that hangs");
        disk.heal();
        drop(mapped(&disk, &unmapper));
        drop(unmapper);
        wait_for(&disk, WAITING_MAX as u64 + 4);
    }
}
