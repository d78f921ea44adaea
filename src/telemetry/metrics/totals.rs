//! What all workers have counted, at one moment.

use super::http2::Http2Totals;
use super::kind::{KINDS, Kind, Path, RefusedHead, StatusClass};
use super::outcome::Outcome;
use crate::telemetry::metrics::histogram::Durations;

/// The sum of all sheets. Each count is exact; they are not all of the same instant.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    ended: Vec<u64>,
    /// Bytes by path, in the order of [`Path::ALL`].
    pub(crate) sent: [u64; Path::ALL.len()],
    /// Windows that were in memory when they were to be sent, and those that were not.
    pub(crate) resident_windows: u64,
    pub(crate) cold_windows: u64,
    /// The longest head of a request, in bytes.
    pub(crate) longest_head: u64,
    /// Heads that were refused, in the order of [`RefusedHead::ALL`].
    pub(super) refused_heads: [u64; RefusedHead::ALL.len()],
    /// From the last byte of a request's head to the end of its exchange.
    pub(crate) durations: Durations,
    /// From the last byte of a request's head to the first one of its response.
    pub(crate) first_bytes: Durations,
    pub(crate) http2: Http2Totals,
}

impl Totals {
    /// Exchanges that have ended.
    pub(crate) fn requests(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Exchanges that the server is to blame for: answered with 5xx, or ended by a disk or a file that changed.
    pub(crate) fn errors(&self) -> u64 {
        let is_error = |kind: Kind| {
            kind.class == StatusClass::ServerError
                || matches!(kind.outcome, Outcome::Changed | Outcome::Failed)
        };
        self.sum(is_error)
    }

    /// Exchanges that ended so.
    pub(crate) fn of_outcome(&self, outcome: Outcome) -> u64 {
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
    pub(crate) fn refused_heads(&self, why: RefusedHead) -> u64 {
        self.refused_heads[why as usize]
    }

    /// Exchanges by kind.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::all().zip(self.ended.iter().copied())
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

    fn sum(&self, of: impl Fn(Kind) -> bool) -> u64 {
        self.by_kind().filter(|(kind, _)| of(*kind)).map(|(_, count)| count).sum()
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            ended: vec![0; KINDS],
            sent: [0; Path::ALL.len()],
            resident_windows: 0,
            cold_windows: 0,
            longest_head: 0,
            refused_heads: [0; RefusedHead::ALL.len()],
            durations: Durations::default(),
            first_bytes: Durations::default(),
            http2: Http2Totals::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::exchange::{Exchange, Protocol};
    use crate::telemetry::metrics::registry::Ledger;
    use std::time::Instant;

    fn end(ledger: &Ledger, status: u16, outcome: Outcome) {
        let now = Instant::now();
        let sheet = ledger.sheet();
        sheet.end(&Exchange { status, ..Exchange::new(now, None, Protocol::Http2) }, outcome, now);
        sheet.sent(Path::Copied, 7);
    }

    #[test]
    fn errors_are_what_the_server_is_to_blame_for() {
        for (status, outcome, errors) in [
            (200, Outcome::Complete, 0),
            (404, Outcome::Complete, 0),
            (200, Outcome::ClientGone, 0),
            (200, Outcome::Drained, 0),
            (503, Outcome::Complete, 1),
            (503, Outcome::ClientGone, 1),
            (200, Outcome::Failed, 1),
            (206, Outcome::Changed, 1),
        ] {
            let ledger = Ledger::default();
            end(&ledger, status, outcome);
            assert_eq!(ledger.totals().errors(), errors, "{status} {outcome:?}");
            assert_eq!((ledger.totals().requests(), ledger.totals().bytes()), (1, 7));
        }
    }

    #[test]
    fn sheets_are_added_up_and_what_was_before_is_taken_away() {
        let ledger = Ledger::default();
        end(&ledger, 200, Outcome::Complete);
        let before = ledger.totals();
        end(&ledger, 200, Outcome::Complete);
        end(&ledger, 500, Outcome::Complete);
        assert_eq!(ledger.totals().requests(), 3);
        let since = ledger.totals().since(&before);
        assert_eq!((since.requests(), since.errors(), since.bytes(), since.durations.count()), (2, 1, 14, 2));
    }
}
