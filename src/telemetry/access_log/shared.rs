//! State of the access log that the workers share with the writer thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::counters::LineCounters;
use super::record::AccessLogRecord;
use super::sampling::Sampling;
use super::sink::Sink;

/// The access log: a queue that workers fill, and a thread that writes its lines.
pub(crate) struct AccessLog {
    /// Maximum number of queued records.
    pub(crate) capacity: usize,
    pub(super) sampling: Sampling,
    /// Set when a log is configured for the first time.
    pub(super) queue: OnceLock<LogQueue>,
    pub(crate) counters: LineCounters,
    commands: Mutex<WriterCommands>,
    /// The writer sleeps until it is unparked.
    is_asleep: AtomicBool,
    /// Set when the writer is to end: how long it may wait for a reader that takes no lines.
    finish_by: OnceLock<Instant>,
}

/// Sending end of the queue, and the thread that reads it.
pub(super) struct LogQueue {
    pub(super) sender: mpsc::Sender<Box<AccessLogRecord>>,
    pub(super) writer: JoinHandle<()>,
}

/// Commands that the writer executes before it writes more lines.
#[derive(Default)]
pub(super) struct WriterCommands {
    pub(super) reopens: bool,
    pub(super) sink: Option<Sink>,
}

impl AccessLog {
    pub(super) fn new(capacity: usize, sampling: Sampling) -> Self {
        Self {
            capacity,
            sampling,
            queue: OnceLock::new(),
            counters: LineCounters::new(),
            commands: Mutex::default(),
            is_asleep: AtomicBool::new(false),
            finish_by: OnceLock::new(),
        }
    }

    /// Takes a record whose [`ended`](AccessLogRecord::ended) is set, if sampling selects it, and wakes the writer if it sleeps.
    /// Never waits: with a full queue the record is dropped and counted.
    pub(crate) fn write(&self, mut record: Box<AccessLogRecord>) {
        let Some(queue) = self.queue.get().filter(|_| self.sampling.takes(&mut record)) else { return };
        if queue.sender.try_send(record).is_err() {
            self.counters.dropped.add_shared(1);
        } else if self.is_asleep.load(Ordering::SeqCst) && self.is_asleep.swap(false, Ordering::SeqCst) {
            queue.writer.thread().unpark();
        }
    }

    /// Reopens the file by its path, because log rotation renamed it.
    pub(crate) fn reopen(&self) {
        self.command(|commands| commands.reopens = true);
    }

    /// Changes what the writer does next. Without a writer thread nothing happens.
    pub(super) fn command(&self, change: impl FnOnce(&mut WriterCommands)) {
        let Some(queue) = self.queue.get() else { return };
        change(&mut self.commands.lock());
        queue.writer.thread().unpark();
    }

    pub(super) fn take_commands(&self) -> WriterCommands {
        std::mem::take(&mut *self.commands.lock())
    }

    /// True if the writer has something to do other than writing lines.
    pub(super) fn has_commands(&self) -> bool {
        let commands = self.commands.lock();
        commands.reopens || commands.sink.is_some()
    }

    pub(super) fn set_asleep(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::SeqCst);
    }

    /// Makes the writer write what is queued and end, within [`FINISH_WITHIN`]. Blocks; what is left is dropped and counted.
    pub(crate) fn finish(&self) {
        let finish_by = *self.finish_by.get_or_init(|| Instant::now() + FINISH_WITHIN);
        if let Some(LogQueue { writer, .. }) = self.queue.get() {
            writer.thread().unpark();
            // A thread can't be joined with a timeout.
            while !writer.is_finished() && Instant::now() < finish_by + GRACE {
                thread::sleep(CHECK_EVERY);
            }
            self.counters.dropped.add_shared(self.queued());
        }
        self.report_losses(None);
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finish_by.get().is_some()
    }

    /// True if the writer may keep waiting for a reader that takes no lines: not if it has commands, and not past the
    /// deadline at the end.
    pub(super) fn may_wait(&self) -> bool {
        !self.has_commands() && self.finish_by.get().is_none_or(|finish_by| Instant::now() < *finish_by)
    }

    /// Logs how many lines were lost: when the loss begins, then once a minute, without `now` at once. To be called once a
    /// second.
    pub(crate) fn report_losses(&self, now: Option<Instant>) {
        self.counters.report_losses(self.capacity, now);
    }

    /// Number of queued records.
    pub(crate) fn queued(&self) -> u64 {
        self.queue.get().map_or(0, |queue| (queue.sender.max_capacity() - queue.sender.capacity()) as u64)
    }
}

/// Time for writing queued lines at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The writer notices a little late that its deadline has passed.
const GRACE: Duration = Duration::from_millis(200);

/// How often it is checked at the end whether the writer has finished.
const CHECK_EVERY: Duration = Duration::from_millis(1);
