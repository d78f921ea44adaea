//! The exchanges of one HTTP/1.1 connection that have not ended: usually one, more if requests are pipelined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::net::SendQueue;
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome};
use crate::telemetry::metrics::worker::WorkerMetrics;

/// Exchanges in the order of their requests. Positions are in bytes since the connection began to send.
pub(super) struct Exchanges {
    metrics: Arc<WorkerMetrics>,
    first: Option<OpenExchange>,
    /// Those behind the first, if requests are pipelined.
    later: VecDeque<OpenExchange>,
}

struct OpenExchange {
    exchange: Exchange,
    /// Position at which its response begins.
    start: u64,
    /// Position at which it ends. `None` while the response is being made.
    end: Option<u64>,
}

impl Exchanges {
    /// An empty list that counts in `metrics`.
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self { metrics, first: None, later: VecDeque::new() }
    }

    /// Adds an exchange whose response begins at `start` at the earliest.
    pub(super) fn begin(&mut self, exchange: Exchange, start: u64) {
        let open = OpenExchange { exchange, start, end: None };
        match self.first {
            None => self.first = Some(open),
            Some(_) => self.later.push_back(open),
        }
    }

    /// Begins the response to the last request at `start`.
    pub(super) fn begin_response(&mut self, status: u16, start: u64) {
        if let Some(open) = self.last_open() {
            let exchange = &mut open.exchange;
            exchange.status = status;
            // An interim response that was sent before is no part of it (RFC 9110 §15.2).
            (exchange.first_byte, exchange.sent) = (None, 0);
            (open.start, open.end) = (start, None);
        }
    }

    /// Ends the response to the last request at `end`.
    pub(super) fn end_response(&mut self, end: u64) {
        if let Some(open) = self.last_open() {
            open.end = Some(end);
        }
    }

    /// Ends the exchanges whose response was sent by `now`: everything before the position `sent` was.
    pub(super) fn end_sent(&mut self, sent: u64, now: Instant) {
        while let Some(OpenExchange { exchange, start, end }) = &mut self.first {
            if sent > *start {
                exchange.first_byte.get_or_insert(now);
                exchange.sent = end.unwrap_or(u64::MAX).min(sent) - *start;
            }
            if end.is_none_or(|end| end > sent) {
                return;
            }
            self.metrics.end(exchange, ExchangeOutcome::Complete, now);
            // Two branches: popping from an empty queue would move a whole exchange all the same.
            self.first = if self.later.is_empty() { None } else { self.later.pop_front() };
        }
    }

    /// Ends the exchanges whose response was sent, and records that the first of the others has to wait: it is listed among
    /// the transfers.
    pub(super) fn list_waiting(&mut self, queue: &SendQueue, now: Instant) {
        self.end_sent(queue.sent(), now);
        let Some(OpenExchange { exchange, start, end }) = &mut self.first else { return };
        exchange.set_wait(|| now, Some(queue.waits_for()));
        let total = end.map(|end| end.saturating_sub(*start));
        let start = || (queue.client, queue.file().cloned(), total);
        exchange.list(&self.metrics.transfers, exchange.sent, start);
    }

    /// Records that the response being sent waits from `now` on, or that it goes on.
    pub(super) fn set_wait(&mut self, now: impl FnOnce() -> Instant, wait: Option<WaitKind>) {
        if let Some(open) = &mut self.first {
            open.exchange.set_wait(now, wait);
        }
    }

    /// Records that `bytes` of the response being sent were requested from the disk.
    pub(super) fn add_cold_bytes(&mut self, bytes: u64) {
        if let Some(open) = &mut self.first {
            open.exchange.add_cold_bytes(bytes);
        }
    }

    /// The exchange of the last request.
    pub(super) fn last(&mut self) -> Option<&mut Exchange> {
        self.last_open().map(|open| &mut open.exchange)
    }

    /// Ends all exchanges with the connection: those that are not sent with `outcome`.
    pub(super) fn abort(&mut self, outcome: ExchangeOutcome, sent: u64, now: Instant) {
        self.end_sent(sent, now);
        self.end_all(outcome, now);
    }

    fn end_all(&mut self, outcome: ExchangeOutcome, now: Instant) {
        for open in self.first.take().into_iter().chain(self.later.drain(..)) {
            self.metrics.end(&open.exchange, outcome, now);
        }
    }

    fn last_open(&mut self) -> Option<&mut OpenExchange> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client_key::ClientKey;
    use crate::http::method::Method;
    use crate::telemetry::metrics::exchange::Protocol;
    use crate::telemetry::metrics::kind::{SendPath, StatusClass};
    use crate::telemetry::metrics::registry::Metrics;
    use bytes::Bytes;
    use std::time::Duration;

    fn begun(exchanges: &mut Exchanges, at: Instant, start: u64) {
        exchanges.begin(Exchange::new(at, Some(Method::Get), Protocol::Http11), start);
    }

    /// Runs `what` on a connection with one exchange, then checks how many exchanges ended with `outcome` and a status
    /// of `class`.
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
        assert_eq!(totals.exchanges.sum(), count, "no others");
    }

    #[test]
    fn an_exchange_ends_once_however_its_connection_ends() {
        use ExchangeOutcome::{ClientGone, Complete, Drained};
        use StatusClass::{None, ServerError, Successful};
        check(|_, _| {}, Drained, None, 1);
        check(|all, _| all.begin_response(200, 0), Drained, Successful, 1);
        check(|all, now| all.abort(ClientGone, 0, now), ClientGone, None, 1);
        let whole = |all: &mut Exchanges, now| {
            all.begin_response(200, 0);
            all.end_response(10);
            all.end_sent(10, now);
        };
        check(whole, Complete, Successful, 1);
        let aborted_after_it_was_sent = |all: &mut Exchanges, now| {
            all.begin_response(200, 0);
            all.end_response(10);
            all.abort(ClientGone, 10, now);
        };
        check(aborted_after_it_was_sent, Complete, Successful, 1);
        let withdrawn = |all: &mut Exchanges, now| {
            all.begin_response(200, 0);
            all.end_response(10);
            all.begin_response(503, 0);
            all.end_response(5);
            all.end_sent(5, now);
        };
        check(withdrawn, Complete, ServerError, 1);
        let pipelined = |all: &mut Exchanges, now| {
            all.begin_response(200, 0);
            all.end_response(10);
            for start in [10, 20] {
                begun(all, now, start);
                all.begin_response(200, start);
                all.end_response(start + 10);
            }
            all.end_sent(30, now);
        };
        check(pipelined, Complete, Successful, 3);
    }

    #[test]
    fn an_abort_ends_what_is_not_sent_and_nothing_before() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let mut exchanges = Exchanges::new(metrics.worker());
        for start in [0, 10, 20] {
            begun(&mut exchanges, now, start);
            exchanges.begin_response(200, start);
            exchanges.end_response(start + 10);
        }
        exchanges.abort(ExchangeOutcome::Stalled, 15, now);
        drop(exchanges);
        let totals = metrics.totals();
        assert_eq!(
            (totals.of_outcome(ExchangeOutcome::Complete), totals.of_outcome(ExchangeOutcome::Stalled)),
            (1, 2)
        );
        assert_eq!(totals.first_bytes.count(), 2, "the third was not begun");
    }

    #[test]
    fn an_interim_response_is_no_first_byte() {
        let (metrics, began) = (Metrics::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut exchanges = Exchanges::new(metrics.worker());
        begun(&mut exchanges, began, 0);
        exchanges.end_sent(25, after(1));
        exchanges.begin_response(200, 25);
        exchanges.end_response(100);
        exchanges.end_sent(100, after(3));
        assert_eq!(metrics.totals().first_bytes.nanoseconds.get(), 3_000_000_000);
    }

    #[test]
    fn a_response_that_waits_is_listed_until_it_ends() {
        let (metrics, now) = (Metrics::default(), Instant::now());
        let mut exchanges = Exchanges::new(metrics.worker());
        begun(&mut exchanges, now, 0);
        exchanges.begin_response(200, 0);
        exchanges.end_response(1000);
        assert!(metrics.transfers().is_empty());
        let mut queue = SendQueue::new(ClientKey::V4(7));
        queue.push(Bytes::from_static(&[0; 1000]));
        for sent in [0, 400] {
            queue.advance(sent, SendPath::Writev, &metrics.worker());
            exchanges.list_waiting(&queue, now);
            let [transfer] = <[_; 1]>::try_from(metrics.transfers()).unwrap();
            assert_eq!((transfer.sent.get(), transfer.total), (sent as u64, Some(1000)));
        }
        exchanges.end_sent(1000, now);
        assert!(metrics.transfers().is_empty());
    }
}
