//! Which series there are, and what they mean. Each is explained to operators in docs/metrics.md.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::gates;
use super::page::MetricsPage;
use crate::admin::process::ProcessUsage;
use crate::admin::readings::Readings;
use crate::config::{RequestRate, Toggle};
use crate::files::{CacheCounts, Fault, WorkCounts};
use crate::lifecycle::phase::Phase;
use crate::telemetry::metrics::exchange::ExchangeOutcome;
use crate::telemetry::metrics::http2::ProtocolViolation;
use crate::telemetry::metrics::worker::{ExchangeKind, RejectedHead, SendPath, StatusClass};

/// All series of one moment.
#[derive(Debug)]
pub(super) struct MetricFamilies(pub(super) Readings);

impl Collector for MetricFamilies {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut page, now) = (MetricsPage { encoder }, &self.0);
        server(&mut page, now)?;
        requests(&mut page, now)?;
        connections(&mut page, now)?;
        http2(&mut page, now)?;
        limits(&mut page, now)?;
        caches(&mut page, now)?;
        handles(&mut page, now)?;
        disk(&mut page, now)?;
        background(&mut page, now)?;
        gates::tls(&mut page, now)?;
        gates::access(&mut page, now)?;
        gates::access_log(&mut page, now)?;
        process(&mut page, now)
    }
}

fn server(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    page.info("pagecast_build", "Which pagecast this is.", ("version", env!("CARGO_PKG_VERSION")))?;
    let phases = Phase::ALL.map(|phase| (("phase", phase.name()), flag(phase == now.phase)));
    page.gauges("pagecast_phase", "1 for the phase that the server is in, 0 for all others.", phases)?;
    page.gauge(
        "pagecast_drained",
        "1 while an operator has load balancers go elsewhere.",
        flag(now.is_drained),
    )?;
    page.gauge(
        "pagecast_root_sound",
        "1 while the document root can be served from.",
        flag(now.root_is_sound),
    )?;
    page.gauge("pagecast_workers", "Threads that serve traffic.", count(now.limits.workers))?;
    page.counters(
        "pagecast_reloads",
        "Times that the configuration was read again: put into effect, or refused.",
        [([("result", "ok")], now.reloads.done), ([("result", "failed")], now.reloads.failed)],
    )?;
    page.gauge(
        "pagecast_reload_last_success_timestamp_seconds",
        "When a configuration was last put into effect, in seconds since 1970.",
        now.reloads.last_success as f64,
    )?;
    page.gauge(
        "pagecast_taken_over",
        "1 where the listeners were taken over from a predecessor.",
        flag(now.is_successor),
    )?;
    page.counter(
        "pagecast_upgrades_failed",
        "Successors that asked to take over and did not.",
        now.upgrades_failed,
    )?;
    let warming = &now.warming;
    page.gauge("pagecast_warm_files", "Files that the latest warming is to read.", warming.of as f64)?;
    page.gauge(
        "pagecast_warm_files_done",
        "Of pagecast_warm_files, those that are done with.",
        warming.done as f64,
    )?;
    page.gauge("pagecast_warm_bytes", "Bytes that the latest warming has read.", warming.bytes as f64)
}

fn requests(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let totals = &now.totals;
    let ended =
        totals.by_kind().filter(|(kind, count)| *count > 0 || is_usual(*kind)).map(|(kind, count)| {
            let ExchangeKind { method, class, protocol, outcome } = kind;
            let labels = [
                ("method", method.name()),
                ("status", class.name()),
                ("protocol", protocol.name()),
                ("outcome", outcome.name()),
            ];
            (labels, count)
        });
    page.counters("pagecast_requests", "Requests that have ended, and how.", ended)?;
    page.durations(
        "pagecast_request_duration_seconds",
        "From the last byte of a request's head to the end of its response.",
        &totals.durations,
    )?;
    page.durations(
        "pagecast_first_byte_duration_seconds",
        "From the last byte of a request's head to the first byte of its response.",
        &totals.first_bytes,
    )?;
    let sent = SendPath::ALL.into_iter().zip(totals.sent).map(|(path, sent)| ([("path", path.name())], sent));
    page.counters("pagecast_sent_bytes", "Bytes handed to the kernel, by the way they took.", sent)?;
    page.gauge(
        "pagecast_transfers",
        "Responses under way that had to wait for their client or for a disk.",
        count(now.transfers),
    )
}

/// Series that are there before anything happened, so that the first time is seen to be one.
fn is_usual(kind: ExchangeKind) -> bool {
    let has_response = !matches!(kind.class, StatusClass::None | StatusClass::Informational);
    match kind.outcome {
        ExchangeOutcome::Complete => has_response,
        _ => kind.class == StatusClass::Successful,
    }
}

