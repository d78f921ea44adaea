//! What a worker counts. Sums over all workers, and counts of a period, have the same shape.

use super::counter::{Counter, CounterArray};
use super::histogram::Histogram;
use super::kind::{ExchangeKind, ExchangeOutcome, KINDS, PathLookup, SendPath, StatusClass};

/// Counts of one worker, of all, or of a period. Each count is exact, but they are not read at the same instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct MetricCounts {
    /// Completed exchanges, by [`ExchangeKind::index`].
    pub(crate) exchanges: CounterArray<KINDS>,
    /// Bytes sent, by [`SendPath`].
    pub(crate) sent: CounterArray<{ SendPath::ALL.len() }>,
    /// Windows that were in the page cache when they were due to be sent, and windows that were not.
    pub(crate) resident_windows: Counter,
    pub(crate) cold_windows: Counter,
    /// Longest request head in bytes.
    pub(crate) longest_head: Counter,
    /// By [`RejectedHead`](super::kind::RejectedHead).
    pub(crate) rejected_heads: CounterArray<3>,
    /// Look-ups in the path cache that each worker has in front of the shared caches, by
    /// [`PathLookup`].
    pub(crate) path_lookups: CounterArray<5>,
    /// Durations of exchanges whose response was sent in one go: the first byte left when the exchange ended. Sums over all
    /// workers have them in the other two histograms too.
    pub(super) immediate: Histogram,
    /// From the last byte of the request head to the end of the exchange.
    pub(crate) durations: Histogram,
    /// From the last byte of the request head to the first byte of the response.
    pub(crate) first_bytes: Histogram,
    pub(crate) http2: Http2Counts,
}

/// Counts of HTTP/2 connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Http2Counts {
    /// Open connections.
    pub(crate) connections: Counter,
    /// Open streams.
    pub(crate) streams: Counter,
    /// Highest number of streams open on one connection at once.
    pub(crate) streams_max: Counter,
    /// Highest number of resets on one connection within about ten seconds.
    pub(crate) recent_resets_max: Counter,
    /// Streams reset by clients, or by the server because of a client's error.
    pub(crate) resets: Counter,
    /// Closed connections, by [`ProtocolViolation`](super::kind::ProtocolViolation).
    pub(crate) violations: CounterArray<3>,
}

impl MetricCounts {
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

    /// Look-ups that the path caches answered, and others.
    pub(crate) fn path_cache_hits_and_misses(&self) -> (u64, u64) {
        let misses = self.path_lookups[PathLookup::Miss as usize].get();
        (self.path_lookups.sum() - misses, misses)
    }

    /// Exchanges by kind.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (ExchangeKind, u64)> {
        ExchangeKind::all().zip(self.exchanges.iter().map(Counter::get))
    }

    /// Counts since `earlier`. The highest values stay those since the start; gauges become differences, which nobody reads.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let since = self.clone();
        for (count, before) in since.summed().zip(earlier.summed()) {
            count.set(count.get().saturating_sub(before.get()));
        }
        since
    }

    /// Adds the counts of one worker.
    pub(super) fn add(&self, worker: &Self) {
        self.summed().zip(worker.summed()).for_each(|(sum, count)| sum.add(count.get()));
        self.highest().into_iter().zip(worker.highest()).for_each(|(all, one)| all.raise(one.get()));
        [&self.durations, &self.first_bytes].into_iter().for_each(|all| all.add(&worker.immediate));
    }

    /// The counters that are summed over workers, always in the same order.
    fn summed(&self) -> impl Iterator<Item = &Counter> {
        let Self { exchanges, sent, rejected_heads, path_lookups, http2, .. } = self;
        let arrays =
            [&exchanges[..], &sent[..], &rejected_heads[..], &path_lookups[..], &http2.violations[..]];
        let numbers = [&self.resident_windows, &self.cold_windows];
        let of_http2 = [&http2.connections, &http2.streams, &http2.resets];
        let histograms = [&self.immediate, &self.durations, &self.first_bytes];
        let histograms = histograms.into_iter().flat_map(Histogram::counters);
        arrays.into_iter().flatten().chain(numbers).chain(of_http2).chain(histograms)
    }

    /// The counters of which all workers together have the highest.
    fn highest(&self) -> [&Counter; 3] {
        [&self.longest_head, &self.http2.streams_max, &self.http2.recent_resets_max]
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
        worker.counts.sent[SendPath::Copied as usize].add(7);
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
            assert_eq!((metrics.totals().exchanges.sum(), metrics.totals().sent.sum()), (1, 7));
        }
    }

    #[test]
    fn workers_are_summed_and_since_subtracts_earlier_counts() {
        let metrics = Metrics::default();
        end(&metrics, 200, ExchangeOutcome::Complete);
        let before = metrics.totals();
        end(&metrics, 200, ExchangeOutcome::Complete);
        end(&metrics, 500, ExchangeOutcome::Complete);
        assert_eq!(metrics.totals().exchanges.sum(), 3);
        let since = metrics.totals().since(&before);
        assert_eq!(
            (since.exchanges.sum(), since.errors(), since.sent.sum(), since.durations.count()),
            (2, 1, 14, 2)
        );
    }
}
