//! State that the handles of the access log share with the writer thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use super::counters::{AccessLogCounts, LineCounters};
use super::record::AccessLogRecord;
use super::sampling::Sampling;
use super::sink::Sink;

pub(super) struct SharedLog {
    /// Maximum number of queued records.
    pub(super) capacity: usize,
    pub(super) sampling: Sampling,
    /// Set when a log is configured for the first time.
    pub(super) queue: OnceLock<LogQueue>,
    pub(super) counters: LineCounters,
    commands: Mutex<WriterCommands>,
    has_commands: AtomicBool,
    /// The writer sleeps until it is unparked.
    is_asleep: AtomicBool,
    is_finishing: AtomicBool,
    /// Once the writer is finishing: how long it may wait for a reader that takes no lines.
    finish_deadline: Mutex<Option<Instant>>,
    has_finished: Mutex<bool>,
    finished: Condvar,
}

/// Sending end of the queue, and the thread that reads it.
pub(super) struct LogQueue {
    pub(super) sender: mpsc::Sender<Box<AccessLogRecord>>,
    pub(super) thread: Thread,
}

/// What the writer does before it writes more lines.
#[derive(Default)]
pub(super) struct WriterCommands {
    pub(super) reopens: bool,
    pub(super) sink: Option<Sink>,
}

impl SharedLog {
    pub(super) fn new(capacity: usize, sampling: Sampling) -> Self {
        Self {
            capacity,
            sampling,
            queue: OnceLock::new(),
            counters: LineCounters::default(),
            commands: Mutex::default(),
            has_commands: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            is_finishing: AtomicBool::new(false),
            finish_deadline: Mutex::new(None),
            has_finished: Mutex::new(false),
            finished: Condvar::new(),
        }
    }

    /// Queues a record and wakes the writer if it sleeps. Never waits: with a full queue the record is dropped and counted.
    pub(super) fn push(&self, record: Box<AccessLogRecord>) {
        let Some(queue) = self.queue.get() else { return };
        if queue.sender.try_send(record).is_err() {
            self.counters.count_dropped(1);
        } else if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst) {
            queue.thread.unpark();
        }
    }

    /// Changes what the writer does next. Without a writer thread nothing happens.
    pub(super) fn command(&self, change: impl FnOnce(&mut WriterCommands)) {
        let Some(queue) = self.queue.get() else { return };
        change(&mut self.commands.lock());
        self.has_commands.store(true, Ordering::SeqCst);
        queue.thread.unpark();
    }

    pub(super) fn take_commands(&self) -> WriterCommands {
        if self.has_commands.swap(false, Ordering::SeqCst) {
            std::mem::take(&mut *self.commands.lock())
        } else {
            WriterCommands::default()
        }
    }

    /// True if the writer has something to do other than writing lines.
    pub(super) fn has_commands(&self) -> bool {
        self.has_commands.load(Ordering::SeqCst) || self.is_finishing()
    }

    pub(super) fn set_asleep(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::SeqCst);
    }

    /// Makes the writer write what is queued and end, within [`FINISH_WITHIN`]. Blocks; what is left is dropped and counted.
    pub(super) fn finish(&self) {
        let deadline = Instant::now() + FINISH_WITHIN;
        *self.finish_deadline.lock() = Some(deadline);
        self.is_finishing.store(true, Ordering::SeqCst);
        let Some(queue) = self.queue.get() else { return };
        queue.thread.unpark();
        let mut has_finished = self.has_finished.lock();
        while !*has_finished && !self.finished.wait_until(&mut has_finished, deadline + GRACE).timed_out() {}
        if !*has_finished {
            self.counters.count_dropped(self.queued());
        }
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.is_finishing.load(Ordering::SeqCst)
    }

    /// Called by the writer when it ends.
    pub(super) fn set_finished(&self) {
        *self.has_finished.lock() = true;
        self.finished.notify_all();
    }

    /// True if the writer may keep waiting for a reader that takes no lines: not if it has commands, and not past the
    /// deadline at the end.
    pub(super) fn may_wait(&self) -> bool {
        let has_time = || self.finish_deadline.lock().is_none_or(|deadline| Instant::now() < deadline);
        !self.has_commands.load(Ordering::SeqCst) && has_time()
    }

    pub(super) fn counts(&self) -> AccessLogCounts {
        self.counters.counts(self.queued(), self.capacity as u64)
    }

    fn queued(&self) -> u64 {
        self.queue.get().map_or(0, |queue| (queue.sender.max_capacity() - queue.sender.capacity()) as u64)
    }
}

/// Time for writing queued lines at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The writer notices a little late that its deadline has passed.
const GRACE: Duration = Duration::from_millis(200);
