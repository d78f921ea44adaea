//! Detects clients that take nothing, or too little.

use std::time::{Duration, Instant};

use crate::config::ConnectionsGroup;
use crate::limits::connections::Connections;

/// Since when a client has taken nothing.
///
/// The socket's buffer hides a slow reader: it takes megabytes at once and is writable again only when most of them
/// have left. So what counts is what the peer has not acknowledged, checked a few times within the timeout.
///
/// Decision: docs/decisions/031-stalled-clients.md.
pub(super) struct StallTimer {
    since: Instant,
    untaken: Option<usize>,
}

impl StallTimer {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, untaken: None }
    }

    /// Counts `bytes` that the socket took. That alone is no sign of the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.untaken = self.untaken.map(|untaken| untaken.saturating_add(bytes));
    }

    /// Returns true if nothing was taken for `timeout`, given that `untaken` bytes wait in the socket. `None` if
    /// unknown.
    pub(super) fn is_expired(&mut self, now: Instant, untaken: Option<usize>, timeout: Duration) -> bool {
        // A client that has taken everything waits for us: for a turn or for the disk.
        let is_taking = match (untaken, self.untaken) {
            (Some(0), _) => true,
            (Some(now), Some(before)) => now < before,
            _ => false,
        };
        self.untaken = untaken;
        if is_taking {
            self.since = now;
        }
        !is_taking && now.duration_since(self.since) >= timeout
    }
}

/// How fast a client takes a response. Only time spent waiting for the client counts, not that for a turn, a disk or a
/// pace.
///
/// Decision: docs/decisions/041-minimum-rate.md.
#[derive(Debug, Default)]
pub(super) struct ReceiveRate {
    sent: u64,
    waited: Duration,
    /// Since when the server waits for the client.
    since: Option<Instant>,
}

impl ReceiveRate {
    /// Counts `bytes` that the socket took.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// Notes whether the server waits for the client from `now` on.
    pub(super) fn set_waiting(&mut self, now: Instant, for_client: bool) {
        if let Some(since) = self.since {
            self.waited += now.saturating_duration_since(since);
        }
        self.since = for_client.then_some(now);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Returns true, and counts the client, if it takes less than `min_rate` while connections run short. `untaken` is
    /// the number of bytes that wait in the socket.
    pub(super) fn is_too_slow(
        &self,
        settings: &ConnectionsGroup,
        connections: &Connections,
        untaken: impl FnOnce() -> Option<usize>,
    ) -> bool {
        let Some(min_rate) = settings.min_rate.given() else { return false };
        let is_enforced = self.waited >= settings.min_rate_after.get() && connections.is_short();
        let is_slow = is_enforced && untaken().is_some_and(|untaken| self.is_below(min_rate.get(), untaken));
        if is_slow {
            connections.too_slow.add_shared(1);
        }
        is_slow
    }

    /// Returns true if the client took less than `rate` bytes per second, given that `untaken` bytes still wait in the
    /// socket.
    fn is_below(&self, rate: u64, untaken: usize) -> bool {
        let taken = self.sent.saturating_sub(untaken as u64);
        u128::from(taken) * 1000 < u128::from(rate) * self.waited.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    #[test]
    fn a_client_stalls_only_while_bytes_wait_that_it_does_not_take() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for (checks, expected) in [
            ([(2, Some(100)), (4, Some(100))], true),
            ([(2, Some(100)), (4, Some(99))], false),
            ([(2, Some(100)), (4, Some(0))], false),
            ([(2, Some(0)), (4, Some(100))], false),
            ([(2, None), (4, None)], true),
        ] {
            let mut stall = StallTimer::new(start);
            let last = checks.map(|(seconds, untaken)| stall.is_expired(after(seconds), untaken, TIMEOUT));
            assert_eq!(last[1], expected, "{checks:?}");
        }
    }

    #[test]
    fn the_rate_counts_only_time_spent_waiting_for_the_client() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut rate = ReceiveRate::default();
        rate.sent(50_000);
        rate.set_waiting(start, true);
        rate.set_waiting(after(10), false);
        assert!(!rate.is_waiting() && rate.waited == Duration::from_secs(10));
        assert!(rate.is_below(1000, 41_000));
        assert!(!rate.is_below(1000, 40_000));
        // The server took another hour itself.
        rate.set_waiting(after(3610), true);
        assert!(!rate.is_below(1000, 40_000));
        rate.set_waiting(after(3611), true);
        assert!(rate.is_below(1000, 40_000));
        assert!(!rate.is_below(1000, 39_000));
    }

    #[test]
    fn bytes_sent_meanwhile_hide_neither_a_stall_nor_progress() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for (untaken, expected) in [(150, true), (149, false)] {
            let mut stall = StallTimer::new(start);
            assert!(!stall.is_expired(after(2), Some(100), TIMEOUT));
            stall.sent(50);
            assert_eq!(stall.is_expired(after(4), Some(untaken), TIMEOUT), expected, "{untaken}");
        }
    }
}
