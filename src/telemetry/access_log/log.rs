//! The access log: one line per request, written when its response has ended. Fields: docs/access-log.md.
//!
//! Workers put records into a bounded queue and never wait. If the queue is full, the record is dropped and counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::sampling::Sampling;
use super::shared::{AccessLog, LogQueue};
use super::sink::Sink;
use super::writer::LogWriter;
use crate::config::{Config, LogTarget};

impl AccessLog {
    /// Starts the log that `config` describes. If it is off, there is neither a thread nor a queue.
    ///
    /// # Errors
    /// If the file can't be opened or the thread can't be started.
    pub(crate) fn start(config: &Config) -> io::Result<Arc<Self>> {
        let log = Arc::new(Self::new(config.logging.access_log_queue.as_usize(), Sampling::new(config)));
        log.apply(config, Self::prepare(&Config::default(), config, config.site.root.as_path())?)?;
        Ok(log)
    }

    /// Opens the target of `new` if its target or format differs from that of `old`. Blocks.
    ///
    /// # Errors
    /// If the file can't be opened; the error names its path.
    pub(crate) fn prepare(old: &Config, new: &Config, root: &Path) -> io::Result<Option<Sink>> {
        let (old, new) = (&old.logging, &new.logging);
        let is_same = old.access_log == new.access_log && old.access_log_format == new.access_log_format;
        if is_same { Ok(None) } else { Sink::open(&new.access_log, new.access_log_format, root).map(Some) }
    }

    /// Puts `config` and its prepared target into effect. Queued lines go to the new target.
    ///
    /// # Errors
    /// If the writer thread is needed for the first time and can't be started.
    pub(crate) fn apply(self: &Arc<Self>, config: &Config, prepared: Option<Sink>) -> io::Result<()> {
        self.sampling.set(config);
        match prepared {
            Some(sink) if self.queue.get().is_some() => self.command(|commands| commands.sink = Some(sink)),
            Some(sink) if config.logging.access_log != LogTarget::Off => self.start_thread(sink)?,
            _ => {}
        }
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, sink: Sink) -> io::Result<()> {
        let (sender, queue) = mpsc::channel(self.capacity);
        let nap = Duration::from_micros(self.capacity as u64 / 2).clamp(NAP_MIN, NAP_MAX);
        let writer = LogWriter { log: Arc::clone(self), queue, sink, nap };
        let builder = thread::Builder::new().name("pagecast-log".to_owned());
        let _ = self.queue.set(LogQueue { sender, writer: builder.spawn(move || writer.run())? });
        Ok(())
    }
}

const NAP_MIN: Duration = Duration::from_micros(200);

const NAP_MAX: Duration = Duration::from_millis(8);
