//! The bar on a terminal.

use std::io::{self, IsTerminal, Read};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a command is, on standard error if that is a terminal. Nothing is drawn elsewhere.
pub(crate) struct CommandProgress {
    bar: ProgressBar,
}

impl CommandProgress {
    /// A bar over so many bytes to read.
    pub(crate) fn over(bytes: u64) -> Self {
        let is_seen = io::stderr().is_terminal();
        let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let style = ProgressStyle::with_template(TEMPLATE);
        Self { bar: style.map(|style| bar.clone().with_style(style)).unwrap_or(bar) }
    }

    /// More bytes to read than were known of.
    pub(crate) fn extend(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Counts what is read through it.
    pub(crate) fn reading<'a, R: Read + 'a>(&'a self, reader: R) -> impl Read + 'a {
        Counted { progress: self, reader }
    }

    /// Takes the bar away.
    pub(crate) fn end(self) {
        self.bar.finish_and_clear();
    }
}

struct Counted<'a, R> {
    progress: &'a CommandProgress,
    reader: R,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.progress.add(read as u64);
        Ok(read)
    }
}

const TEMPLATE: &str = "{wide_bar} {bytes} of {total_bytes}, {eta} to go";
