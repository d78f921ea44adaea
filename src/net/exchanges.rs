//! The exchanges of one connection that have not ended: usually one, more where requests are pipelined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::telemetry::access_log::record::{AccessLogRecord, WaitKind};
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome};
use crate::telemetry::metrics::transfers::{ListedTransfer, TransferStart};
use crate::telemetry::metrics::worker::WorkerMetrics;

/// In the order of their requests, each with where its response ends among all that the connection sends.
pub(super) struct Exchanges {
    metrics: Arc<WorkerMetrics>,
    first: Option<OpenExchange>,
    /// Those behind the first, where requests are pipelined.
    later: VecDeque<OpenExchange>,
}

struct OpenExchange {
    exchange: Exchange,
    start: u64,
    /// None while the response is being made.
    end: Option<u64>,
    /// Its place among the transfers, once it had to wait.
    shown: Option<ListedTransfer>,
}

impl Exchanges {
    /// None yet; they will be counted in `metrics`.
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self { metrics, first: None, later: VecDeque::new() }
    }

    /// A request has come; its response begins at `start`, if not later.
    pub(super) fn begin(&mut self, exchange: Exchange, start: u64) {
        let open = OpenExchange { exchange, start, end: None, shown: None };
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
            self.metrics.end(&open.exchange, ExchangeOutcome::Complete, now);
            // Apart, since taking what is not there from a queue moves a whole exchange all the same.
            self.first = if self.later.is_empty() { None } else { self.later.pop_front() };
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
        let Some(OpenExchange { exchange, start, end, shown }) = &mut self.first else { return };
        match shown {
            Some(shown) => shown.set_sent(exchange.sent),
            None => {
                let begun = TransferStart {
                    client,
                    path: file(),
                    total: end.map(|end| end.saturating_sub(*start)),
                    at: exchange.began,
                    protocol: exchange.protocol,
                };
                *shown = Some(self.metrics.transfers.add(begun, exchange.sent));
            }
        }
    }

    /// From `now` on what is sent next waits, or goes on.
    pub(super) fn note_wait(&mut self, now: impl FnOnce() -> Instant, what: Option<WaitKind>) {
        if let Some(note) = self.first.as_mut().and_then(OpenExchange::noted) {
            note.set_wait(now(), what);
        }
    }

    /// So many bytes of what is sent next were asked of the disk.
    pub(super) fn note_cold(&mut self, bytes: u64) {
        if let Some(note) = self.first.as_mut().and_then(OpenExchange::noted) {
            note.cold_bytes += bytes;
        }
    }

    /// What is noted of the last request, if anything, and when it came.
    pub(super) fn last_note(&mut self) -> Option<(&mut AccessLogRecord, Instant)> {
        let exchange = &mut self.last()?.exchange;
        let began = exchange.began;
        Some((exchange.record.get_mut().as_mut()?, began))
    }

    /// The connection ends: so do all exchanges that have not.
    pub(super) fn cut(&mut self, outcome: ExchangeOutcome, sent: u64, now: Instant) {
        self.settle(sent, now);
        self.end_all(outcome, now);
    }

    fn end_all(&mut self, outcome: ExchangeOutcome, now: Instant) {
        for open in self.first.take().into_iter().chain(self.later.drain(..)) {
            self.metrics.end(&open.exchange, outcome, now);
        }
    }

    fn last(&mut self) -> Option<&mut OpenExchange> {
        match self.later.back_mut() {
            None => self.first.as_mut(),
            last => last,
        }
    }
}

impl Drop for Exchanges {
    fn drop(&mut self) {
        if self.first.is_some() {
            let outcome =
                if std::thread::panicking() { ExchangeOutcome::Failed } else { ExchangeOutcome::Drained };
            self.end_all(outcome, Instant::now());
        }
    }
}

impl OpenExchange {
    /// What is noted of it, if anything.
    fn noted(&mut self) -> Option<&mut Box<AccessLogRecord>> {
        self.exchange.record.get_mut().as_mut()
    }

