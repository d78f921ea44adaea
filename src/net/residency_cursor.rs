//! Tracks how much of the window that is sent next is in the page cache, and has the rest read.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::files::reads::{PendingRead, ReadRequest};
use crate::files::residency::{self, RECENT_MS};
use crate::files::window::{BATCH, WINDOW};
use crate::http::client_key::ClientKey;
use crate::net::{SendError, Window, WorkerContext, distance};

/// Tracks how far the next bytes of a response are known to be in the page cache. Call [`poll`](Self::poll) before each
/// write and send at most the bytes it returns.
#[derive(Default)]
pub(super) struct ResidencyCursor {
    /// End of the bytes known to be resident.
    resident_to: u64,
    /// End of the windows that were counted as resident.
    counted_to: u64,
    /// The read that the response waits for.
    reading: Option<Box<PendingRead>>,
    /// The read for the next batch, once the response has had to wait for one.
    ahead: Option<Box<ReadAhead>>,
    /// A response is partly sent, so that its file may have changed since.
    pub(super) has_begun: bool,
    /// Bytes requested from the disk.
    cold_bytes: u64,
}

/// The batch of pages that a long response of a cold file has read in advance.
struct ReadAhead {
    asset: u64,
    batch: u64,
    /// `None` if the batch is resident already, or the reads of this file are busy.
    reading: Option<PendingRead>,
}

impl ResidencyCursor {
    /// Returns how many bytes of `window` may be sent now, a few windows at most: their pages are resident and their
    /// file is unchanged.
    ///
    /// # Errors
    /// [`SendError::Changed`] if the file changed after its first bytes were sent, [`SendError::Disk`] if it can't be read.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        client: ClientKey,
        window: &Window,
    ) -> Poll<Result<usize, SendError>> {
        loop {
            if self.reading.is_some() {
                ready!(self.poll_read(cx, context, window))?;
            }
            let start = window.range.start;
            if start >= self.resident_to && self.has_begun {
                check_unchanged(context, window)?;
            }
            let wanted = window.range.end.min(start.saturating_add(BATCH));
            let upto = self.resident_end(context, window, wanted);
            if upto > start {
                // Each window is counted once.
                let from = (start / WINDOW).max(self.counted_to.div_ceil(WINDOW));
                context.metrics.counts.resident_windows.add(upto.div_ceil(WINDOW).saturating_sub(from));
                self.counted_to = self.counted_to.max(upto);
                self.resident_to = upto;
                self.read_ahead(context, client, window);
                window.asset.recency.record(&(start..upto), window.asset.length);
                return Poll::Ready(Ok(distance(start, upto.min(wanted))));
            }
            self.start_read(context, client, window);
        }
    }

    /// Waits for the read and notes what it brought into memory.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        window: &Window,
    ) -> Poll<Result<(), SendError>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(Ok(())) };
        let done = ready!(Pin::new(&mut **reading).poll(cx));
        let range = reading.range.clone();
        self.reading = None;
        let read_at = done.map_err(|error| match error.raw_os_error() {
            Some(libc::EFAULT) => SendError::Changed,
            _ => SendError::Disk(error),
        })?;
        // Pages that were read long ago may have been evicted again.
        if read_at.elapsed().as_millis() < u128::from(RECENT_MS) {
            self.record_resident(context, window, &range);
        }
        Poll::Ready(Ok(()))
    }

    /// End of the resident bytes at the front of the window, looked for up to `wanted`.
    fn resident_end(&self, context: &WorkerContext, window: &Window, wanted: u64) -> u64 {
        let mut upto = window.range.start.max(self.resident_to);
        while upto < wanted {
            let next = ((upto / WINDOW + 1) * WINDOW).min(window.range.end);
            if !is_resident(context, window, upto..next) {
                break;
            }
            upto = next;
        }
        upto
    }

    /// Has the next batch read while this one is sent, if the response has had to wait for the disk before.
    fn read_ahead(&mut self, context: &WorkerContext, client: ClientKey, window: &Window) {
        let Some(ahead) = &self.ahead else { return };
        let (asset, batch) = (window.asset.id, window.range.start / BATCH + 1);
        let end = window.range.end.min((batch + 1).saturating_mul(BATCH));
        let mut at = batch.saturating_mul(BATCH);
        if (ahead.asset, ahead.batch) == (asset, batch) || at >= end {
            return;
        }
        while at < end && is_resident(context, window, at..(at + WINDOW).min(end)) {
            at += WINDOW;
        }
        let is_worth_it = at < end && !context.files.shared.reads.is_busy(&window.asset);
        let reading = is_worth_it.then(|| self.read(context, client, window, at));
        self.ahead = Some(Box::new(ReadAhead { asset, batch, reading }));
    }

    /// Has the front of the window read, unless that was done in advance.
    fn start_read(&mut self, context: &WorkerContext, client: ClientKey, window: &Window) {
        let (asset, start) = (window.asset.id, window.range.start);
        context.metrics.counts.cold_windows.add(1);
        let in_advance = self.ahead.take().filter(|ahead| ahead.asset == asset);
        let known = in_advance.and_then(|ahead| ahead.reading).filter(|read| read.range.contains(&start));
        let reading = known.map(PendingRead::restart);
        let reading = reading.unwrap_or_else(|| self.read(context, client, window, start));
        self.reading = Some(Box::new(reading));
        // From now on the response reads ahead.
        self.ahead = Some(Box::new(ReadAhead { asset, batch: start / BATCH, reading: None }));
    }

    /// Has the batch of the window that `at` lies in read from there on, as far as the response needs it.
    fn read(&mut self, context: &WorkerContext, client: ClientKey, window: &Window, at: u64) -> PendingRead {
        let end = |batch: u64| batch.saturating_mul(BATCH).min(window.range.end);
        let batch = at / BATCH;
        let (range, next) = (at..end(batch + 1), end(batch + 1)..end(batch + 2));
        let (asset, handle) = (Arc::clone(&window.asset), window.handle.clone());
        let reading = context.files.shared.reads.read(client, ReadRequest { asset, handle, range, next });
        self.cold_bytes += reading.range.end.saturating_sub(reading.range.start);
        reading
    }

    /// Since when the disk has not delivered the window. `None` if there is no read.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.reading.as_ref().map(|reading| reading.since)
    }

    /// Returns and resets the number of bytes requested from the disk.
    pub(super) fn take_cold_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.cold_bytes)
    }

    /// Forgets what was known to be resident: time has passed since the last write.
    pub(super) fn invalidate(&mut self) {
        if self.reading.is_none() {
            self.resident_to = 0;
        }
    }

    /// Moves on to another window, perhaps of another file.
    pub(super) fn next_window(&mut self) {
        (self.resident_to, self.counted_to) = (0, 0);
        self.ahead = None;
    }

    /// Drops the window without sending it.
    pub(super) fn withdraw(&mut self) {
        self.reading = None;
        self.next_window();
    }

    fn record_resident(&mut self, context: &WorkerContext, window: &Window, range: &Range<u64>) {
        self.resident_to = range.end;
        let now_ms = context.files.now_ms();
        for index in range.start / WINDOW..range.end.div_ceil(WINDOW) {
            let whole = whole_window(window, index);
            if range.start <= whole.start && whole.end <= range.end {
                context.recently_resident.borrow_mut().insert(window.asset.id, index, now_ms);
            }
        }
    }
}

