//! The thread that writes: it takes what waits, renders it and writes it in as few calls as it can.
//!
//! Under load nobody wakes it: it naps between two looks, for so short a time that the queue can't fill up meanwhile. Only where
//! nothing has come for a while does it sleep until a worker wakes it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

use super::clock::{COMMON, Clock, RFC_3339};
use super::log::Inner;
use super::target::OpenTarget;
use super::{combined, json};
use crate::config::AccessLogFormat;
use crate::telemetry::access_log::record::AccessLogRecord;

/// What the thread has.
pub(super) struct LogWriter {
    pub(super) inner: Arc<Inner>,
    pub(super) queue: Receiver<Box<AccessLogRecord>>,
    pub(super) sink: Sink,
    /// How long it naps.
    pub(super) nap: Duration,
}

/// Where lines go, and how they look.
pub(super) struct Sink {
    target: OpenTarget,
    format: AccessLogFormat,
    clock: Clock,
}

impl Sink {
    pub(super) fn new(target: OpenTarget, format: AccessLogFormat) -> Self {
        let pattern = match format {
            AccessLogFormat::Json => RFC_3339,
            AccessLogFormat::Combined => COMMON,
        };
        Self { target, format, clock: Clock::new(pattern) }
    }

    fn render(&mut self, out: &mut Vec<u8>, note: &AccessLogRecord) {
        let Some(ended) = &note.ended else { return };
        match self.format {
            AccessLogFormat::Json => json::write(out, note, ended, &mut self.clock),
            AccessLogFormat::Combined => combined::write(out, note, ended, &mut self.clock),
        }
    }
}

impl LogWriter {
    /// Writes until it is told to finish and nothing is left.
    pub(super) fn run(mut self) {
        let mut lines = Vec::with_capacity(BATCH_BYTES);
        let mut busy_at = Instant::now();
        loop {
            let is_last = self.inner.is_finishing();
            self.heed_orders();
            lines.clear();
            let is_more = self.take(&mut lines);
            if !lines.is_empty() {
                self.write(&lines);
                busy_at = Instant::now();
            }
            if is_more {
                continue;
            }
            if is_last {
                return self.inner.has_finished();
            }
            self.rest(busy_at);
        }
    }

    /// Renders what waits, up to one batch; true where more may wait.
    fn take(&mut self, lines: &mut Vec<u8>) -> bool {
        self.sink.clock.set();
        while lines.len() < BATCH_BYTES {
            let Ok(note) = self.queue.try_recv() else { return false };
            self.sink.render(lines, &note);
        }
        true
    }

    fn write(&mut self, lines: &[u8]) {
        let Self { inner, sink, .. } = self;
        let written = sink.target.write(lines, || inner.may_wait());
        inner.count(written);
    }

    fn heed_orders(&mut self) {
        let orders = self.inner.take_orders();
        if let Some(sink) = orders.sink {
            self.sink = sink;
        }
        if orders.reopens {
            match self.sink.target.reopen() {
                Ok(Some(path)) => log::info!("access log: {} is opened anew", path.display()),
                Ok(None) => {}
                Err(error) => log::error!("access log: {error}; lines go where they went"),
            }
        }
    }

    fn rest(&self, busy_at: Instant) {
        if busy_at.elapsed() < AWAKE_FOR {
            return thread::park_timeout(self.nap);
        }
        self.inner.set_asleep(true);
        if self.queue.is_empty() && !self.inner.has_orders() {
            // Whoever is not woken wakes up all the same.
            thread::park_timeout(SLEEP_MAX);
        }
        self.inner.set_asleep(false);
    }
}

/// Bytes of lines that are written at once.
const BATCH_BYTES: usize = 128 * 1024;

/// How long the thread naps rather than sleeps, once there was something to do.
const AWAKE_FOR: Duration = Duration::from_millis(100);

const SLEEP_MAX: Duration = Duration::from_secs(1);
