//! The writer thread: takes queued records, renders them and writes them with few system calls.
//!
//! Under load nobody wakes it. It naps between two batches for a time too short for the queue to fill. Only if nothing has
//! arrived for a while does it sleep until a worker wakes it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::record::AccessLogRecord;
use super::shared::AccessLog;
use super::sink::Sink;

/// State of the writer thread.
///
/// Decision: docs/decisions/010-access-log-thread.md.
pub(super) struct LogWriter {
    pub(super) log: Arc<AccessLog>,
    pub(super) queue: Receiver<Box<AccessLogRecord>>,
    pub(super) sink: Sink,
    /// How long it naps between two batches.
    pub(super) nap: Duration,
}

impl LogWriter {
    /// Writes lines until the log is finishing and the queue is empty.
    pub(super) fn run(mut self) {
        let mut lines = Vec::with_capacity(BATCH_BYTES);
        let mut active_at = Instant::now();
        loop {
            let is_last = self.log.is_finishing();
            self.run_commands();
            lines.clear();
            let has_more = self.take(&mut lines);
            if !lines.is_empty() {
                self.write(&lines);
                active_at = Instant::now();
            }
            if has_more {
                continue;
            }
            if is_last {
                return;
            }
            self.rest(active_at);
        }
    }

    /// Renders queued records, up to one batch. Returns true if more may be queued.
    fn take(&mut self, lines: &mut Vec<u8>) -> bool {
        self.sink.clock.set();
        while lines.len() < BATCH_BYTES {
            let Ok(record) = self.queue.try_recv() else { return false };
            self.sink.render(lines, &record);
        }
        true
    }

    fn write(&mut self, lines: &[u8]) {
        let Self { log, sink, .. } = self;
        let written = sink.target.write(lines, || log.may_wait());
        log.counters.count_written(written);
    }

    fn run_commands(&mut self) {
        let commands = self.log.take_commands();
        if let Some(sink) = commands.sink {
            self.sink = sink;
        }
        if commands.reopens {
            match self.sink.target.reopen() {
                Ok(Some(path)) => log::info!("access log: {} reopened", path.display()),
                Ok(None) => {}
                Err(error) => log::error!("access log: {error}; lines still go to the old file"),
            }
        }
    }

    fn rest(&self, active_at: Instant) {
        if active_at.elapsed() < AWAKE_FOR {
            return thread::park_timeout(self.nap);
        }
        self.log.set_asleep(true);
        if self.queue.is_empty() && !self.log.has_commands() && !self.log.is_finishing() {
            // A wake-up can be missed: the sleep ends by itself.
            thread::park_timeout(SLEEP_MAX);
        }
        self.log.set_asleep(false);
    }
}

/// Bytes of lines per batch.
const BATCH_BYTES: usize = 128 * 1024;

/// How long the thread naps instead of sleeping after it last wrote lines.
const AWAKE_FOR: Duration = Duration::from_millis(100);

const SLEEP_MAX: Duration = Duration::from_secs(1);