    /// All before `sent` has left by `now`.
    fn note(&mut self, sent: u64, now: Instant) {
        if sent > self.start {
            self.exchange.first_byte.get_or_insert(now);
            self.exchange.sent = self.end.unwrap_or(u64::MAX).min(sent) - self.start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;
    use crate::telemetry::metrics::exchange::Protocol;
    use crate::telemetry::metrics::registry::Metrics;
    use crate::telemetry::metrics::worker::StatusClass;
    use std::time::Duration;

    fn begun(exchanges: &mut Exchanges, at: Instant, start: u64) {
        exchanges.begin(Exchange::new(at, Some(Method::Get), Protocol::Http11), start);
    }

    /// An exchange on a connection that does `what`: how many ended so, and with such a status.
    #[track_caller]
    fn check(
        what: impl FnOnce(&mut Exchanges, Instant),
        outcome: ExchangeOutcome,
        class: StatusClass,
        count: u64,
    ) {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let mut exchanges = Exchanges::new(metrics.worker());
        begun(&mut exchanges, now, 0);
        what(&mut exchanges, now);
        drop(exchanges);
        let totals = metrics.totals();
        assert_eq!((totals.of_outcome(outcome), totals.of_class(class)), (count, count));
        assert_eq!(totals.requests(), count, "and no others");
    }

    #[test]
    fn an_exchange_ends_once_whatever_comes_of_its_connection() {
        use ExchangeOutcome::{ClientGone, Complete, Drained};
        use StatusClass::{None, ServerError, Successful};
        check(|_, _| {}, Drained, None, 1);
        check(|all, _| all.answer(200, 0), Drained, Successful, 1);
        check(|all, now| all.cut(ClientGone, 0, now), ClientGone, None, 1);
        let whole = |all: &mut Exchanges, now| {
            all.answer(200, 0);
            all.complete(10);
            all.settle(10, now);
        };
        check(whole, Complete, Successful, 1);
        let cut_when_it_had_left = |all: &mut Exchanges, now| {
            all.answer(200, 0);
            all.complete(10);
            all.cut(ClientGone, 10, now);
        };
        check(cut_when_it_had_left, Complete, Successful, 1);
        let withdrawn = |all: &mut Exchanges, now| {
            all.answer(200, 0);
            all.complete(10);
            all.answer(503, 0);
            all.complete(5);
            all.settle(5, now);
        };
        check(withdrawn, Complete, ServerError, 1);
        let pipelined = |all: &mut Exchanges, now| {
            all.answer(200, 0);
            all.complete(10);
            for start in [10, 20] {
                begun(all, now, start);
                all.answer(200, start);
                all.complete(start + 10);
            }
            all.settle(30, now);
        };
        check(pipelined, Complete, Successful, 3);
    }

    #[test]
    fn a_cut_ends_what_is_pipelined_behind_it_and_nothing_before() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let mut exchanges = Exchanges::new(metrics.worker());
        for start in [0, 10, 20] {
            begun(&mut exchanges, now, start);
            exchanges.answer(200, start);
            exchanges.complete(start + 10);
        }
        exchanges.cut(ExchangeOutcome::Stalled, 15, now);
        drop(exchanges);
        let totals = metrics.totals();
        assert_eq!(
            (totals.of_outcome(ExchangeOutcome::Complete), totals.of_outcome(ExchangeOutcome::Stalled)),
            (1, 2)
        );
        assert_eq!(totals.first_bytes.count(), 2, "the third never had one");
    }

    #[test]
    fn an_interim_response_is_no_first_byte() {
        let (metrics, began) = (Metrics::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut exchanges = Exchanges::new(metrics.worker());
        begun(&mut exchanges, began, 0);
        exchanges.settle(25, after(1));
        exchanges.answer(200, 25);
        exchanges.complete(100);
        exchanges.settle(100, after(3));
        assert_eq!(metrics.totals().first_bytes.nanoseconds, 3_000_000_000);
    }

    #[test]
    fn what_has_to_wait_is_shown_until_it_ends() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let mut exchanges = Exchanges::new(metrics.worker());
        begun(&mut exchanges, now, 0);
        exchanges.answer(200, 0);
        exchanges.complete(1000);
        assert!(metrics.transfers().is_empty());
        for sent in [0, 400] {
            exchanges.wait(sent, now, ClientKey::V4(7), || Some(SitePath::root().entry(b"a")));
            let [transfer] = <[_; 1]>::try_from(metrics.transfers()).unwrap();
            assert_eq!((transfer.sent, transfer.total), (sent, Some(1000)));
        }
        exchanges.settle(1000, now);
        assert!(metrics.transfers().is_empty());
    }
}