fn connections(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let (open, limit) = (now.connections.open, now.connections.max);
    page.bounded("pagecast_connections", "Connections that are open.", count(open), count(limit))?;
    let activities = &now.activities;
    page.gauges(
        "pagecast_connections_by_state",
        "Connections by what they do.",
        [
            (("state", "handshaking"), activities.handshaking as f64),
            (("state", "reading"), activities.reading as f64),
            (("state", "answering"), activities.answering as f64),
            (("state", "idle"), activities.idle as f64),
            (("state", "closing"), activities.closing as f64),
        ],
    )?;
    page.counter(
        "pagecast_connections_evicted",
        "Idle connections that were closed for a newcomer.",
        now.connections.evicted,
    )?;
    page.bounded(
        "pagecast_admin_connections",
        "Connections to the admin port that are open.",
        count(now.admin_connections.taken),
        count(now.admin_connections.max),
    )?;
    page.bounded(
        "pagecast_admin_watches",
        "Of these, those that watch the dashboard.",
        count(now.admin_watches.taken),
        count(now.admin_watches.max),
    )?;
    page.bounded(
        "pagecast_clients",
        "Clients that are remembered.",
        count(now.guard.clients),
        now.config.clients.clients.get() as f64,
    )?;
    page.bounded(
        "pagecast_client_connections",
        "The most connections that one client had at once since the start, where they are limited.",
        count(now.guard.most_connections),
        amount(&now.config.rates.client_connections, |most| most.get() as f64),
    )?;
    page.bounded(
        "pagecast_client_requests_at_once",
        "The most requests that one client had under way since the start, where they are limited.",
        count(now.guard.most_requests),
        amount(&now.config.rates.client_requests_at_once, |most| most.get() as f64),
    )?;
    page.bounded(
        "pagecast_head_bytes",
        "The longest head of a request since the start.",
        now.totals.longest_head as f64,
        now.config.requests.head_bytes.get() as f64,
    )?;
    page.counter(
        "pagecast_client_contradictions",
        "Requests whose Forwarded and X-Forwarded-For name different clients.",
        now.guard.contradictions,
    )
}

fn http2(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let http2 = &now.totals.http2;
    page.gauge(
        "pagecast_http2_connections",
        "Connections over HTTP/2 that are open.",
        http2.connections as f64,
    )?;
    page.gauge("pagecast_http2_streams", "Requests over HTTP/2 that are under way.", http2.streams as f64)?;
    page.bounded(
        "pagecast_http2_connection_streams",
        "The most requests that one connection had under way at once since the start.",
        http2.streams_max as f64,
        now.config.http2.http2_streams.get() as f64,
    )?;
    page.counter("pagecast_http2_resets", "Streams that clients reset, or had reset.", http2.resets)?;
    page.bounded(
        "pagecast_http2_connection_resets",
        "The most of them that there were on one connection in about ten seconds since the start.",
        http2.recent_resets_max as f64,
        now.config.http2.http2_resets.get() as f64,
    )
}

fn limits(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let (guard, totals) = (&now.guard, &now.totals);
    let hits = [
        ("connections", now.connections.refused),
        ("client_connections", guard.refused_connections),
        ("client_requests", guard.refused_by_client_rate),
        ("client_requests_at_once", guard.refused_at_once),
        ("total_requests", guard.refused_by_total_rate),
        ("directories", now.directories_refused),
        ("client_directories", now.client_directories_refused),
        ("handles", now.files.handle_timeouts),
        ("disk_timeout", now.files.disk_timeouts),
        ("head_bytes", totals.rejected_heads(RejectedHead::TooLarge)),
        ("head_timeout", totals.rejected_heads(RejectedHead::TooSlow)),
        ("stall_timeout", totals.of_outcome(ExchangeOutcome::Stalled)),
        ("min_rate", now.connections.too_slow),
        ("http2_resets", totals.http2.violations(ProtocolViolation::Resets)),
        ("http2_frames", totals.http2.violations(ProtocolViolation::Frames)),
        ("login_attempts", now.access.limited),
        ("password_checks", now.access.checks.refused),
        ("access_log_queue", now.access_log.dropped),
    ];
    let hits = hits.map(|(limit, hits)| ([("limit", limit)], hits));
    page.counters(
        "pagecast_limit_hits",
        "Times that a limit was reached and somebody was refused or cut.",
        hits,
    )?;
    let rejections = [
        ("malformed_head", totals.rejected_heads(RejectedHead::Malformed)),
        ("malformed_frame", totals.http2.violations(ProtocolViolation::Malformed)),
        ("suspicious_query", now.suspicious_queries),
        ("proxy_header", guard.proxy_headers_refused),
        ("admin_token", now.entry.tokens.saturating_add(now.entry.too_many)),
        ("admin_page", now.entry.pages),
    ];
    let rejections = rejections.map(|(reason, count)| ([("reason", reason)], count));
    page.counters("pagecast_rejections", "What was turned away for what it is.", rejections)?;
    rates(page, now)?;
    timeouts(page, now)
}

