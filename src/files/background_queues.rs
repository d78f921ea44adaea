//! Threads for what is computed of whole files: short files and long ones each have their own, so that nobody waits for a
//! checksum of one page behind those of a shelf of images.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::sys::blocking_pool::BlockingPool;

/// One kind of work, in two lanes.
pub(crate) struct BackgroundQueues {
    short: BackgroundQueue,
    long: BackgroundQueue,
    long_from: u64,
}

/// Threads, and the places before and on them.
pub(crate) struct BackgroundQueue {
    pool: BlockingPool,
    places: Arc<Semaphore>,
}

/// A place in a lane, until it is dropped.
pub(crate) type QueueSlot = OwnedSemaphorePermit;

impl BackgroundQueues {
    /// Places of both lanes.
    pub(crate) const PLACES: usize = 2 * PLACES;

    /// Two lanes of `threads` threads each, named `name`; files of `long_from` bytes and more take the second.
    ///
    /// # Errors
    /// Where threads can't be had.
    pub(crate) fn new(name: &str, threads: usize, long_from: u64) -> io::Result<Self> {
        let lane = || {
            let pool = BlockingPool::new(name, threads, NICENESS)?;
            Ok::<_, io::Error>(BackgroundQueue { pool, places: Arc::new(Semaphore::new(PLACES)) })
        };
        Ok(Self { short: lane()?, long: lane()?, long_from })
    }

    /// The lane for a file of `length` bytes.
    pub(crate) fn of(&self, length: u64) -> &BackgroundQueue {
        if length < self.long_from { &self.short } else { &self.long }
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        Self::PLACES - self.short.places.available_permits() - self.long.places.available_permits()
    }
}

impl BackgroundQueue {
    /// A place, if one is free now.
    pub(crate) fn place(&self) -> Option<QueueSlot> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Runs `job` when its turn comes, whether or not anybody still waits.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.pool.run(job)
    }
}

/// What may wait or be under way in one lane; what comes on top is asked for again by a later request.
const PLACES: usize = 1024;

/// What is computed in the background gives way to all else.
const NICENESS: i32 = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_short_file_does_not_wait_behind_long_ones() {
        let lanes = BackgroundQueues::new("lanes", 1, 100).unwrap();
        let (release, held) = channel::<()>();
        let (tell, told) = channel();
        let long = lanes.of(100).run(move || held.recv().is_ok());
        lanes.of(99).run(move || tell.send("short"));
        assert_eq!(told.recv().unwrap(), "short");
        assert!(!long.is_finished());
        release.send(()).unwrap();
    }

    #[test]
    fn a_lane_without_a_place_leaves_the_other_its_places() {
        let lanes = BackgroundQueues::new("lanes", 1, 100).unwrap();
        let mut taken: Vec<QueueSlot> = std::iter::from_fn(|| lanes.of(u64::MAX).place()).collect();
        assert_eq!((taken.len(), lanes.taken()), (PLACES, PLACES));
        assert!(lanes.of(0).place().is_some());
        taken.pop();
        assert!(lanes.of(100).place().is_some());
    }
}
