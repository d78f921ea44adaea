//! Threads that compute digests and encode: short and long files have separate ones, so that the digest of a page does not
//! wait behind those of disk images.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::sys::blocking_pool::BlockingPool;

/// Two queues of one kind of task: for short and for long files.
pub(crate) struct BackgroundQueues {
    short: BackgroundQueue,
    long: BackgroundQueue,
    long_from: u64,
}

/// Threads, and the slots of tasks that wait for one or run.
pub(crate) struct BackgroundQueue {
    pool: BlockingPool,
    slots: Arc<Semaphore>,
}

/// A slot in a queue, until it is dropped.
pub(crate) type QueueSlot = OwnedSemaphorePermit;

impl BackgroundQueues {
    /// Slots of both queues.
    pub(crate) const SLOTS: usize = 2 * SLOTS;

    /// Two queues of `threads` threads each, named `name`; files of `long_from` bytes and more use the second.
    ///
    /// # Errors
    /// If threads can't be started.
    pub(crate) fn new(name: &str, threads: usize, long_from: u64) -> io::Result<Self> {
        let queue = || {
            let pool = BlockingPool::new(name, threads, NICENESS)?;
            Ok::<_, io::Error>(BackgroundQueue { pool, slots: Arc::new(Semaphore::new(SLOTS)) })
        };
        Ok(Self { short: queue()?, long: queue()?, long_from })
    }

    /// The queue for a file of `length` bytes.
    pub(crate) fn queue_for(&self, length: u64) -> &BackgroundQueue {
        if length < self.long_from { &self.short } else { &self.long }
    }

    /// Slots that are taken.
    pub(crate) fn taken(&self) -> usize {
        Self::SLOTS - self.short.slots.available_permits() - self.long.slots.available_permits()
    }
}

impl BackgroundQueue {
    /// A slot, if one is free now.
    pub(crate) fn try_reserve(&self) -> Option<QueueSlot> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Runs `job` on a thread of the queue. A job whose handle is dropped still runs to its end.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        self.pool.run(job)
    }
}

/// Tasks that may wait or run in one queue; further ones are started by a later request.
const SLOTS: usize = 1024;

/// Background tasks have the lowest priority but for idle ones.
const NICENESS: i32 = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_short_file_does_not_wait_behind_long_ones() {
        let queues = BackgroundQueues::new("queues", 1, 100).unwrap();
        let (release, released) = channel::<()>();
        let (sender, receiver) = channel();
        let long = queues.queue_for(100).run(move || released.recv().is_ok());
        queues.queue_for(99).run(move || sender.send("short"));
        assert_eq!(receiver.recv().unwrap(), "short");
        assert!(!long.is_finished());
        release.send(()).unwrap();
    }

    #[test]
    fn a_full_queue_leaves_the_other_its_slots() {
        let queues = BackgroundQueues::new("queues", 1, 100).unwrap();
        let mut taken: Vec<QueueSlot> =
            std::iter::from_fn(|| queues.queue_for(u64::MAX).try_reserve()).collect();
        assert_eq!((taken.len(), queues.taken()), (SLOTS, SLOTS));
        assert!(queues.queue_for(0).try_reserve().is_some());
        taken.pop();
        assert!(queues.queue_for(100).try_reserve().is_some());
    }
}
