//! Sums of the counters of all workers at one moment.

use super::http2::Http2Totals;
use super::kind::{ExchangeKind, KINDS, RejectedHead, SendPath, StatusClass};
use super::outcome::ExchangeOutcome;
use crate::telemetry::metrics::histogram::HistogramTotals;

/// Sums over all workers. Each count is exact, but they are not read at the same instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct MetricTotals {
    exchanges: Vec<u64>,
    /// Bytes sent by path, in the order of [`SendPath::ALL`].
    pub(crate) sent: [u64; SendPath::ALL.len()],
    /// Windows that were in the page cache when they were due to be sent, and windows that were not.
    pub(crate) resident_windows: u64,
    pub(crate) cold_windows: u64,
    /// Longest request head in bytes.
    pub(crate) longest_head: u64,
    /// Rejected request heads in the order of [`RejectedHead::ALL`].
    pub(super) rejected_heads: [u64; RejectedHead::ALL.len()],
    /// From the last byte of the request head to the end of the exchange.
    pub(crate) durations: HistogramTotals,
    /// From the last byte of the request head to the first byte of the response.
    pub(crate) first_bytes: HistogramTotals,
    pub(crate) http2: Http2Totals,
}

impl MetricTotals {
    /// Sums of nothing.
    pub(super) fn new() -> Self {
        Self { exchanges: vec![0; KINDS], ..Self::default() }
    }

    /// Completed exchanges.
    pub(crate) fn requests(&self) -> u64 {
        self.exchanges.iter().sum()
    }

    /// Exchanges that failed because of the server: status 5xx, a disk error, or a file that changed while it was sent.
    pub(crate) fn errors(&self) -> u64 {
        let is_error = |kind: ExchangeKind| {
            kind.class == StatusClass::ServerError
                || matches!(kind.outcome, ExchangeOutcome::Changed | ExchangeOutcome::Failed)
        };
        self.sum(is_error)
    }

    /// Exchanges with `outcome`.
    pub(crate) fn of_outcome(&self, outcome: ExchangeOutcome) -> u64 {
        self.sum(|kind| kind.outcome == outcome)
    }

    /// Exchanges with a status of `class`.
    pub(crate) fn of_class(&self, class: StatusClass) -> u64 {
        self.sum(|kind| kind.class == class)
    }

    /// Bytes accepted by the kernel.
    pub(crate) fn bytes(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// Request heads rejected for `reason`.
    pub(crate) fn rejected_heads(&self, reason: RejectedHead) -> u64 {
        self.rejected_heads[reason as usize]
    }

    /// Exchanges by kind.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (ExchangeKind, u64)> {
        ExchangeKind::all().zip(self.exchanges.iter().copied())
    }

    /// Counts since `earlier`. Rejected heads, the longest head and HTTP/2 counts stay those since the start.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let minus = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
        let mut sent = self.sent;
        sent.iter_mut().zip(&earlier.sent).for_each(|(now, before)| *now = now.saturating_sub(*before));
        Self {
            exchanges: self.exchanges.iter().zip(&earlier.exchanges).map(minus).collect(),
            sent,
            resident_windows: minus((&self.resident_windows, &earlier.resident_windows)),
            cold_windows: minus((&self.cold_windows, &earlier.cold_windows)),
            durations: self.durations.since(&earlier.durations),
            first_bytes: self.first_bytes.since(&earlier.first_bytes),
            ..*self
        }
    }

    /// Adds the exchanges of one worker.
    pub(super) fn add(&mut self, counts: impl Iterator<Item = u64>) {
        self.exchanges.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }

    fn sum(&self, of: impl Fn(ExchangeKind) -> bool) -> u64 {
        self.by_kind().filter(|(kind, _)| of(*kind)).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::exchange::{Exchange, Protocol};
    use crate::telemetry::metrics::registry::Metrics;
    use std::time::Instant;

    fn end(metrics: &Metrics, status: u16, outcome: ExchangeOutcome) {
        let now = Instant::now();
        let worker = metrics.worker();
        worker.end(&Exchange { status, ..Exchange::new(now, None, Protocol::Http2) }, outcome, now);
        worker.count_sent(SendPath::Copied, 7);
    }

    #[test]
    fn errors_are_failures_of_the_server() {
        for (status, outcome, errors) in [
            (200, ExchangeOutcome::Complete, 0),
            (404, ExchangeOutcome::Complete, 0),
            (200, ExchangeOutcome::ClientGone, 0),
            (200, ExchangeOutcome::Drained, 0),
            (503, ExchangeOutcome::Complete, 1),
            (503, ExchangeOutcome::ClientGone, 1),
            (200, ExchangeOutcome::Failed, 1),
            (206, ExchangeOutcome::Changed, 1),
        ] {
            let metrics = Metrics::default();
            end(&metrics, status, outcome);
            assert_eq!(metrics.totals().errors(), errors, "{status} {outcome:?}");
            assert_eq!((metrics.totals().requests(), metrics.totals().bytes()), (1, 7));
        }
    }

    #[test]
    fn workers_are_summed_and_since_subtracts_earlier_counts() {
        let metrics = Metrics::default();
        end(&metrics, 200, ExchangeOutcome::Complete);
        let before = metrics.totals();
        end(&metrics, 200, ExchangeOutcome::Complete);
        end(&metrics, 500, ExchangeOutcome::Complete);
        assert_eq!(metrics.totals().requests(), 3);
        let since = metrics.totals().since(&before);
        assert_eq!((since.requests(), since.errors(), since.bytes(), since.durations.count()), (2, 1, 14, 2));
    }
}
