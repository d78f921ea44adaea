//! Threads that compute digests and encode: short and long files have separate ones, so that the digest of a page does not
//! wait behind those of disk images.

use std::io;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::sys::blocking_pool::BlockingPool;
use crate::telemetry::metrics::counter::{Counter, CounterArray};

/// Two queues of one kind of task: for short and for long files.
pub(crate) struct BackgroundQueues {
    short: Arc<BackgroundQueue>,
    long: Arc<BackgroundQueue>,
    long_from: u64,
    outcomes: CounterArray<5>,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskOutcome {
    /// With a result that is cached until it is evicted.
    Kept,
    /// With a result that is not worth keeping, now or later.
    Useless,
    /// It panicked: the same bytes may panic again, so it is tried again less and less often.
    Panicked,
    /// With nothing, without work that a repetition would waste.
    Nothing,
    /// The disk failed: it is not tried again for every request.
    Failed,
}

/// Counts of one kind of background task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCounts {
    /// Tasks with a result.
    pub done: u64,
    /// Tasks whose result is not worth keeping.
    pub useless: u64,
    /// Tasks that failed, or whose file changed meanwhile.
    pub failed: u64,
    /// Tasks that wait or run.
    pub under_way: u64,
    /// Most tasks that may wait or run.
    pub limit: u64,
}

/// Threads, and the slots of tasks that wait for one or run.
struct BackgroundQueue {
    pool: BlockingPool,
    slots: Arc<Semaphore>,
}

/// A slot in a queue, until it is dropped or its job has ended.
pub(crate) struct QueueSlot {
    queue: Arc<BackgroundQueue>,
    permit: OwnedSemaphorePermit,
}

impl BackgroundQueues {
    /// Two queues of `threads` threads each, named `name`; files of `long_from` bytes and more use the second.
    ///
    /// # Errors
    /// If threads can't be started.
    pub(crate) fn new(name: &str, threads: usize, long_from: u64) -> io::Result<Self> {
        let queue = || {
            let pool = BlockingPool::new(name, threads, NICENESS)?;
            Ok::<_, io::Error>(Arc::new(BackgroundQueue { pool, slots: Arc::new(Semaphore::new(SLOTS)) }))
        };
        Ok(Self { short: queue()?, long: queue()?, long_from, outcomes: Default::default() })
    }

    /// A slot for a file of `length` bytes, if one is free now.
    pub(crate) fn try_reserve(&self, length: u64) -> Option<QueueSlot> {
        let queue = if length < self.long_from { &self.short } else { &self.long };
        let permit = Arc::clone(&queue.slots).try_acquire_owned().ok()?;
        Some(QueueSlot { queue: Arc::clone(queue), permit })
    }

    /// Counts a task that has ended.
    pub(crate) fn count(&self, outcome: TaskOutcome) {
        self.outcomes[outcome as usize].add_shared(1);
    }

    pub(crate) fn counts(&self) -> WorkCounts {
        let [done, useless, panicked, nothing, failed] = self.outcomes.each_ref().map(Counter::get);
        let failed = panicked + nothing + failed;
        let slots = 2 * SLOTS;
        let free = self.short.slots.available_permits() + self.long.slots.available_permits();
        WorkCounts { done, useless, failed, under_way: (slots - free) as u64, limit: slots as u64 }
    }
}

impl QueueSlot {
    /// Runs `job` on a thread of the queue. A job whose handle is dropped still runs to its end.
    pub(crate) fn run<T: Send + 'static>(self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let Self { queue, permit } = self;
        queue.pool.run(move || {
            let _permit = permit;
            job()
        })
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
        let long = queues.try_reserve(100).unwrap().run(move || released.recv().is_ok());
        queues.try_reserve(99).unwrap().run(move || sender.send("short"));
        assert_eq!(receiver.recv().unwrap(), "short");
        assert!(!long.is_finished());
        release.send(()).unwrap();
    }

    #[test]
    fn a_full_queue_leaves_the_other_its_slots() {
        let queues = BackgroundQueues::new("queues", 1, 100).unwrap();
        let mut taken: Vec<QueueSlot> = std::iter::from_fn(|| queues.try_reserve(u64::MAX)).collect();
        assert_eq!((taken.len(), queues.counts().under_way), (SLOTS, SLOTS as u64));
        assert!(queues.try_reserve(0).is_some());
        taken.pop();
        assert!(queues.try_reserve(100).is_some());
    }
}
