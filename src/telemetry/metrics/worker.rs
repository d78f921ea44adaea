//! What one worker has counted. It alone writes, so that no count costs more than a load and a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::count::add;
use super::exchange::Exchange;
use super::http2;
use super::kind::KINDS;
pub(crate) use super::kind::{ExchangeKind, MethodKind, RejectedHead, SendPath, StatusClass};
use super::outcome::ExchangeOutcome;
use super::totals::MetricTotals;
use super::transfers::Transfers;
use crate::telemetry::access_log::record::{AccessLogRecord, AccessLogSink};
use crate::telemetry::metrics::histogram::Histogram;

/// The counts of one worker.
pub(crate) struct WorkerMetrics {
    /// Who takes the notes of exchanges that have ended.
    register: Option<Arc<dyn AccessLogSink>>,
    ended: [AtomicU64; KINDS],
    sent: [AtomicU64; SendPath::ALL.len()],
    /// Windows that were in memory when they were to be sent, and those that were not.
    resident_windows: AtomicU64,
    cold_windows: AtomicU64,
    /// The longest head of a request, in bytes.
    longest_head: AtomicU64,
    refused_heads: [AtomicU64; RejectedHead::ALL.len()],
    /// Of exchanges whose response left at once: its first byte left when it ended.
    at_once: Histogram,
    /// Of the others.
    durations: Histogram,
    first_bytes: Histogram,
    pub(super) http2: http2::Http2Counters,
    /// Responses under way that had to wait.
    pub(crate) transfers: Transfers,
}

impl WorkerMetrics {
    /// A sheet that hands notes to `register`.
    pub(super) fn handing_to(register: Option<Arc<dyn AccessLogSink>>) -> Self {
        Self { register, ..Self::default() }
    }

    /// An exchange has ended at `now`.
    pub(crate) fn end(&self, exchange: &Exchange, outcome: ExchangeOutcome, now: Instant) {
        let kind = ExchangeKind {
            method: MethodKind::of(exchange.method),
            class: StatusClass::of(exchange.status),
            protocol: exchange.protocol,
            outcome,
        };
        add(&self.ended[kind.index()], 1);
        let took = now.saturating_duration_since(exchange.began);
        match exchange.first_byte {
            Some(first) if first == now => self.at_once.note(took),
            first => {
                self.durations.note(took);
                if let Some(first) = first {
                    self.first_bytes.note(first.saturating_duration_since(exchange.began));
                }
            }
        }
        if let Some(note) = exchange.note.take() {
            self.hand_over(note, exchange, outcome, now);
        }
    }

    #[inline(never)]
    fn hand_over(
        &self,
        mut note: Box<AccessLogRecord>,
        exchange: &Exchange,
        outcome: ExchangeOutcome,
        now: Instant,
    ) {
        if let Some(register) = self.register.as_ref().filter(|_| note.is_written) {
            note.end(exchange.ended(outcome, now));
            register.enter(note);
        }
    }

    /// So many bytes went that way.
    pub(crate) fn sent(&self, path: SendPath, bytes: usize) {
        add(&self.sent[path as usize], bytes as u64);
    }

    /// So many windows were in memory when they were to be sent.
    pub(crate) fn resident(&self, windows: u64) {
        add(&self.resident_windows, windows);
    }

    /// A window was not in memory when it was to be sent.
    pub(crate) fn cold(&self) {
        add(&self.cold_windows, 1);
    }

    /// A head of so many bytes was whole.
    pub(crate) fn head(&self, bytes: usize) {
        if bytes as u64 > self.longest_head.load(Ordering::Relaxed) {
            self.longest_head.store(bytes as u64, Ordering::Relaxed);
        }
    }

    /// A head was refused.
    pub(crate) fn refused_head(&self, why: RejectedHead) {
        add(&self.refused_heads[why as usize], 1);
    }

    /// Adds what was counted to `totals`.
    pub(super) fn add_to(&self, totals: &mut MetricTotals) {
        totals.add(self.ended.iter().map(|count| count.load(Ordering::Relaxed)));
        for (sum, sent) in totals.sent.iter_mut().zip(&self.sent) {
            *sum += sent.load(Ordering::Relaxed);
        }
        for (sum, refused) in totals.refused_heads.iter_mut().zip(&self.refused_heads) {
            *sum += refused.load(Ordering::Relaxed);
        }
        totals.resident_windows += self.resident_windows.load(Ordering::Relaxed);
        totals.cold_windows += self.cold_windows.load(Ordering::Relaxed);
        totals.longest_head = totals.longest_head.max(self.longest_head.load(Ordering::Relaxed));
        for durations in [&mut totals.durations, &mut totals.first_bytes] {
            self.at_once.add_to(durations);
        }
        self.durations.add_to(&mut totals.durations);
        self.first_bytes.add_to(&mut totals.first_bytes);
        self.http2.add_to(&mut totals.http2);
    }
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            register: None,
            ended: [const { AtomicU64::new(0) }; KINDS],
            sent: Default::default(),
            resident_windows: AtomicU64::new(0),
            cold_windows: AtomicU64::new(0),
            longest_head: AtomicU64::new(0),
            refused_heads: Default::default(),
            at_once: Histogram::default(),
            durations: Histogram::default(),
            first_bytes: Histogram::default(),
            http2: http2::Http2Counters::default(),
            transfers: Transfers::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;
    use crate::telemetry::metrics::outcome::Protocol;
    use std::time::Duration;

    #[test]
    fn kinds_come_in_the_order_of_their_indices() {
        assert_eq!(ExchangeKind::all().count(), KINDS);
        for (index, kind) in ExchangeKind::all().enumerate() {
            assert_eq!(kind.index(), index, "{kind:?}");
        }
    }

    #[test]
    fn an_exchange_is_counted_once_with_its_times() {
        let (sheet, began) = (WorkerMetrics::default(), Instant::now());
        let after = |millis| began + Duration::from_millis(millis);
        for (first_byte, status, outcome) in [
            (Some(after(8)), 200, ExchangeOutcome::Complete),
            (Some(after(2)), 206, ExchangeOutcome::ClientGone),
            (None, 0, ExchangeOutcome::Drained),
        ] {
            let new = Exchange::new(began, Some(Method::Get), Protocol::Http11);
            sheet.end(&Exchange { first_byte, status, ..new }, outcome, after(8));
        }
        let mut totals = MetricTotals::default();
        sheet.add_to(&mut totals);
        assert_eq!(totals.requests(), 3);
        assert_eq!((totals.durations.count(), totals.durations.nanoseconds), (3, 24_000_000));
        assert_eq!((totals.first_bytes.count(), totals.first_bytes.nanoseconds), (2, 10_000_000));
        assert_eq!(totals.of_outcome(ExchangeOutcome::ClientGone), 1);
        assert_eq!(totals.of_class(StatusClass::Successful), 2);
        assert_eq!(totals.of_class(StatusClass::None), 1);
    }
}