fn rates(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let config = &now.config;
    let a_second = |rate: &RequestRate| rate.requests() as f64 / rate.span().as_secs_f64();
    page.gauges(
        "pagecast_requests_per_second_limit",
        "Requests that there may be in a second, of each client and of all.",
        [
            (("of", "client"), amount(&config.rates.client_requests, a_second)),
            (("of", "total"), amount(&config.rates.total_requests, a_second)),
        ],
    )?;
    page.gauges(
        "pagecast_sent_bytes_per_second_limit",
        "Bytes that may be sent in a second: on each connection, to each client, to all.",
        [
            (("of", "connection"), amount(&config.rates.rate_connection, |rate| rate.get() as f64)),
            (("of", "client"), amount(&config.rates.rate_client, |rate| rate.get() as f64)),
            (("of", "total"), amount(&config.rates.rate_total, |rate| rate.get() as f64)),
        ],
    )?;
    page.counter(
        "pagecast_paced_responses",
        "Responses that a rate of bandwidth held back at least once.",
        now.bandwidth.held_back,
    )?;
    page.gauge(
        "pagecast_bandwidth_waiting",
        "Connections that wait for their share of the rate of all clients.",
        count(now.bandwidth.waiting),
    )
}

fn timeouts(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let config = &now.config;
    let timeouts = [
        ("tls_handshake", config.tls.tls_handshake_timeout),
        ("head", config.connections.head_timeout),
        ("idle", config.connections.idle_timeout),
        ("stall", config.connections.stall_timeout),
        ("linger", config.connections.linger_timeout),
        ("disk", config.sending.disk_timeout),
        ("handle", config.open_files.handle_wait),
    ];
    let timeouts = timeouts.map(|(wait, span)| (("wait", wait), span.get().as_secs_f64()));
    page.gauges("pagecast_timeout_seconds", "How long is waited for what, at most.", timeouts)
}

fn caches(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let (files, lookups) = (&now.files, &now.lookups);
    let shortcuts = CacheCounts { hits: lookups.hits(), misses: lookups.misses, ..CacheCounts::default() };
    let heap = CacheCounts { hits: files.heap_cache.hits + lookups.heap, ..files.heap_cache };
    let mapped = CacheCounts { hits: files.mapped_cache.hits + lookups.mapped, ..files.mapped_cache };
    let shared =
        [("names", files.name_cache), ("heap", heap), ("mapped", mapped), ("digests", files.digest_cache)];
    let all = || shared.into_iter().chain([("shortcuts", shortcuts)]);
    let each =
        |of: fn(&CacheCounts) -> u64| all().map(move |(cache, counts)| ([("cache", cache)], of(&counts)));
    page.counters(
        "pagecast_cache_hits",
        "What was asked for and was in the cache.",
        each(|counts| counts.hits),
    )?;
    page.counters(
        "pagecast_cache_misses",
        "What was asked for and was not in the cache, or not to be trusted any more.",
        each(|counts| counts.misses),
    )?;
    let evictions = shared.map(|(cache, counts)| ([("cache", cache)], counts.evictions));
    page.counters("pagecast_cache_evictions", "What left the cache for want of room.", evictions)?;
    let entries = shared.map(|(cache, counts)| (("cache", cache), counts.entries as f64));
    page.gauges("pagecast_cache_entries", "What is in the cache.", entries)?;
    let (config, limits) = (&now.config, &now.limits);
    page.bounded(
        "pagecast_names",
        "Names that are remembered.",
        files.names as f64,
        config.caches.names.get() as f64,
    )?;
    page.bounded(
        "pagecast_digests",
        "Checksums that are remembered.",
        files.digests as f64,
        config.integrity.digests.get() as f64,
    )?;
    page.bounded(
        "pagecast_heap_bytes",
        "Bytes of small files, and of compressed forms, kept on the heap.",
        files.heap_bytes as f64,
        limits.heap_bytes as f64,
    )?;
    page.bounded(
        "pagecast_mapped_bytes",
        "Bytes of files kept mapped, in memory or not.",
        files.mapped_bytes as f64,
        limits.cache_bytes as f64,
    )?;
    page.bounded("pagecast_mappings", "Files kept mapped.", files.mappings as f64, count(limits.mappings))?;
    page.gauge(
        "pagecast_unmapping_bytes",
        "Bytes of evicted mappings that wait to be taken down.",
        files.unmapping_bytes as f64,
    )?;
    page.counter(
        "pagecast_unmapped_in_place",
        "Mappings that a worker took down itself, since too many waited.",
        files.unmapped_in_place,
    )
}

