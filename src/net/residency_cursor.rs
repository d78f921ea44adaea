//! The window that is sent next: what of it is in memory, and what must be read first.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::segments::Window;
use super::send::{SendError, distance};
use super::worker::Worker;
use crate::files::read_exact::read_full;
use crate::files::reads::{PendingRead, ReadRequest};
use crate::files::residency::{self, RECENT_MS, Residency};
use crate::files::window::{BATCH, WINDOW};
use crate::http::client_key::ClientKey;

/// What is known of the front window of a response. Whoever sends from it asks [`poll`](Self::poll) before each turn.
#[derive(Default)]
pub(super) struct ResidencyCursor {
    /// How far it is known to be in memory.
    resident_to: u64,
    /// How far its windows have been counted.
    counted_to: u64,
    /// It waits for this read from the disk.
    reading: Option<Box<PendingRead>>,
    /// The read that it will wait for next, once it has had to wait for one.
    ahead: Option<Box<ReadAhead>>,
    /// Bytes of a file have left, so that the file may have changed since.
    has_begun: bool,
    /// Bytes that were asked of the disk.
    cold_bytes: u64,
}

/// What a long response that found its file cold has read before it comes to it.
struct ReadAhead {
    asset: u64,
    batch: u64,
    /// None where there was nothing to read, or nobody to read it.
    reading: Option<PendingRead>,
}

impl ResidencyCursor {
    /// How many bytes of `window` may be sent now, a few windows' worth at most: their pages are in memory and their
    /// file is unchanged.
    pub(super) fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        client: ClientKey,
        window: &Window,
    ) -> Poll<Result<usize, SendError>> {
        if let Some(reading) = &mut self.reading {
            let done = ready!(Pin::new(&mut **reading).poll(cx));
            let range = reading.range().clone();
            self.reading = None;
            match done {
                // What was read long ago may have left memory again.
                Ok(read_at) if read_at.elapsed().as_millis() < u128::from(RECENT_MS) => {
                    self.note(worker, window, &range);
                }
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                    return Poll::Ready(Err(SendError::Changed));
                }
                Err(error) => return Poll::Ready(Err(SendError::Disk(error))),
            }
        }
        let start = window.range.start;
        let wanted = window.range.end.min(start.saturating_add(BATCH));
        if start >= self.resident_to && self.has_begun {
            match worker.files.is_unchanged(&window.asset, window.handle.as_deref()) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Err(SendError::Changed)),
                Err(errno) => return Poll::Ready(Err(SendError::Disk(errno.into()))),
            }
        }
        let mut upto = start.max(self.resident_to);
        while upto < wanted {
            let next = ((upto / WINDOW + 1) * WINDOW).min(window.range.end);
            if !is_resident(worker, window, upto..next) {
                break;
            }
            upto = next;
        }
        if upto > start {
            self.count(worker, start, upto);
            self.resident_to = upto;
            if let Some(ahead) = &self.ahead {
                let ahead = ahead.after(worker, client, window, start);
                let reading = ahead.as_ref().and_then(|ahead| ahead.reading.as_ref());
                self.cold_bytes += reading.map_or(0, length_of);
                self.ahead = ahead.or_else(|| self.ahead.take());
            }
            window.asset.recency.record(&(start..upto), window.asset.length());
            return Poll::Ready(Ok(distance(start, upto.min(wanted))));
        }
        worker.metrics.count_cold_window();
        let known = self.ahead.take().and_then(|ahead| ahead.reading_of(window, start));
        self.reading = Some(Box::new(known.unwrap_or_else(|| {
            let reading = read(worker, client, window, start);
            self.cold_bytes += length_of(&reading);
            reading
        })));
        // From now on it is worth being ahead.
        let (asset, batch) = (window.asset.id, start / BATCH);
        self.ahead = Some(Box::new(ReadAhead { asset, batch, reading: None }));
        self.poll(cx, worker, client, window)
    }

    /// Since when the disk keeps the window waiting.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.reading.as_ref().map(|reading| reading.since())
    }

    /// How many bytes were asked of the disk since that was asked last.
    pub(super) fn take_cold_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.cold_bytes)
    }

    /// Time has passed since the last turn: what was known may be out of date.
    pub(super) fn doubt(&mut self) {
        if self.reading.is_none() {
            self.resident_to = 0;
        }
    }

    /// Bytes of a file have left.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// The window is sent: another one comes, perhaps of another file.
    pub(super) fn pass(&mut self) {
        (self.resident_to, self.counted_to) = (0, 0);
        self.ahead = None;
    }

    /// Nothing that has begun is left to send.
    pub(super) fn end(&mut self) {
        self.has_begun = false;
    }

    /// The window is not sent after all.
    pub(super) fn withdraw(&mut self) {
        self.reading = None;
        self.pass();
    }

    /// Counts the windows up to `upto` that were in memory, each once.
    fn count<S>(&mut self, worker: &Worker<S>, start: u64, upto: u64) {
        let from = (start / WINDOW).max(self.counted_to.div_ceil(WINDOW));
        worker.metrics.count_resident_windows(upto.div_ceil(WINDOW).saturating_sub(from));
        self.counted_to = self.counted_to.max(upto);
    }

    fn note<S>(&mut self, worker: &Worker<S>, window: &Window, range: &Range<u64>) {
        self.resident_to = range.end;
        let now_ms = worker.files.now_ms();
        for index in range.start / WINDOW..range.end.div_ceil(WINDOW) {
            let whole = whole_window(window, index);
            if range.start <= whole.start && whole.end <= range.end {
                worker.memo.borrow_mut().insert(window.asset.id, index, now_ms);
            }
        }
    }
}

