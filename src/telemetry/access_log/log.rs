//! The access log: a line for each request, written when its response has ended. What each field says: docs/access-log.md.
//!
//! | room       | what it knows                                                    |
//! |------------|------------------------------------------------------------------|
//! | `writer`   | the thread that writes                                           |
//! | `target`   | where lines go, whole                                            |
//! | `json`, `combined` | what a line looks like                                   |
//! | `escape`   | what others sent, so that it forges nothing                      |
//! | `clock`    | moments as times of day                                          |
//! | `sampling` | which requests have a line                                       |
//! | `losses`   | how often the diagnostics hear of lines that are lost            |
//!
//! Workers put notes into a bounded queue and never wait: what finds it full is dropped and counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::config::{AccessLogFormat, Config, LogTarget};
use crate::telemetry::access_log::losses::LostLines;
use crate::telemetry::access_log::record::{AccessLogRecord, AccessLogSink};
use crate::telemetry::access_log::sampling::Sampling;
use crate::telemetry::access_log::target::{OpenTarget, WriteResult};
use crate::telemetry::access_log::writer::{LogWriter, Sink};

/// The access log. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct AccessLog {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(super) limit: usize,
    pub(super) sampling: Sampling,
    /// Made once a log is written for the first time.
    pub(super) line: std::sync::OnceLock<LogQueue>,
    pub(super) orders: Mutex<WriterCommands>,
    pub(super) has_orders: AtomicBool,
    /// The thread sleeps until somebody wakes it.
    pub(super) is_asleep: AtomicBool,
    pub(super) is_finishing: AtomicBool,
    /// Until then the thread may wait for whoever does not take lines, once it is to finish.
    pub(super) patience: Mutex<Option<Instant>>,
    pub(super) has_finished: Mutex<bool>,
    pub(super) finished: Condvar,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) losses: LostLines,
}

/// The way to the thread.
pub(crate) struct LogQueue {
    queue: mpsc::Sender<Box<AccessLogRecord>>,
    thread: Thread,
}

/// What the thread is to do before it writes on.
#[derive(Default)]
pub(crate) struct WriterCommands {
    pub(super) reopens: bool,
    pub(super) sink: Option<Sink>,
}

/// What became of the lines since the start, and how many wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AccessLogCounts {
    /// Lines that were written.
    pub(crate) written: u64,
    /// Lines that found the queue full.
    pub(crate) dropped: u64,
    /// Lines that could not be written.
    pub(crate) failed: u64,
    /// Lines that wait.
    pub(crate) queued: u64,
    /// The most lines that may wait.
    pub(crate) limit: u64,
}

/// A target that was opened and is not written to yet.
pub(crate) struct PreparedTarget(Option<(OpenTarget, AccessLogFormat)>);

impl AccessLog {
    /// The log as it is configured; without one there is neither a thread nor a queue.
    ///
    /// # Errors
    /// Where the file can't be opened or the thread not be started.
    pub(crate) fn start(config: &Config) -> io::Result<Self> {
        let inner = Inner {
            limit: config.logging.access_log_queue.as_usize(),
            sampling: Sampling::new(config),
            line: std::sync::OnceLock::new(),
            orders: Mutex::default(),
            has_orders: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            is_finishing: AtomicBool::new(false),
            patience: Mutex::new(None),
            has_finished: Mutex::new(false),
            finished: Condvar::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            losses: LostLines::default(),
        };
        let log = Self { inner: Arc::new(inner) };
        let prepared = log.prepare(&Config::default(), config, config.site.root.as_path())?;
        log.apply(config, prepared)?;
        Ok(log)
    }

    /// Opens what `new` names, where that is another target or format than `old` had. Blocks.
    ///
    /// # Errors
    /// Where the file can't be opened: with its path, for the operator.
    pub(crate) fn prepare(&self, old: &Config, new: &Config, root: &Path) -> io::Result<PreparedTarget> {
        let looks_of =
            |config: &Config| (config.logging.access_log.clone(), config.logging.access_log_format);
        if looks_of(old) == looks_of(new) {
            return Ok(PreparedTarget(None));
        }
        Ok(PreparedTarget(Some((
            OpenTarget::open(&new.logging.access_log, root)?,
            new.logging.access_log_format,
        ))))
    }

    /// From now on `config` holds, and lines go to what was prepared for it. Those that wait are not lost.
    ///
    /// # Errors
    /// Where the first log needs a thread and none can be started.
    pub(crate) fn apply(&self, config: &Config, prepared: PreparedTarget) -> io::Result<()> {
        self.inner.sampling.set(config);
        let Some((target, format)) = prepared.0 else { return Ok(()) };
        let sink = Sink::new(target, format);
        if self.inner.line.get().is_some() {
            self.inner.order(|orders| orders.sink = Some(sink));
        } else if config.logging.access_log != LogTarget::Off {
            self.start_thread(sink)?;
        }
        Ok(())
    }

