//! Counts HTTP/2 connections and their streams.

use std::sync::Arc;

use super::counts::Http2Counts;
use super::kind::ProtocolViolation;
use super::worker::WorkerMetrics;

/// Counts one connection from its creation to its drop.
pub(crate) struct CountedConnection {
    metrics: Arc<WorkerMetrics>,
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
    /// Counts one more connection in `metrics`, whose thread drops it.
    pub(crate) fn new(metrics: &Arc<WorkerMetrics>) -> Self {
        metrics.counts.http2.connections.add(1);
        Self { metrics: Arc::clone(metrics), known: ConnectionState::default() }
    }

    /// Updates the counters to the present state of the connection.
    pub(crate) fn update(&mut self, now: ConnectionState) {
        if now == self.known {
            return;
        }
        let Http2Counts { streams, streams_max, recent_resets_max, resets, .. } = &self.metrics.counts.http2;
        let others = streams.get().saturating_sub(self.known.streams);
        streams.set(others + now.streams);
        streams_max.raise(now.streams);
        recent_resets_max.raise(now.recent_resets);
        resets.add(now.resets.saturating_sub(self.known.resets));
        self.known = now;
    }

    /// Counts that the connection is closed for `violation`.
    pub(crate) fn count_violation(&self, violation: ProtocolViolation) {
        self.metrics.counts.http2.violations[violation as usize].add(1);
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.update(ConnectionState { streams: 0, ..self.known });
        let connections = &self.metrics.counts.http2.connections;
        connections.set(connections.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::counter::Counter;
    use crate::telemetry::metrics::registry::Metrics;

    #[test]
    fn open_streams_are_summed_and_the_maximum_is_that_of_one_connection() {
        let metrics = Metrics::default();
        let (one, other) = (metrics.worker(), metrics.worker());
        let [mut first, mut second, mut third] = [&one, &one, &other].map(CountedConnection::new);
        let state = |streams| ConnectionState { streams, ..ConnectionState::default() };
        let counts = || {
            let Http2Counts { connections, streams, streams_max, .. } = metrics.totals().http2;
            (connections.get(), streams.get(), streams_max.get())
        };
        first.update(state(3));
        second.update(state(5));
        third.update(state(2));
        first.update(state(1));
        assert_eq!(counts(), (3, 8, 5));
        drop(second);
        assert_eq!(counts(), (2, 3, 5));
        drop((first, third));
        assert_eq!(counts(), (0, 0, 5));
    }

    #[test]
    fn resets_are_counted_once() {
        let metrics = Metrics::default();
        let mut counted = CountedConnection::new(&metrics.worker());
        for (resets, recent_resets) in [(2, 2), (2, 1), (7, 6), (7, 0)] {
            counted.update(ConnectionState { streams: 0, resets, recent_resets });
        }
        counted.count_violation(ProtocolViolation::Resets);
        drop(counted);
        let totals = metrics.totals().http2;
        assert_eq!((totals.resets.get(), totals.recent_resets_max.get()), (7, 6));
        assert_eq!(totals.violations.each_ref().map(Counter::get), [0, 1, 0]);
    }
}
