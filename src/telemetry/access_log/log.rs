//! The access log: one line per request, written when its response has ended. Fields: docs/access-log.md.
//!
//! Workers put records into a bounded queue and never wait. If the queue is full, the record is dropped and counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::counters::AccessLogCounts;
use super::record::AccessLogRecord;
use super::sampling::Sampling;
use super::shared::{LogQueue, SharedLog};
use super::sink::Sink;
use super::target::OpenTarget;
use super::writer::LogWriter;
use crate::config::{AccessLogFormat, Config, LogTarget};

/// Handle of the access log. Clones share one queue and one writer thread.
#[derive(Clone)]
pub(crate) struct AccessLog {
    shared: Arc<SharedLog>,
}

/// A target that is open but not written to yet.
pub(crate) struct PreparedTarget(Option<(OpenTarget, AccessLogFormat)>);

impl AccessLog {
    /// Starts the log that `config` describes. If it is off, there is neither a thread nor a queue.
    ///
    /// # Errors
    /// If the file can't be opened or the thread can't be started.
    pub(crate) fn start(config: &Config) -> io::Result<Self> {
        let shared = SharedLog::new(config.logging.access_log_queue.as_usize(), Sampling::new(config));
        let log = Self { shared: Arc::new(shared) };
        let prepared = log.prepare(&Config::default(), config, config.site.root.as_path())?;
        log.apply(config, prepared)?;
        Ok(log)
    }

    /// Opens the target of `new` if its target or format differs from that of `old`. Blocks.
    ///
    /// # Errors
    /// If the file can't be opened; the error names its path.
    pub(crate) fn prepare(&self, old: &Config, new: &Config, root: &Path) -> io::Result<PreparedTarget> {
        let target_of =
            |config: &Config| (config.logging.access_log.clone(), config.logging.access_log_format);
        if target_of(old) == target_of(new) {
            return Ok(PreparedTarget(None));
        }
        Ok(PreparedTarget(Some((
            OpenTarget::open(&new.logging.access_log, root)?,
            new.logging.access_log_format,
        ))))
    }

    /// Puts `config` and its prepared target into effect. Queued lines go to the new target.
    ///
    /// # Errors
    /// If the writer thread is needed for the first time and can't be started.
    pub(crate) fn apply(&self, config: &Config, prepared: PreparedTarget) -> io::Result<()> {
        self.shared.sampling.set(config);
        let Some((target, format)) = prepared.0 else { return Ok(()) };
        let sink = Sink::new(target, format);
        if self.shared.queue.get().is_some() {
            self.shared.command(|commands| commands.sink = Some(sink));
        } else if config.logging.access_log != LogTarget::Off {
            self.start_thread(sink)?;
        }
        Ok(())
    }

    /// Reopens the file by its path, because log rotation renamed it.
    pub(crate) fn reopen(&self) {
        self.shared.command(|commands| commands.reopens = true);
    }

    /// Writes queued lines and ends the thread. Blocks for a few seconds at most; lines left then are dropped.
    pub(crate) fn finish(&self) {
        self.shared.finish();
        self.shared.counters.report_losses(self.counts(), None);
    }

    /// Logs how many lines were lost: when the loss begins, then once a minute. To be called once a second.
    pub(crate) fn report_losses(&self, now: Instant) {
        self.shared.counters.report_losses(self.counts(), Some(now));
    }

    /// Counts of lines.
    pub(crate) fn counts(&self) -> AccessLogCounts {
        self.shared.counts()
    }

    /// Takes a record whose [`ended`](AccessLogRecord::ended) is set. Called on workers; never waits.
    pub(crate) fn write(&self, mut record: Box<AccessLogRecord>) {
        if self.shared.queue.get().is_some() && self.shared.sampling.takes(&mut record) {
            self.shared.push(record);
        }
    }

    fn start_thread(&self, sink: Sink) -> io::Result<()> {
        let (sender, queue) = mpsc::channel(self.shared.capacity);
        let nap = Duration::from_micros(self.shared.capacity as u64 / 2).clamp(NAP_MIN, NAP_MAX);
        let writer = LogWriter { shared: Arc::clone(&self.shared), queue, sink, nap };
        let builder = thread::Builder::new().name("pagecast-log".to_owned());
        let thread = builder.spawn(move || writer.run())?.thread().clone();
        let _ = self.shared.queue.set(LogQueue { sender, thread });
        Ok(())
    }
}

const NAP_MIN: Duration = Duration::from_micros(200);

const NAP_MAX: Duration = Duration::from_millis(8);
