//! Progress bar on a terminal.

use std::io::{self, IsTerminal, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress of a command that reads files. A bar is drawn on standard error if that is a terminal.
pub(crate) struct CommandProgress {
    /// Position and length in bytes.
    pub(super) bar: ProgressBar,
    bytes_read: AtomicU64,
}

impl CommandProgress {
    /// Creates a bar over `bytes` to read.
    pub(crate) fn over(bytes: u64) -> Self {
        let is_seen = io::stderr().is_terminal();
        let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let style = ProgressStyle::with_template(TEMPLATE);
        let bar = style.map(|style| bar.clone().with_style(style)).unwrap_or(bar);
        Self { bar, bytes_read: AtomicU64::new(0) }
    }

    /// Wraps `reader` to count what is read.
    pub(crate) fn reading<'a, R: Read + 'a>(&'a self, reader: R) -> impl Read + 'a {
        Counted { progress: self, reader }
    }

    /// Removes the bar and returns the number of bytes read.
    pub(crate) fn end(self) -> u64 {
        self.bar.finish_and_clear();
        self.bytes_read.into_inner()
    }
}

struct Counted<'a, R> {
    progress: &'a CommandProgress,
    reader: R,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.progress.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        self.progress.bar.inc(read as u64);
        Ok(read)
    }
}

const TEMPLATE: &str = "{wide_bar} {bytes} of {total_bytes}, {eta} to go";
