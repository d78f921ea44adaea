//! The exchanges of one connection that have not ended: usually one, more where requests are pipelined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::ledger::exchange::{Exchange, Outcome};
use crate::ledger::note::{Note, Wait};
use crate::ledger::sheet::Sheet;

/// In the order of their requests, each with where its response ends among all that the connection sends.
pub(super) struct Exchanges {
    sheet: Arc<Sheet>,
    open: VecDeque<Open>,
}

struct Open {
    exchange: Exchange,
    start: u64,
    /// None while the response is being made.
    end: Option<u64>,
}

impl Exchanges {
    /// None yet; they will be counted on `sheet`.
    pub(super) fn new(sheet: Arc<Sheet>) -> Self {
        Self { sheet, open: VecDeque::new() }
    }

    /// A request has come; its response begins at `start`, if not later.
    pub(super) fn begin(&mut self, exchange: Exchange, start: u64) {
        self.open.push_back(Open { exchange, start, end: None });
    }

    /// The last request is answered with `status`, from `start` on.
    pub(super) fn answer(&mut self, status: u16, start: u64) {
        if let Some(open) = self.open.back_mut() {
            open.exchange.status = status;
            (open.start, open.end) = (start, None);
        }
    }

    /// The response to the last request ends at `end`.
    pub(super) fn complete(&mut self, end: u64) {
        if let Some(open) = self.open.back_mut() {
            open.end = Some(end);
        }
    }

    /// All before `sent` has left by `now`.
    pub(super) fn settle(&mut self, sent: u64, now: Instant) {
        while let Some(mut open) = self.open.pop_front() {
            open.note(sent, now);
            if open.end.is_none_or(|end| end > sent) {
                return self.open.push_front(open);
            }
            self.sheet.end(&open.exchange, Outcome::Complete, now);
        }
    }

    /// From `now` on what is sent next waits, or goes on.
    pub(super) fn note_wait(&mut self, now: impl FnOnce() -> Instant, what: Option<Wait>) {
        if let Some(note) = self.open.front_mut().and_then(|open| open.exchange.note.get_mut().as_mut()) {
            note.waits(now(), what);
        }
    }

    /// So many bytes of what is sent next were asked of the disk.
    pub(super) fn note_cold(&mut self, bytes: u64) {
        if let Some(note) = self.open.front_mut().and_then(|open| open.exchange.note.get_mut().as_mut()) {
            note.cold_bytes += bytes;
        }
    }

    /// What is noted of the last request, if anything, and when it came.
    pub(super) fn last_note(&mut self) -> Option<(&mut Note, Instant)> {
        let exchange = &mut self.open.back_mut()?.exchange;
        let began = exchange.began;
        Some((exchange.note.get_mut().as_mut()?, began))
    }

    /// The connection ends: so do all exchanges that have not.
    pub(super) fn cut(&mut self, outcome: Outcome, sent: u64, now: Instant) {
        self.settle(sent, now);
        for open in self.open.drain(..) {
            self.sheet.end(&open.exchange, outcome, now);
        }
    }
}

impl Drop for Exchanges {
    fn drop(&mut self) {
        for open in self.open.drain(..) {
            self.sheet.end(&open.exchange, Outcome::Drained, Instant::now());
        }
    }
}

impl Open {
    /// All before `sent` has left by `now`.
    fn note(&mut self, sent: u64, now: Instant) {
        if sent > self.start {
            self.exchange.first_byte.get_or_insert(now);
            self.exchange.sent = self.end.unwrap_or(u64::MAX).min(sent) - self.start;
        }
    }
}
