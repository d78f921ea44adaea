//! What all workers have counted, at one moment.

use super::http2::Http2Totals;
use super::kind::{ExchangeKind, KINDS, RejectedHead, SendPath, StatusClass};
use super::outcome::ExchangeOutcome;
use crate::telemetry::metrics::histogram::HistogramTotals;

/// The sum of all sheets. Each count is exact; they are not all of the same instant.
#[derive(Clone, Debug)]
pub(crate) struct MetricTotals {
    ended: Vec<u64>,
    /// Bytes by path, in the order of [`SendPath::ALL`].
    pub(crate) sent: [u64; SendPath::ALL.len()],
    /// Windows that were in memory when they were to be sent, and those that were not.
    pub(crate) resident_windows: u64,
    pub(crate) cold_windows: u64,
    /// The longest head of a request, in bytes.
    pub(crate) longest_head: u64,
    /// Heads that were refused, in the order of [`RejectedHead::ALL`].
    pub(super) refused_heads: [u64; RejectedHead::ALL.len()],
    /// From the last byte of a request's head to the end of its exchange.
    pub(crate) durations: HistogramTotals,
    /// From the last byte of a request's head to the first one of its response.
    pub(crate) first_bytes: HistogramTotals,
    pub(crate) http2: Http2Totals,
}

impl MetricTotals {
    /// Exchanges that have ended.
    pub(crate) fn requests(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Exchanges that the server is to blame for: answered with 5xx, or ended by a disk or a file that changed.
    pub(crate) fn errors(&self) -> u64 {
        let is_error = |kind: ExchangeKind| {
            kind.class == StatusClass::ServerError
                || matches!(kind.outcome, ExchangeOutcome::Changed | ExchangeOutcome::Failed)
        };
        self.sum(is_error)
    }

    /// Exchanges that ended so.
    pub(crate) fn of_outcome(&self, outcome: ExchangeOutcome) -> u64 {
        self.sum(|kind| kind.outcome == outcome)
    }

    /// Exchanges with such a status.
    pub(crate) fn of_class(&self, class: StatusClass) -> u64 {
        self.sum(|kind| kind.class == class)
    }

    /// Bytes that were handed to the kernel.
    pub(crate) fn bytes(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// Heads that were refused for that reason.
    pub(crate) fn refused_heads(&self, why: RejectedHead) -> u64 {
        self.refused_heads[why as usize]
    }

    /// Exchanges by kind.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (ExchangeKind, u64)> {
        ExchangeKind::all().zip(self.ended.iter().copied())
    }

    /// What was counted since `earlier`; but for refused heads, the longest one, and what is told of HTTP/2, which are those
    /// since the start.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let minus = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
        let mut sent = self.sent;
        sent.iter_mut().zip(&earlier.sent).for_each(|(now, before)| *now = now.saturating_sub(*before));
        Self {
            ended: self.ended.iter().zip(&earlier.ended).map(minus).collect(),
            sent,
            resident_windows: minus((&self.resident_windows, &earlier.resident_windows)),
            cold_windows: minus((&self.cold_windows, &earlier.cold_windows)),
            longest_head: self.longest_head,
            refused_heads: self.refused_heads,
            durations: self.durations.since(&earlier.durations),
            first_bytes: self.first_bytes.since(&earlier.first_bytes),
            http2: self.http2,
        }
    }

    /// Adds the counts of one sheet.
    pub(super) fn add(&mut self, counts: impl Iterator<Item = u64>) {
        self.ended.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }

    fn sum(&self, of: impl Fn(ExchangeKind) -> bool) -> u64 {
        self.by_kind().filter(|(kind, _)| of(*kind)).map(|(_, count)| count).sum()
    }
}

impl Default for MetricTotals {
    fn default() -> Self {
        Self {
            ended: vec![0; KINDS],
            sent: [0; SendPath::ALL.len()],
            resident_windows: 0,
            cold_windows: 0,
            longest_head: 0,
            refused_heads: [0; RejectedHead::ALL.len()],
            durations: HistogramTotals::default(),
            first_bytes: HistogramTotals::default(),
            http2: Http2Totals::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::exchange::{Exchange, Protocol};
    use crate::telemetry::metrics::registry::Metrics;
    use std::time::Instant;

    fn end(ledger: &Metrics, status: u16, outcome: ExchangeOutcome) {
        let now = Instant::now();
        let sheet = ledger.sheet();
        sheet.end(&Exchange { status, ..Exchange::new(now, None, Protocol::Http2) }, outcome, now);
        sheet.sent(SendPath::Copied, 7);
    }

    #[test]
    fn errors_are_what_the_server_is_to_blame_for() {
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
            let ledger = Metrics::default();
            end(&ledger, status, outcome);
            assert_eq!(ledger.totals().errors(), errors, "{status} {outcome:?}");
            assert_eq!((ledger.totals().requests(), ledger.totals().bytes()), (1, 7));
        }
    }

    #[test]
    fn sheets_are_added_up_and_what_was_before_is_taken_away() {
        let ledger = Metrics::default();
        end(&ledger, 200, ExchangeOutcome::Complete);
        let before = ledger.totals();
        end(&ledger, 200, ExchangeOutcome::Complete);
        end(&ledger, 500, ExchangeOutcome::Complete);
        assert_eq!(ledger.totals().requests(), 3);
        let since = ledger.totals().since(&before);
        assert_eq!((since.requests(), since.errors(), since.bytes(), since.durations.count()), (2, 1, 14, 2));
    }
}
