//! Counters of HTTP/2 connections and their streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::count::add;

/// HTTP/2 counters of one worker, which alone writes them.
#[derive(Debug, Default)]
pub(super) struct Http2Counters {
    connections_opened: AtomicU64,
    connections_closed: AtomicU64,
    streams: AtomicU64,
    streams_max: AtomicU64,
    recent_resets_max: AtomicU64,
    resets: AtomicU64,
    violations: [AtomicU64; ProtocolViolation::ALL.len()],
}

/// HTTP/2 counts of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Http2Totals {
    /// Open connections.
    pub(crate) connections: u64,
    /// Open streams.
    pub(crate) streams: u64,
    /// Highest number of streams open on one connection at once.
    pub(crate) streams_max: u64,
    /// Highest number of resets on one connection within about ten seconds.
    pub(crate) recent_resets_max: u64,
    /// Streams reset by clients, or by the server because of a client's error.
    pub(crate) resets: u64,
    violations: [u64; ProtocolViolation::ALL.len()],
}

/// Client behaviour for which a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolViolation {
    /// Frames that RFC 9113 forbids.
    Malformed,
    /// Too many resets.
    Resets,
    /// Too many frames that carry neither a request nor data.
    Frames,
}

impl ProtocolViolation {
    pub(crate) const ALL: [Self; 3] = [Self::Malformed, Self::Resets, Self::Frames];
}

impl Http2Counters {
    pub(super) fn add_to(&self, totals: &mut Http2Totals) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // Closed before opened: a connection opened in between may count once too often, never too rarely.
        let closed = load(&self.connections_closed);
        totals.connections += load(&self.connections_opened).saturating_sub(closed);
        totals.streams += load(&self.streams);
        totals.streams_max = totals.streams_max.max(load(&self.streams_max));
        totals.recent_resets_max = totals.recent_resets_max.max(load(&self.recent_resets_max));
        totals.resets += load(&self.resets);
        for (sum, count) in totals.violations.iter_mut().zip(&self.violations) {
            *sum += load(count);
        }
    }
}

impl Http2Totals {
    /// Connections closed for `violation`.
    pub(crate) fn violations(&self, violation: ProtocolViolation) -> u64 {
        self.violations[violation as usize]
    }
}

/// Counts one connection from its creation to its drop.
pub(crate) struct CountedConnection {
    counters: Arc<Http2Counters>,
    known: ConnectionState,
}

/// Streams and resets of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionState {
    /// Open streams.
    pub(crate) streams: u64,
    /// Streams reset since the connection was opened, and within about ten seconds.
    pub(crate) resets: u64,
    pub(crate) recent_resets: u64,
}

impl CountedConnection {
    pub(super) fn new(counters: Arc<Http2Counters>) -> Self {
        add(&counters.connections_opened, 1);
        Self { counters, known: ConnectionState::default() }
    }

    /// Updates the counters to the present state of the connection.
    pub(crate) fn update(&mut self, now: ConnectionState) {
        if now == self.known {
            return;
        }
        let counts = &self.counters;
        let others = counts.streams.load(Ordering::Relaxed).saturating_sub(self.known.streams);
        counts.streams.store(others + now.streams, Ordering::Relaxed);
        raise(&counts.streams_max, now.streams);
        raise(&counts.recent_resets_max, now.recent_resets);
        add(&counts.resets, now.resets.saturating_sub(self.known.resets));
        self.known = now;
    }

    /// Counts that the connection is closed for `violation`.
    pub(crate) fn count_violation(&self, violation: ProtocolViolation) {
        add(&self.counters.violations[violation as usize], 1);
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.update(ConnectionState { streams: 0, ..self.known });
        add(&self.counters.connections_closed, 1);
    }
}

fn raise(max: &AtomicU64, now: u64) {
    if now > max.load(Ordering::Relaxed) {
        max.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::registry::Metrics;

    #[test]
    fn open_streams_are_summed_and_the_maximum_is_that_of_one_connection() {
        let metrics = Metrics::default();
        let (one, other) = (metrics.worker(), metrics.worker());
        let mut first = one.http2_connection();
        let mut second = one.http2_connection();
        let mut third = other.http2_connection();
        let state = |streams| ConnectionState { streams, ..ConnectionState::default() };
        first.update(state(3));
        second.update(state(5));
        third.update(state(2));
        first.update(state(1));
        let totals = metrics.totals().http2;
        assert_eq!((totals.connections, totals.streams, totals.streams_max), (3, 8, 5));
        drop(second);
        let totals = metrics.totals().http2;
        assert_eq!((totals.connections, totals.streams, totals.streams_max), (2, 3, 5));
        drop((first, third));
        let totals = metrics.totals().http2;
        assert_eq!((totals.connections, totals.streams, totals.streams_max), (0, 0, 5));
    }

    #[test]
    fn resets_are_counted_once() {
        let metrics = Metrics::default();
        let mut counted = metrics.worker().http2_connection();
        for (resets, recent_resets) in [(2, 2), (2, 1), (7, 6), (7, 0)] {
            counted.update(ConnectionState { streams: 0, resets, recent_resets });
        }
        counted.count_violation(ProtocolViolation::Resets);
        drop(counted);
        let totals = metrics.totals().http2;
        assert_eq!((totals.resets, totals.recent_resets_max), (7, 6));
        assert_eq!(ProtocolViolation::ALL.map(|violation| totals.violations(violation)), [0, 1, 0]);
    }
}
