//! Series of metrics with several labels, or with labels from enumerations.

use super::metric::{Series, Value};
use crate::admin::readings::Readings;
use crate::files::{CacheCounts, Fault, Files, WorkCounts};
use crate::lifecycle::phase::Phase;
use crate::telemetry::metrics::kind::{ExchangeKind, ExchangeOutcome, PathLookup, SendPath, StatusClass};

pub(super) fn phases(now: &Readings) -> Vec<Series<'_>> {
    let current = now.server.lifecycle.phase();
    Phase::ALL.map(|phase| Series::new(phase == current).label("phase", phase.name())).into()
}

/// Completed requests by kind. Usual kinds are present from the start, so that the first event is visible as an increase.
pub(super) fn requests(now: &Readings) -> Vec<Series<'_>> {
    let is_usual = |kind: ExchangeKind| {
        let has_response = !matches!(kind.class, StatusClass::None | StatusClass::Informational);
        match kind.outcome {
            ExchangeOutcome::Complete => has_response,
            _ => kind.class == StatusClass::Successful,
        }
    };
    let kinds = now.totals.by_kind().filter(|(kind, count)| *count > 0 || is_usual(*kind));
    kinds
        .map(|(kind, count)| {
            Series::new(count)
                .label("method", kind.method.name())
                .label("status", kind.class.name())
                .label("protocol", kind.protocol.name())
                .label("outcome", kind.outcome.name())
        })
        .collect()
}

pub(super) fn sent_bytes(now: &Readings) -> Vec<Series<'_>> {
    let of = |path: SendPath| Series::new(&now.totals.sent[path as usize]).label("path", path.name());
    SendPath::ALL.map(of).into()
}

pub(super) fn faults(now: &Readings) -> Vec<Series<'_>> {
    let counts = &now.server.site.files.loader.faults.counts;
    let count = |fault: Fault| {
        let name = fault.name();
        Series::new(&counts[fault as usize]).label("kind", name).status(format!("faults.{name}"))
    };
    Fault::ALL.map(count).into()
}

/// One series per cache, path caches of the workers included.
pub(super) fn caches<'a>(now: &'a Readings, number: fn(&CacheCounts) -> u64) -> Vec<Series<'a>> {
    let (hits, misses) = now.totals.path_cache_hits_and_misses();
    let path_cache = CacheCounts { hits, misses, ..CacheCounts::default() };
    let mut series = shared_caches(now, number);
    series.push(Series::new(number(&path_cache)).label("cache", "shortcuts"));
    series
}

/// One series per cache that all workers share. Hits of the path caches also count for the cache that holds the file.
pub(super) fn shared_caches<'a>(now: &'a Readings, number: fn(&CacheCounts) -> u64) -> Vec<Series<'a>> {
    let Files { loader, shared } = &now.server.site.files;
    let found = |kind: PathLookup| now.totals.path_lookups[kind as usize].get();
    let with_hits = |cache: CacheCounts, hits| CacheCounts { hits: cache.hits + hits, ..cache };
    let heap = with_hits(shared.assets.heap.counts(), found(PathLookup::Heap));
    let mapped = with_hits(shared.assets.mapped.counts(), found(PathLookup::Mapped));
    let (names, digests) = (shared.names.cache.counts(), loader.tags.digests.counts());
    [("names", names), ("heap", heap), ("mapped", mapped), ("digests", digests)]
        .map(|(cache, counts)| Series::new(number(&counts)).label("cache", cache))
        .into()
}

pub(super) fn background_results(now: &Readings) -> Vec<Series<'_>> {
    let results = |(work, counts): (&'static str, WorkCounts)| {
        [("done", counts.done), ("useless", counts.useless), ("failed", counts.failed)]
            .map(|(result, count)| Series::new(count).label("work", work).label("result", result))
    };
    [("digest", now.digesting), ("compress", now.compressing)].into_iter().flat_map(results).collect()
}

/// When certificates expire: one series each on `/metrics`, one list on `/status`.
pub(super) fn certificates(now: &Readings) -> Vec<Series<'_>> {
    let certificates = || now.tls.iter().flat_map(|tls| &tls.certificates);
    let list =
        certificates().map(|(name, not_after)| serde_json::json!({ "name": name, "not_after": not_after }));
    let mut series = vec![Series::new(Value::Json(list.collect())).status("certificates")];
    series.extend(certificates().enumerate().map(|(place, (name, not_after))| {
        Series::new(*not_after as f64).label("place", place.to_string()).label("name", name)
    }));
    series
}