fn handles(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let files = &now.files;
    let limit = now.limits.handles;
    page.bounded("pagecast_handles", "Files of the site that are open.", count(files.handles), count(limit))?;
    page.counter("pagecast_handle_waits", "Requests that had to wait for a handle.", files.handle_waits)?;
    page.counter(
        "pagecast_handle_timeouts",
        "Requests that waited for a handle in vain.",
        files.handle_timeouts,
    )?;
    page.counter("pagecast_handles_opened", "Files that were opened to be sent from.", files.handles_opened)?;
    page.counter("pagecast_handles_closed", "Of these, those that were closed again.", files.handles_closed)?;
    page.bounded(
        "pagecast_directories",
        "Listings and archives under way.",
        now.directories as f64,
        count(now.limits.directories),
    )
}

fn disk(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let (files, totals) = (&now.files, &now.totals);
    page.counters(
        "pagecast_windows",
        "Windows of files that were about to be sent, by whether they were in memory.",
        [
            ([("residency", "resident")], totals.resident_windows),
            ([("residency", "cold")], totals.cold_windows),
        ],
    )?;
    page.durations(
        "pagecast_populate_duration_seconds",
        "How long reads of cold pages took, once they had a thread.",
        &now.read_durations,
    )?;
    page.bounded(
        "pagecast_reads_running",
        "Reads of cold pages under way, on all devices; the limit is that of one device.",
        count(files.reads_running),
        now.config.sending.populate_threads.get() as f64,
    )?;
    page.gauge("pagecast_reads_waiting", "Reads that wait for a thread.", count(files.reads_waiting))?;
    page.counter("pagecast_reads", "Reads of cold pages that were made.", files.reads)?;
    page.counter(
        "pagecast_reads_shared",
        "Responses that waited for a read that another had asked for.",
        files.reads_shared,
    )?;
    page.counter(
        "pagecast_reads_dropped",
        "Reads let go before their turn, since nobody waited any more.",
        files.reads_dropped,
    )?;
    page.counter(
        "pagecast_disk_timeouts",
        "Requests that the disk did not answer in time.",
        files.disk_timeouts,
    )?;
    page.counter(
        "pagecast_unanswered_probes",
        "Windows of which the file system could not say whether they are in memory.",
        files.unanswered_probes,
    )?;
    let faults = Fault::ALL.map(|fault| ([("kind", fault.name())], now.faults.of(fault)));
    page.counters("pagecast_faults", "What went wrong with files, by kind.", faults)
}

fn background(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let works: [(&str, WorkCounts); 2] =
        [("digest", now.files.digesting), ("compress", now.files.compressing)];
    let results = works.into_iter().flat_map(|(work, counts)| {
        [("done", counts.done), ("useless", counts.useless), ("failed", counts.failed)]
            .map(|(result, count)| ([("work", work), ("result", result)], count))
    });
    page.counters(
        "pagecast_background_jobs_ended",
        "Checksums and compressed forms, and what came of them.",
        results,
    )?;
    let each = |of: fn(&WorkCounts) -> u64| works.map(|(work, counts)| (("work", work), of(&counts) as f64));
    page.gauges(
        "pagecast_background_jobs",
        "Checksums and compressed forms that wait or are under way.",
        each(|counts| counts.under_way),
    )?;
    page.gauges(
        "pagecast_background_jobs_limit",
        "What pagecast_background_jobs may not exceed.",
        each(|counts| counts.places),
    )
}

fn process(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    if let Some(process) = &now.process {
        page.bounded(
            "pagecast_memory_bytes",
            "Memory of the process's own: heap and stacks. Pages of files are not among it.",
            (process.anonymous_bytes + process.shared_bytes) as f64,
            now.limits.memory_bytes as f64,
        )?;
        page.gauge(
            "process_resident_memory_bytes",
            "Resident memory, pages of files included.",
            process.resident_bytes as f64,
        )?;
        page.gauge("process_virtual_memory_bytes", "Virtual memory.", process.virtual_bytes as f64)?;
        page.gauge("process_threads", "Threads of the process.", process.threads as f64)?;
    }
    let Some(usage) = ProcessUsage::read() else { return Ok(()) };
    page.counter("process_cpu_seconds", "Processor time, of user space and the kernel.", usage.cpu_seconds)?;
    page.gauge("process_open_fds", "Open files, sockets included.", usage.open_files as f64)?;
    let limit = usage.open_files_limit.map_or(f64::INFINITY, |limit| limit as f64);
    page.gauge("process_max_fds", "What process_open_fds may not exceed.", limit)?;
    page.gauge(
        "process_start_time_seconds",
        "When the process began, in seconds since 1970.",
        usage.started_seconds,
    )
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn count(number: usize) -> f64 {
    number as f64
}

/// A limit, which may be off.
fn amount<T>(limit: &Toggle<T>, of: impl Fn(&T) -> f64) -> f64 {
    limit.given().map_or(f64::INFINITY, of)
}
