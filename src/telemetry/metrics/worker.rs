//! Counters of one worker. Only that worker writes them, so a count costs a load and a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::count::add;
use super::exchange::Exchange;
use super::http2::{CountedConnection, Http2Counters};
use super::kind::KINDS;
pub(crate) use super::kind::{ExchangeKind, MethodKind, RejectedHead, SendPath, StatusClass};
use super::outcome::ExchangeOutcome;
use super::totals::MetricTotals;
use super::transfers::Transfers;
use crate::telemetry::access_log::record::{AccessLogRecord, AccessLogSink};
use crate::telemetry::metrics::histogram::Histogram;

/// Counters and histograms of one worker.
///
/// Decision: docs/decisions/036-metrics-per-worker.md.
pub(crate) struct WorkerMetrics {
    /// Receives the records of completed exchanges.
    access_log: Option<Arc<dyn AccessLogSink>>,
    exchanges: [AtomicU64; KINDS],
    sent: [AtomicU64; SendPath::ALL.len()],
    /// Windows that were in the page cache when they were due to be sent, and windows that were not.
    resident_windows: AtomicU64,
    cold_windows: AtomicU64,
    /// Longest request head in bytes.
    longest_head: AtomicU64,
    rejected_heads: [AtomicU64; RejectedHead::ALL.len()],
    /// Durations of exchanges whose response was sent in one go: the first byte left when the exchange ended.
    immediate: Histogram,
    /// Durations of the other exchanges.
    durations: Histogram,
    first_bytes: Histogram,
    http2: Arc<Http2Counters>,
    /// Responses in progress that had to wait for the client or the disk.
    pub(crate) transfers: Transfers,
}

impl WorkerMetrics {
    /// Creates counters whose completed exchanges go to `access_log`.
    pub(super) fn new(access_log: Option<Arc<dyn AccessLogSink>>) -> Self {
        Self {
            access_log,
            exchanges: [const { AtomicU64::new(0) }; KINDS],
            sent: Default::default(),
            resident_windows: AtomicU64::new(0),
            cold_windows: AtomicU64::new(0),
            longest_head: AtomicU64::new(0),
            rejected_heads: Default::default(),
            immediate: Histogram::default(),
            durations: Histogram::default(),
            first_bytes: Histogram::default(),
            http2: Arc::default(),
            transfers: Transfers::default(),
        }
    }

    /// Counts `exchange`, which ends at `now`, and passes its record to the access log.
    pub(crate) fn end(&self, exchange: &Exchange, outcome: ExchangeOutcome, now: Instant) {
        let kind = ExchangeKind {
            method: MethodKind::of(exchange.method),
            class: StatusClass::of(exchange.status),
            protocol: exchange.protocol,
            outcome,
        };
        add(&self.exchanges[kind.index()], 1);
        let took = now.saturating_duration_since(exchange.began);
        match exchange.first_byte {
            Some(first) if first == now => self.immediate.record(took),
            first => {
                self.durations.record(took);
                if let Some(first) = first {
                    self.first_bytes.record(first.saturating_duration_since(exchange.began));
                }
            }
        }
        if let Some(record) = exchange.record.take() {
            self.write_record(record, exchange, outcome, now);
        }
    }

    #[inline(never)]
    fn write_record(
        &self,
        mut record: Box<AccessLogRecord>,
        exchange: &Exchange,
        outcome: ExchangeOutcome,
        now: Instant,
    ) {
        if let Some(access_log) = self.access_log.as_ref().filter(|_| record.is_written) {
            record.end(exchange.ended(outcome, now));
            access_log.write(record);
        }
    }

    /// Counts bytes sent by `path`.
    pub(crate) fn count_sent(&self, path: SendPath, bytes: usize) {
        add(&self.sent[path as usize], bytes as u64);
    }

    /// Counts windows that were in the page cache when they were due to be sent.
    pub(crate) fn count_resident_windows(&self, windows: u64) {
        add(&self.resident_windows, windows);
    }

    /// Counts a window that was not in the page cache when it was due to be sent.
    pub(crate) fn count_cold_window(&self) {
        add(&self.cold_windows, 1);
    }

    /// Records the length of a complete request head.
    pub(crate) fn record_head_length(&self, bytes: usize) {
        if bytes as u64 > self.longest_head.load(Ordering::Relaxed) {
            self.longest_head.store(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Counts a rejected request head.
    pub(crate) fn count_rejected_head(&self, reason: RejectedHead) {
        add(&self.rejected_heads[reason as usize], 1);
    }

    /// Counts one more HTTP/2 connection, until the returned guard is dropped.
    pub(crate) fn http2_connection(&self) -> CountedConnection {
        CountedConnection::new(Arc::clone(&self.http2))
    }

    /// Adds the counts to `totals`.
    pub(super) fn add_to(&self, totals: &mut MetricTotals) {
        totals.add(self.exchanges.iter().map(|count| count.load(Ordering::Relaxed)));
        for (sum, sent) in totals.sent.iter_mut().zip(&self.sent) {
            *sum += sent.load(Ordering::Relaxed);
        }
        for (sum, rejected) in totals.rejected_heads.iter_mut().zip(&self.rejected_heads) {
            *sum += rejected.load(Ordering::Relaxed);
        }
        totals.resident_windows += self.resident_windows.load(Ordering::Relaxed);
        totals.cold_windows += self.cold_windows.load(Ordering::Relaxed);
        totals.longest_head = totals.longest_head.max(self.longest_head.load(Ordering::Relaxed));
        for durations in [&mut totals.durations, &mut totals.first_bytes] {
            self.immediate.add_to(durations);
        }
        self.durations.add_to(&mut totals.durations);
        self.first_bytes.add_to(&mut totals.first_bytes);
        self.http2.add_to(&mut totals.http2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;
    use crate::telemetry::metrics::outcome::Protocol;
    use std::time::Duration;

    #[test]
    fn kinds_are_listed_in_the_order_of_their_indices() {
        assert_eq!(ExchangeKind::all().count(), KINDS);
        for (index, kind) in ExchangeKind::all().enumerate() {
            assert_eq!(kind.index(), index, "{kind:?}");
        }
    }

    #[test]
    fn an_exchange_is_counted_once_with_its_durations() {
        let (worker, began) = (WorkerMetrics::new(None), Instant::now());
        let after = |millis| began + Duration::from_millis(millis);
        for (first_byte, status, outcome) in [
            (Some(after(8)), 200, ExchangeOutcome::Complete),
            (Some(after(2)), 206, ExchangeOutcome::ClientGone),
            (None, 0, ExchangeOutcome::Drained),
        ] {
            let new = Exchange::new(began, Some(Method::Get), Protocol::Http11);
            worker.end(&Exchange { first_byte, status, ..new }, outcome, after(8));
        }
        let mut totals = MetricTotals::new();
        worker.add_to(&mut totals);
        assert_eq!(totals.requests(), 3);
        assert_eq!((totals.durations.count(), totals.durations.nanoseconds), (3, 24_000_000));
        assert_eq!((totals.first_bytes.count(), totals.first_bytes.nanoseconds), (2, 10_000_000));
        assert_eq!(totals.of_outcome(ExchangeOutcome::ClientGone), 1);
        assert_eq!(totals.of_class(StatusClass::Successful), 2);
        assert_eq!(totals.of_class(StatusClass::None), 1);
    }
}
