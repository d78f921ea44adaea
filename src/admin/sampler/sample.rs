//! Counters at one moment.

use std::time::Instant;

use serde_json::Value;

use super::figures::rounded;
use crate::admin::readings::Readings;
use crate::admin::status::Status;
use crate::telemetry::metrics::exchange::Outcome;
use crate::telemetry::metrics::totals::Totals;
use crate::telemetry::metrics::worker::RefusedHead;

/// Everything that is counted, at one moment.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) totals: Totals,
    pub(super) lookups: Lookups,
    pub(super) connections: u64,
    /// What went wrong or was refused, by kind.
    pub(super) troubles: Vec<Trouble>,
}

/// Names that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lookups {
    /// Known, and trusted.
    pub(super) hits: u64,
    /// Looked up on the disk.
    pub(super) misses: u64,
}

/// How often something went wrong or was refused since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
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
        let lookups = Lookups { hits: readings.lookups.hits() + shared.hits, misses: shared.misses };
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

impl Lookups {
    /// The share that was known of those since `earlier`.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn share_since(self, earlier: Self) -> Option<f64> {
        let hits = self.hits.saturating_sub(earlier.hits);
        let all = hits + self.misses.saturating_sub(earlier.misses);
        (all > 0).then(|| rounded(hits as f64 / all as f64))
    }
}

/// Kinds are as `/status` has them, so that none is forgotten here.
fn troubles_of(told: &Value) -> impl Iterator<Item = Trouble> {
    let groups = ["refused", "faults", "closed"].into_iter().flat_map(move |group| {
        let counts = told.get(group).and_then(Value::as_object);
        counts.into_iter().flatten().filter_map(move |(kind, count)| {
            Some(Trouble { group, kind: kind.clone(), count: count.as_u64()? })
        })
    });
    let timeouts = [("handles", "/handles/timeouts"), ("disk", "/reads/timeouts")];
    let timeouts = timeouts.into_iter().filter_map(|(kind, at)| {
        let count = told.pointer(at)?.as_u64()?;
        Some(Trouble { group: "timeouts", kind: kind.to_owned(), count })
    });
    groups.chain(timeouts)
}

/// Who was not let in.
fn gates_of(readings: &Readings) -> impl Iterator<Item = Trouble> {
    let access = &readings.access;
    let denied = access.denied;
    let gates = [
        ("logins", denied.link + denied.bearer + denied.basic),
        ("login_attempts", access.limited),
        ("password_checks", access.checks.refused),
        ("handshakes", readings.tls.as_ref().map_or(0, |tls| tls.failures)),
    ];
    gates.into_iter().map(|(kind, count)| Trouble { group: "refused", kind: kind.to_owned(), count })
}

fn heads_of(totals: &Totals) -> impl Iterator<Item = Trouble> {
    HEADS.into_iter().map(|(why, kind)| Trouble {
        group: "refused",
        kind: kind.to_owned(),
        count: totals.refused_heads(why),
    })
}

fn cuts_of(totals: &Totals) -> impl Iterator<Item = Trouble> {
    CUTS.into_iter().map(|(outcome, kind)| Trouble {
        group: "cut",
        kind: kind.to_owned(),
        count: totals.of_outcome(outcome),
    })
}

/// Requests of which no sense was made.
const HEADS: [(RefusedHead, &str); 3] = [
    (RefusedHead::TooLarge, "head_bytes"),
    (RefusedHead::TooSlow, "head_timeout"),
    (RefusedHead::Malformed, "malformed_heads"),
];

/// That a client goes is no trouble; that it takes nothing may be one.
const CUTS: [(Outcome, &str); 5] = [
    (Outcome::Stalled, "stalled"),
    (Outcome::TooSlow, "too_slow"),
    (Outcome::Changed, "changed"),
    (Outcome::Failed, "failed"),
    (Outcome::Drained, "drained"),
];
