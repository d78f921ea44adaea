//! Counters of one worker. Only that worker writes them, so a count costs a load and a store.

use std::sync::Arc;
use std::time::Instant;

use super::counts::MetricCounts;
use super::exchange::Exchange;
use super::kind::{ExchangeKind, ExchangeOutcome, MethodKind, StatusClass};
use super::transfers::Transfers;
use crate::telemetry::access_log::record::AccessLogRecord;
use crate::telemetry::access_log::shared::AccessLog;

/// Counters and histograms of one worker.
///
/// Decision: docs/decisions/036-metrics-per-worker.md.
#[derive(Default)]
pub struct WorkerMetrics {
    /// Receives the records of completed exchanges.
    pub(super) access_log: Option<Arc<AccessLog>>,
    pub(crate) counts: MetricCounts,
    /// Responses in progress that had to wait for the client or the disk.
    pub(crate) transfers: Transfers,
}

impl WorkerMetrics {
    /// Counts `exchange`, which ends at `now`, and passes its record to the access log.
    pub(crate) fn end(&self, exchange: &Exchange, outcome: ExchangeOutcome, now: Instant) {
        let kind = ExchangeKind {
            method: MethodKind::of(exchange.method),
            class: StatusClass::of(exchange.status),
            protocol: exchange.protocol,
            outcome,
        };
        let MetricCounts { exchanges, immediate, durations, first_bytes, .. } = &self.counts;
        exchanges[kind.index()].add(1);
        let took = now.saturating_duration_since(exchange.began);
        match exchange.first_byte {
            Some(first) if first == now => immediate.record(took),
            first => {
                durations.record(took);
                if let Some(first) = first {
                    first_bytes.record(first.saturating_duration_since(exchange.began));
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;
    use crate::telemetry::metrics::kind::{KINDS, Protocol};
    use crate::telemetry::metrics::registry::Metrics;
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
        let (metrics, began) = (Metrics::default(), Instant::now());
        let worker = metrics.worker();
        let after = |millis| began + Duration::from_millis(millis);
        for (first_byte, status, outcome) in [
            (Some(after(8)), 200, ExchangeOutcome::Complete),
            (Some(after(2)), 206, ExchangeOutcome::ClientGone),
            (None, 0, ExchangeOutcome::Drained),
        ] {
            let new = Exchange::new(began, Some(Method::Get), Protocol::Http11);
            worker.end(&Exchange { first_byte, status, ..new }, outcome, after(8));
        }
        let totals = metrics.totals();
        assert_eq!(totals.exchanges.sum(), 3);
        assert_eq!((totals.durations.count(), totals.durations.nanoseconds.get()), (3, 24_000_000));
        assert_eq!((totals.first_bytes.count(), totals.first_bytes.nanoseconds.get()), (2, 10_000_000));
        assert_eq!(totals.of_outcome(ExchangeOutcome::ClientGone), 1);
        assert_eq!(totals.of_class(StatusClass::Successful), 2);
        assert_eq!(totals.of_class(StatusClass::None), 1);
    }
}
