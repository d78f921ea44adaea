//! Clients that take nothing, or too little.

use std::time::{Duration, Instant};

/// Since when a client has taken nothing.
///
/// The socket's buffer hides a slow reader: it takes megabytes at once and is writable again only when much of it has left.
/// So what counts is what the other end has not taken, looked at a few times within the timeout.
pub(crate) struct StallTimer {
    since: Instant,
    untaken: Option<usize>,
}

impl StallTimer {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, untaken: None }
    }

    /// So many bytes went into the socket, which is no sign of the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.untaken = self.untaken.map(|untaken| untaken.saturating_add(bytes));
    }

    /// Whether nothing was taken for `timeout`, now that `untaken` bytes wait.
    pub(crate) fn goes_on(&mut self, now: Instant, untaken: Option<usize>, timeout: Duration) -> bool {
        // A client that has taken all there is waits for us: for a turn, or for the disk.
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

/// How fast a client takes a response, by the time in which nothing but the client was waited for: a turn, a disk or a
/// pace of ours does not count against it.
#[derive(Debug, Default)]
pub(crate) struct ReceiveRate {
    sent: u64,
    waited: Duration,
    /// Since when the client is waited for.
    since: Option<Instant>,
}

impl ReceiveRate {
    /// So many bytes went into the socket.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// From `now` on the client is waited for, or not.
    pub(crate) fn waits(&mut self, now: Instant, for_client: bool) {
        if let Some(since) = self.since {
            self.waited += now.saturating_duration_since(since);
        }
        self.since = for_client.then_some(now);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// For how long the client was waited for.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether the client took less than `rate` bytes a second, now that `untaken` of those sent still wait in the socket.
    pub(crate) fn is_below(&self, rate: u64, untaken: usize) -> bool {
        let taken = self.sent.saturating_sub(untaken as u64);
        u128::from(taken) * 1000 < u128::from(rate) * self.waited.as_millis()
    }
}

/// How often within the stall timeout the socket is looked at.
pub(crate) const STALL_LOOKS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    #[test]
    fn a_client_stalls_only_while_there_is_something_that_it_does_not_take() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for (looks, expected) in [
            ([(2, Some(100)), (4, Some(100))], true),
            ([(2, Some(100)), (4, Some(99))], false),
            ([(2, Some(100)), (4, Some(0))], false),
            ([(2, Some(0)), (4, Some(100))], false),
            ([(2, None), (4, None)], true),
        ] {
            let mut stall = StallTimer::new(start);
            let last = looks.map(|(seconds, untaken)| stall.goes_on(after(seconds), untaken, TIMEOUT));
            assert_eq!(last[1], expected, "{looks:?}");
        }
    }

    #[test]
    fn a_client_is_slow_by_what_it_took_in_the_time_that_it_was_waited_for() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut uptake = ReceiveRate::default();
        uptake.sent(50_000);
        uptake.waits(start, true);
        uptake.waits(after(10), false);
        assert!(!uptake.is_waiting() && uptake.waited() == Duration::from_secs(10));
        assert!(uptake.is_below(1000, 41_000));
        assert!(!uptake.is_below(1000, 40_000));
        // Another hour was ours.
        uptake.waits(after(3610), true);
        assert!(!uptake.is_below(1000, 40_000));
        uptake.waits(after(3611), true);
        assert!(uptake.is_below(1000, 40_000));
        assert!(!uptake.is_below(1000, 39_000));
    }

    #[test]
    fn what_is_sent_meanwhile_hides_neither_a_stall_nor_that_something_was_taken() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for (untaken, expected) in [(150, true), (149, false)] {
            let mut stall = StallTimer::new(start);
            assert!(!stall.goes_on(after(2), Some(100), TIMEOUT));
            stall.sent(50);
            assert_eq!(stall.goes_on(after(4), Some(untaken), TIMEOUT), expected, "{untaken}");
        }
    }
}