impl ReadAhead {
    /// What to be ahead with while the response sends from `start`; none where that has been seen to.
    fn after<S>(
        &self,
        worker: &Worker<S>,
        client: ClientKey,
        window: &Window,
        start: u64,
    ) -> Option<Box<Self>> {
        let (asset, batch) = (window.asset.id, start / BATCH + 1);
        let end = window.range.end.min((batch + 1).saturating_mul(BATCH));
        let mut at = batch.saturating_mul(BATCH);
        if (self.asset, self.batch) == (asset, batch) || at >= end {
            return None;
        }
        while at < end && is_resident(worker, window, at..(at + WINDOW).min(end)) {
            at += WINDOW;
        }
        let is_worth_it = at < end && !worker.files.reads().is_busy(&window.asset);
        let reading = is_worth_it.then(|| read(worker, client, window, at));
        Some(Box::new(Self { asset, batch, reading }))
    }

    /// The read, if it brings what is wanted at `start`, or has just brought it.
    fn reading_of(self, window: &Window, start: u64) -> Option<PendingRead> {
        let is_it = |reading: &PendingRead| self.asset == window.asset.id && reading.range().contains(&start);
        self.reading.filter(is_it).map(PendingRead::restart)
    }
}

/// Has the batch of the window read that `start` lies in, from there on, as far as the response will want it.
fn read<S>(worker: &Worker<S>, client: ClientKey, window: &Window, start: u64) -> PendingRead {
    let end = |batch: u64| batch.saturating_mul(BATCH).min(window.range.end);
    let batch = start / BATCH;
    let (range, next) = (start..end(batch + 1), end(batch + 1)..end(batch + 2));
    let (asset, handle) = (Arc::clone(&window.asset), window.handle.clone());
    worker.files.reads().read(client, ReadRequest { asset, handle, range, next })
}

fn length_of(reading: &PendingRead) -> u64 {
    let range = reading.range();
    range.end.saturating_sub(range.start)
}

/// Whether `range` of the window, which lies in one window of the file, is in memory. Never waits for a disk.
fn is_resident<S>(worker: &Worker<S>, window: &Window, range: Range<u64>) -> bool {
    let (asset, index, now_ms) = (window.asset.id, range.start / WINDOW, worker.files.now_ms());
    let mut memo = worker.memo.borrow_mut();
    if memo.contains(asset, index, now_ms) {
        return true;
    }
    let whole = whole_window(window, index);
    let mapping = window.asset.mapping();
    let in_table = |range: &Range<u64>| {
        mapping.is_some_and(|mapping| worker.page_table.has(worker.files.storage(), mapping, range))
    };
    if in_table(&whole) {
        memo.insert(asset, index, now_ms);
        return true;
    }
    if in_table(&range) {
        return true;
    }
    let Some(handle) = &window.handle else { return false };
    let mut scratch = worker.scratch.borrow_mut();
    if residency::probe(handle.storage(), handle.fd(), range.clone(), &mut scratch) == Residency::Cold {
        return false;
    }
    // Its pages are entered into the table, where the next look finds them for less.
    if let Some(mapping) = mapping
        && let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
    {
        // Where the file has shrunk, sending finds that out.
        let _ = handle.storage().populate(mapping, start..end);
    }
    if range == whole {
        memo.insert(asset, index, now_ms);
    }
    true
}

fn whole_window(window: &Window, index: u64) -> Range<u64> {
    index * WINDOW..((index + 1) * WINDOW).min(window.asset.length())
}

/// Reads `buffer` full from byte `start` of the window's file, which must be in memory: for whoever must see the bytes.
/// Never touches the mapping.
///
/// # Errors
/// [`SendError::Changed`] where the file ends before; where there is no handle or the disk fails, [`SendError::Disk`].
pub(super) fn copy(window: &Window, start: u64, buffer: &mut [u8]) -> Result<(), SendError> {
    let Some(handle) = &window.handle else {
        return Err(SendError::Disk(std::io::ErrorKind::ResourceBusy.into()));
    };
    let filled = read_full(handle.storage(), handle.fd(), buffer, start).map_err(SendError::Disk)?;
    if filled < buffer.len() { Err(SendError::Changed) } else { Ok(()) }
}
