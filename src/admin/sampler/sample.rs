//! Counters at one moment.

use std::time::Instant;

use serde_json::Value;

use super::figures::rounded;
use crate::admin::readings::Readings;
use crate::admin::status::Status;
use crate::telemetry::metrics::exchange::ExchangeOutcome;
use crate::telemetry::metrics::totals::MetricTotals;
use crate::telemetry::metrics::worker::RejectedHead;

/// Everything that is counted, at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) totals: MetricTotals,
    pub(super) lookups: LookupSample,
    pub(super) connections: u64,
    /// What went wrong or was refused, by kind.
    pub(super) troubles: Vec<ProblemCounts>,
}

/// Names that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LookupSample {
    /// Known, and trusted.
    pub(super) hits: u64,
    /// Looked up on the disk.
    pub(super) misses: u64,
}

/// How often something went wrong or was refused since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProblemCounts {
    /// As `/status` has it: `refused`, `faults`, `closed`, `timeouts`; `cut` for responses that did not end well.
    pub(super) group: &'static str,
    pub(super) kind: String,
    pub(super) count: u64,
}

impl Sample {
    /// What `readings` are, and `status` says of them.
    pub(super) fn take(readings: &Readings, status: &Status, at: Instant) -> Self {
        let totals = readings.totals.clone();
        // A worker's own short cut comes before the cache of names that all share.
        let shared = readings.files.name_cache;
        let lookups = LookupSample { hits: readings.lookups.hits() + shared.hits, misses: shared.misses };
        let told = serde_json::to_value(status).unwrap_or_default();
        let troubles = troubles_of(&told)
            .chain(gates_of(readings))
            .chain(heads_of(&totals))
            .chain(cuts_of(&totals))
            .collect();
        let connections = readings.connections.open as u64;
        Self { at, totals, lookups, connections, troubles }
    }

    /// Requests and connections that were refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.troubles.iter().filter(|trouble| trouble.group == "refused").map(|trouble| trouble.count).sum()
    }
}

impl LookupSample {
    /// The share that was known of those since `earlier`.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn share_since(self, earlier: Self) -> Option<f64> {
        let hits = self.hits.saturating_sub(earlier.hits);
        let all = hits + self.misses.saturating_sub(earlier.misses);
        (all > 0).then(|| rounded(hits as f64 / all as f64))
    }
}

/// Kinds are as `/status` has them, so that none is forgotten here.
fn troubles_of(told: &Value) -> impl Iterator<Item = ProblemCounts> {
    let groups = ["refused", "faults", "closed"].into_iter().flat_map(move |group| {
        let counts = told.get(group).and_then(Value::as_object);
        counts.into_iter().flatten().filter_map(move |(kind, count)| {
            Some(ProblemCounts { group, kind: kind.clone(), count: count.as_u64()? })
        })
    });
    let timeouts = [("handles", "/handles/timeouts"), ("disk", "/reads/timeouts")];
    let timeouts = timeouts.into_iter().filter_map(|(kind, at)| {
        let count = told.pointer(at)?.as_u64()?;
        Some(ProblemCounts { group: "timeouts", kind: kind.to_owned(), count })
    });
    groups.chain(timeouts)
}

/// Who was not let in.
fn gates_of(readings: &Readings) -> impl Iterator<Item = ProblemCounts> {
    let access = &readings.access;
    let denied = access.denied;
    let gates = [
        ("logins", denied.link + denied.bearer + denied.basic),
        ("login_attempts", access.limited),
        ("password_checks", access.checks.refused),
        ("handshakes", readings.tls.as_ref().map_or(0, |tls| tls.failures)),
    ];
    gates.into_iter().map(|(kind, count)| ProblemCounts { group: "refused", kind: kind.to_owned(), count })
}

fn heads_of(totals: &MetricTotals) -> impl Iterator<Item = ProblemCounts> {
    HEADS.into_iter().map(|(why, kind)| ProblemCounts {
        group: "refused",
        kind: kind.to_owned(),
        count: totals.rejected_heads(why),
    })
}

fn cuts_of(totals: &MetricTotals) -> impl Iterator<Item = ProblemCounts> {
    CUTS.into_iter().map(|(outcome, kind)| ProblemCounts {
        group: "cut",
        kind: kind.to_owned(),
        count: totals.of_outcome(outcome),
    })
}

/// Requests of which no sense was made.
const HEADS: [(RejectedHead, &str); 3] = [
    (RejectedHead::TooLarge, "head_bytes"),
    (RejectedHead::TooSlow, "head_timeout"),
    (RejectedHead::Malformed, "malformed_heads"),
];

/// That a client goes is no trouble; that it takes nothing may be one.
const CUTS: [(ExchangeOutcome, &str); 5] = [
    (ExchangeOutcome::Stalled, "stalled"),
    (ExchangeOutcome::TooSlow, "too_slow"),
    (ExchangeOutcome::Changed, "changed"),
    (ExchangeOutcome::Failed, "failed"),
    (ExchangeOutcome::Drained, "drained"),
];