    /// Opens a file anew, since it was renamed.
    pub(crate) fn reopen(&self) {
        if self.inner.line.get().is_some() {
            self.inner.order(|orders| orders.reopens = true);
        }
    }

    /// Writes what waits, and ends; what can't be written within [`FINISH_WITHIN`] is dropped. Blocks.
    pub(crate) fn finish(&self) {
        let Inner { has_finished, finished, patience, .. } = &*self.inner;
        let until = Instant::now() + FINISH_WITHIN;
        *patience.lock() = Some(until);
        self.inner.is_finishing.store(true, Ordering::SeqCst);
        if let Some(line) = self.inner.line.get() {
            line.thread.unpark();
            let mut is_done = has_finished.lock();
            while !*is_done && !finished.wait_until(&mut is_done, until + GRACE).timed_out() {}
            if !*is_done {
                self.inner.dropped.fetch_add(self.inner.queued(), Ordering::Relaxed);
            }
        }
        self.inner.losses.tell_last(self.counts());
    }

    /// Has the diagnostics hear of lines that were lost, when that begins and once a minute after that. Once a second is often
    /// enough.
    pub(crate) fn tell_losses(&self, now: Instant) {
        self.inner.losses.tell(self.counts(), now);
    }

    /// What became of the lines.
    pub(crate) fn counts(&self) -> AccessLogCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Inner { written, dropped, failed, limit, .. } = &*self.inner;
        AccessLogCounts {
            written: of(written),
            dropped: of(dropped),
            failed: of(failed),
            queued: self.inner.queued(),
            limit: *limit as u64,
        }
    }

    fn start_thread(&self, sink: Sink) -> io::Result<()> {
        let (sender, queue) = mpsc::channel(self.inner.limit);
        let nap = Duration::from_micros(self.inner.limit as u64 / 2).clamp(NAP_MIN, NAP_MAX);
        let writer = LogWriter { inner: Arc::clone(&self.inner), queue, sink, nap };
        let builder = thread::Builder::new().name("pagecast-log".to_owned());
        let thread = builder.spawn(move || writer.run())?.thread().clone();
        let _ = self.inner.line.set(LogQueue { queue: sender, thread });
        Ok(())
    }
}

impl AccessLogSink for AccessLog {
    fn enter(&self, mut note: Box<AccessLogRecord>) {
        let inner = &*self.inner;
        let Some(line) = inner.line.get() else { return };
        if !inner.sampling.takes(&mut note) {
            return;
        }
        if line.queue.try_send(note).is_err() {
            inner.dropped.fetch_add(1, Ordering::Relaxed);
        } else if inner.is_asleep.load(Ordering::SeqCst) && inner.is_asleep.swap(false, Ordering::SeqCst) {
            line.thread.unpark();
        }
    }
}

impl Inner {
    fn order(&self, change: impl FnOnce(&mut WriterCommands)) {
        change(&mut self.orders.lock());
        self.has_orders.store(true, Ordering::SeqCst);
        if let Some(line) = self.line.get() {
            line.thread.unpark();
        }
    }

    pub(crate) fn take_orders(&self) -> WriterCommands {
        if self.has_orders.swap(false, Ordering::SeqCst) {
            std::mem::take(&mut *self.orders.lock())
        } else {
            WriterCommands::default()
        }
    }

    pub(crate) fn has_orders(&self) -> bool {
        self.has_orders.load(Ordering::SeqCst) || self.is_finishing()
    }

    pub(crate) fn set_asleep(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::SeqCst);
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.is_finishing.load(Ordering::SeqCst)
    }

    pub(crate) fn has_finished(&self) {
        *self.has_finished.lock() = true;
        self.finished.notify_all();
    }

    /// Whether the thread may wait on for whoever does not take lines: not once something else is to be done, nor for ever at
    /// the end.
    pub(crate) fn may_wait(&self) -> bool {
        let is_patient = || self.patience.lock().is_none_or(|until| Instant::now() < until);
        !self.has_orders.load(Ordering::SeqCst) && is_patient()
    }

    pub(crate) fn count(&self, written: WriteResult) {
        self.written.fetch_add(written.lines, Ordering::Relaxed);
        if let Some((failed, error)) = written.failed {
            self.failed.fetch_add(failed, Ordering::Relaxed);
            self.losses.note(error);
        }
    }

    fn queued(&self) -> u64 {
        self.line.get().map_or(0, |line| (line.queue.max_capacity() - line.queue.capacity()) as u64)
    }
}

/// What lines that wait at the end may take.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The thread looks up from waiting a little later than its patience ends.
const GRACE: Duration = Duration::from_millis(200);

const NAP_MIN: Duration = Duration::from_micros(200);

const NAP_MAX: Duration = Duration::from_millis(8);