/// Checks that the file of `window` is still the version that the response is made of. Never waits for a disk.
///
/// # Errors
/// [`SendError::Changed`] if it is not, [`SendError::Disk`] if the file system does not say.
pub(super) fn check_unchanged(context: &WorkerContext, window: &Window) -> Result<(), SendError> {
    match context.files.is_unchanged(&window.asset, window.handle.as_deref()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(SendError::Changed),
        Err(errno) => Err(SendError::Disk(errno.into())),
    }
}

/// Returns true if `range`, which lies in one window of the file, is in the page cache. Never waits for a disk.
fn is_resident(context: &WorkerContext, window: &Window, range: Range<u64>) -> bool {
    let (asset, index, now_ms) = (window.asset.id, range.start / WINDOW, context.files.now_ms());
    let mut recently_resident = context.recently_resident.borrow_mut();
    if recently_resident.contains(asset, index, now_ms) {
        return true;
    }
    let whole = whole_window(window, index);
    let mapping = window.asset.mapping();
    let in_table = |range: &Range<u64>| {
        mapping.is_some_and(|mapping| context.page_table.has(context.files.loader.storage(), mapping, range))
    };
    if in_table(&whole) {
        recently_resident.insert(asset, index, now_ms);
        return true;
    }
    if in_table(&range) {
        return true;
    }
    let Some(handle) = &window.handle else { return false };
    let mut scratch = context.scratch.borrow_mut();
    if !residency::probe(handle.storage(), handle.fd(), range.clone(), &mut scratch) {
        return false;
    }
    // Entering its pages into the page table makes the next check cheaper. Files of network file systems have no
    // mapping, so this waits for none of them.
    if let Some(mapping) = mapping
        && let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
    {
        // If the file has become shorter, sending finds that out.
        let _ = handle.storage().populate(mapping, start..end);
    }
    if range == whole {
        recently_resident.insert(asset, index, now_ms);
    }
    true
}

fn whole_window(window: &Window, index: u64) -> Range<u64> {
    index * WINDOW..((index + 1) * WINDOW).min(window.asset.length)
}
