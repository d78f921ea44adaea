//! HTTP/2 connections of one worker, and the streams on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::count::add;
use crate::telemetry::metrics::worker::WorkerMetrics;

/// What one worker has counted. It alone writes.
#[derive(Debug, Default)]
pub(super) struct Http2Counters {
    connections_begun: AtomicU64,
    connections_ended: AtomicU64,
    streams: AtomicU64,
    most_streams: AtomicU64,
    most_resets: AtomicU64,
    resets: AtomicU64,
    breaches: [AtomicU64; ProtocolViolation::ALL.len()],
}

/// What all workers have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Http2Totals {
    /// Connections that are open.
    pub(crate) connections: u64,
    /// Streams that are open.
    pub(crate) streams: u64,
    /// The most streams that were open on one connection at once.
    pub(crate) most_streams: u64,
    /// The most resets on one connection in about ten seconds.
    pub(crate) most_resets: u64,
    /// Streams that clients reset, or had reset.
    pub(crate) resets: u64,
    breaches: [u64; ProtocolViolation::ALL.len()],
}

/// Why a connection was ended for what its client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolViolation {
    /// Frames that RFC 9113 does not allow.
    Malformed,
    /// More resets than are allowed.
    Resets,
    /// More frames that neither ask for anything nor bring anything than are allowed.
    Frames,
}

impl ProtocolViolation {
    pub(crate) const ALL: [Self; 3] = [Self::Malformed, Self::Resets, Self::Frames];
}

impl Http2Counters {
    pub(super) fn add_to(&self, totals: &mut Http2Totals) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // In this order, so that no connection is missed: one that begins meanwhile may be one too many, never one too few.
        let ended = load(&self.connections_ended);
        totals.connections += load(&self.connections_begun).saturating_sub(ended);
        totals.streams += load(&self.streams);
        totals.most_streams = totals.most_streams.max(load(&self.most_streams));
        totals.most_resets = totals.most_resets.max(load(&self.most_resets));
        totals.resets += load(&self.resets);
        for (sum, count) in totals.breaches.iter_mut().zip(&self.breaches) {
            *sum += load(count);
        }
    }
}

impl Http2Totals {
    /// Connections that were ended for that.
    pub(crate) fn breaches(&self, why: ProtocolViolation) -> u64 {
        self.breaches[why as usize]
    }
}

/// A connection, as it is counted: from its beginning to its drop.
pub(crate) struct CountedConnection {
    sheet: Arc<WorkerMetrics>,
    known: ConnectionState,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionState {
    /// Streams that are open.
    pub(crate) streams: u64,
    /// Streams that were reset since it began, and in about ten seconds.
    pub(crate) resets: u64,
    pub(crate) recent_resets: u64,
}

impl CountedConnection {
    pub(crate) fn begin(sheet: Arc<WorkerMetrics>) -> Self {
        add(&sheet.http2.connections_begun, 1);
        Self { sheet, known: ConnectionState::default() }
    }

    /// It stands so now.
    pub(crate) fn stands(&mut self, now: ConnectionState) {
        if now == self.known {
            return;
        }
        let counts = &self.sheet.http2;
        let others = counts.streams.load(Ordering::Relaxed).saturating_sub(self.known.streams);
        counts.streams.store(others + now.streams, Ordering::Relaxed);
        raise(&counts.most_streams, now.streams);
        raise(&counts.most_resets, now.recent_resets);
        add(&counts.resets, now.resets.saturating_sub(self.known.resets));
        self.known = now;
    }

    /// It ends for what its client sent.
    pub(crate) fn breach(&self, why: ProtocolViolation) {
        add(&self.sheet.http2.breaches[why as usize], 1);
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.stands(ConnectionState { streams: 0, ..self.known });
        add(&self.sheet.http2.connections_ended, 1);
    }
}

fn raise(most: &AtomicU64, now: u64) {
    if now > most.load(Ordering::Relaxed) {
        most.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::registry::Metrics;

    #[test]
    fn open_streams_are_those_of_all_connections_and_the_most_are_those_of_one() {
        let ledger = Metrics::default();
        let (one, other) = (ledger.sheet(), ledger.sheet());
        let mut first = CountedConnection::begin(Arc::clone(&one));
        let mut second = CountedConnection::begin(one);
        let mut third = CountedConnection::begin(other);
        let standing = |streams| ConnectionState { streams, ..ConnectionState::default() };
        first.stands(standing(3));
        second.stands(standing(5));
        third.stands(standing(2));
        first.stands(standing(1));
        let totals = ledger.totals().http2;
        assert_eq!((totals.connections, totals.streams, totals.most_streams), (3, 8, 5));
        drop(second);
        let totals = ledger.totals().http2;
        assert_eq!((totals.connections, totals.streams, totals.most_streams), (2, 3, 5));
        drop((first, third));
        let totals = ledger.totals().http2;
        assert_eq!((totals.connections, totals.streams, totals.most_streams), (0, 0, 5));
    }

    #[test]
    fn resets_are_told_as_they_stand_and_counted_once() {
        let ledger = Metrics::default();
        let mut counted = CountedConnection::begin(ledger.sheet());
        for (resets, recent_resets) in [(2, 2), (2, 1), (7, 6), (7, 0)] {
            counted.stands(ConnectionState { streams: 0, resets, recent_resets });
        }
        counted.breach(ProtocolViolation::Resets);
        drop(counted);
        let totals = ledger.totals().http2;
        assert_eq!((totals.resets, totals.most_resets), (7, 6));
        assert_eq!(ProtocolViolation::ALL.map(|why| totals.breaches(why)), [0, 1, 0]);
    }
}
