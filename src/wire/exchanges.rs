//! The exchanges of one connection that have not ended: usually one, more where requests are pipelined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::http::client::ClientKey;
use crate::http::target::SitePath;
use crate::ledger::exchange::{Exchange, Outcome};
use crate::ledger::note::{Note, Wait};
use crate::ledger::sheet::Sheet;
use crate::ledger::transfers::{Begun, Shown};

/// In the order of their requests, each with where its response ends among all that the connection sends.
pub(super) struct Exchanges {
    sheet: Arc<Sheet>,
    first: Option<Open>,
    /// Those behind the first, where requests are pipelined.
    later: VecDeque<Open>,
}

struct Open {
    exchange: Exchange,
    start: u64,
    /// None while the response is being made.
    end: Option<u64>,
    /// Its place among the transfers, once it had to wait.
    shown: Option<Shown>,
}

impl Exchanges {
    /// None yet; they will be counted on `sheet`.
    pub(super) fn new(sheet: Arc<Sheet>) -> Self {
        Self { sheet, first: None, later: VecDeque::new() }
    }

    /// A request has come; its response begins at `start`, if not later.
    pub(super) fn begin(&mut self, exchange: Exchange, start: u64) {
        let open = Open { exchange, start, end: None, shown: None };
        match self.first {
            None => self.first = Some(open),
            Some(_) => self.later.push_back(open),
        }
    }

    /// The last request is answered with `status`, from `start` on.
    pub(super) fn answer(&mut self, status: u16, start: u64) {
        if let Some(open) = self.last() {
            open.exchange.status = status;
            // What has left before is no part of it: an interim response (RFC 9110 §15.2).
            (open.exchange.first_byte, open.exchange.sent) = (None, 0);
            (open.start, open.end) = (start, None);
        }
    }

    /// The response to the last request ends at `end`.
    pub(super) fn complete(&mut self, end: u64) {
        if let Some(open) = self.last() {
            open.end = Some(end);
        }
    }

    /// All before `sent` has left by `now`.
    pub(super) fn settle(&mut self, sent: u64, now: Instant) {
        while let Some(open) = &mut self.first {
            open.note(sent, now);
            if open.end.is_none_or(|end| end > sent) {
                return;
            }
            self.sheet.end(&open.exchange, Outcome::Complete, now);
            self.first = self.later.pop_front();
        }
    }

    /// What is sent next has to wait, after all before `sent` has left: the response that it is of is shown from now on.
    /// It is for `client`, and of `file` if of any.
    pub(super) fn wait(
        &mut self,
        sent: u64,
        now: Instant,
        client: ClientKey,
        file: impl FnOnce() -> Option<SitePath<'static>>,
    ) {
        self.settle(sent, now);
        let Some(Open { exchange, start, end, shown }) = &mut self.first else { return };
        match shown {
            Some(shown) => shown.has_sent(exchange.sent),
            None => {
                let begun = Begun {
                    client,
                    path: file(),
                    total: end.map(|end| end.saturating_sub(*start)),
                    at: exchange.began,
                    protocol: exchange.protocol,
                };
                *shown = Some(self.sheet.transfers.enter(begun, exchange.sent));
            }
        }
    }

    /// From `now` on what is sent next waits, or goes on.
    pub(super) fn note_wait(&mut self, now: impl FnOnce() -> Instant, what: Option<Wait>) {
        if let Some(note) = self.first.as_mut().and_then(Open::noted) {
            note.waits(now(), what);
        }
    }

    /// So many bytes of what is sent next were asked of the disk.
    pub(super) fn note_cold(&mut self, bytes: u64) {
        if let Some(note) = self.first.as_mut().and_then(Open::noted) {
            note.cold_bytes += bytes;
        }
    }

    /// What is noted of the last request, if anything, and when it came.
    pub(super) fn last_note(&mut self) -> Option<(&mut Note, Instant)> {
        let exchange = &mut self.last()?.exchange;
        let began = exchange.began;
        Some((exchange.note.get_mut().as_mut()?, began))
    }

    /// The connection ends: so do all exchanges that have not.
    pub(super) fn cut(&mut self, outcome: Outcome, sent: u64, now: Instant) {
        self.settle(sent, now);
        self.end_all(outcome, now);
    }

    fn end_all(&mut self, outcome: Outcome, now: Instant) {
        for open in self.first.take().into_iter().chain(self.later.drain(..)) {
            self.sheet.end(&open.exchange, outcome, now);
        }
    }

    fn last(&mut self) -> Option<&mut Open> {
        match self.later.back_mut() {
            None => self.first.as_mut(),
            last => last,
        }
    }
}

impl Drop for Exchanges {
    fn drop(&mut self) {
        if self.first.is_some() {
            let outcome = if std::thread::panicking() { Outcome::Failed } else { Outcome::Drained };
            self.end_all(outcome, Instant::now());
        }
    }
}

impl Open {
    /// What is noted of it, if anything.
    fn noted(&mut self) -> Option<&mut Box<Note>> {
        self.exchange.note.get_mut().as_mut()
    }

    /// All before `sent` has left by `now`.
    fn note(&mut self, sent: u64, now: Instant) {
        if sent > self.start {
            self.exchange.first_byte.get_or_insert(now);
            self.exchange.sent = self.end.unwrap_or(u64::MAX).min(sent) - self.start;
        }
    }
}
