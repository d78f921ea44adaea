//! The table of all metrics. `docs/metrics.md` and `docs/status.md` explain them to operators; tests compare: here, and in
//! `tests/behaviour/metrics.rs`.
//!
//! A row is `KIND "name" "help": series;`. A series is a number after `=>`, and its limit after `max`. Before it may stand a
//! label `[name = value]`, its place on `/status`, and the problem that it counts. `..` adds series that a function computes.

use std::sync::atomic::Ordering::Relaxed;

use super::families::{
    background_results, caches, certificates, faults, phases, requests, sent_bytes, shared_caches,
};
use super::metric::{Metric, MetricKind, Series, limit_of};
use crate::admin::readings::Readings;
use crate::config::RequestRate;
use crate::files::residency;
use crate::lifecycle::handover;
use crate::limits::requests::LimitExceeded;
use crate::telemetry::metrics::kind::{ExchangeOutcome, ProtocolViolation, RejectedHead};

macro_rules! metrics {
    ($now:ident: $($kind:ident $($name:literal $help:literal)?:
        $(.. $more:ident $arguments:tt)?
        $($([$label:ident = $label_value:expr])? $($status:literal)? $(problem $problem:literal)?
            => $value:expr $(, max $limit:expr)?),*;
    )*) => {
        &[$({
            fn series($now: &Readings) -> Vec<Series<'_>> {
                let _ = $now;
                let declared = [$(
                    Series::new($value)
                        $(.label(stringify!($label), $label_value))?
                        $(.status($status))?
                        $(.problem($problem))?
                        $(.limit($limit))?
                ),*];
                declared.into_iter() $(.chain($more $arguments))? .collect()
            }
            Metric { kind: MetricKind::$kind, name: concat!($($name)?), help: concat!($($help)?), series }
        }),*]
    };
}

/// All metrics, in the order of `/metrics`. `/status` has its keys in the order in which they occur here.
pub(crate) static METRICS: &[Metric] = metrics! { now:
    // The server
    Info "pagecast_build" "The version of pagecast.": [version = env!("CARGO_PKG_VERSION")] => true;
    Hidden:
        "version" => env!("CARGO_PKG_VERSION"),
        "phase" => now.server.lifecycle.phase().name();
    Gauge "pagecast_phase" "1 for the current phase, 0 for all others.": .. phases(now);
    Gauge "pagecast_drained" "1 while an operator has drained the server.":
        "is_drained" => now.server.lifecycle.is_drained.load(Relaxed);
    Hidden: "uptime_seconds" => now.server.started.elapsed().as_secs();
    Gauge "pagecast_root_sound" "1 while the document root can be read.":
        => now.server.site.files.shared.root_monitor.is_sound();
    Gauge "pagecast_workers" "Traffic worker threads.": => now.limits.workers;
    Counter "pagecast_reloads" "Reloads of the configuration: applied; or refused, or not taken by every worker.":
        [result = "ok"] "reloads.done" => now.reloads.done,
        [result = "failed"] "reloads.failed" => now.reloads.failed;
    Gauge "pagecast_reload_last_success_timestamp_seconds"
        "When a configuration was last applied, in seconds since 1970.":
        "reloads.last_success" => now.reloads.last_success;
    Gauge "pagecast_taken_over" "1 if the listeners were taken over from a predecessor.":
        => now.server.is_successor;
    Counter "pagecast_upgrades_failed" "Handovers to a successor that failed.":
        => handover::FAILURES.load(Relaxed);
    Gauge "pagecast_warm_files" "Files that the latest warm-up has to read.": "warming.of" => now.warming.of;
    Gauge "pagecast_warm_files_done" "Files of pagecast_warm_files that are finished.":
        "warming.done" => now.warming.done;
    Gauge "pagecast_warm_bytes" "Bytes that the latest warm-up has read.":
        "warming.bytes" => now.warming.bytes;
    Hidden:
        "warming.gone" => now.warming.gone,
        "warming.failed" => now.warming.failed,
        "warming.left_out" => now.warming.left_out;

    // Requests
    Hidden:
        "requests.ended" => now.totals.exchanges.sum(),
        "requests.errors" => now.totals.errors(),
        "requests.sent_bytes" => now.totals.sent.sum();
    Counter "pagecast_requests" "Finished requests, by outcome.": .. requests(now);
    Hidden:
        problem "cut.stalled" => now.totals.of_outcome(ExchangeOutcome::Stalled),
        problem "cut.too_slow" => now.totals.of_outcome(ExchangeOutcome::TooSlow),
        problem "cut.changed" => now.totals.of_outcome(ExchangeOutcome::Changed),
        problem "cut.failed" => now.totals.of_outcome(ExchangeOutcome::Failed),
        problem "cut.drained" => now.totals.of_outcome(ExchangeOutcome::Drained);
    Histogram "pagecast_request_duration_seconds"
        "From the last byte of a request's head to the end of its response.":
        => &now.totals.durations;
    Histogram "pagecast_first_byte_duration_seconds"
        "From the last byte of a request's head to the first byte of its response.":
        => &now.totals.first_bytes;
    Counter "pagecast_sent_bytes" "Bytes of responses handed to the kernel, by sending path.": .. sent_bytes(now);
    Gauge "pagecast_transfers" "Responses under way that had to wait for their client or a disk.":
        "requests.long_under_way" => now.server.metrics.transfer_count();

    // Connections and clients
    Gauge "pagecast_connections" "Open connections.":
        "connections" => now.client_limits.connections.open.load(Relaxed),
            max now.client_limits.connections.max.load(Relaxed);
    Gauge "pagecast_connections_by_state" "Open connections, by state.":
        [state = "handshaking"] => now.activities.handshaking,
        [state = "reading"] => now.activities.reading,
        [state = "answering"] => now.activities.answering,
        [state = "idle"] => now.activities.idle,
        [state = "closing"] => now.activities.closing;
    Counter "pagecast_connections_evicted" "Idle connections closed to make room for new ones.":
        "closed.idle" => now.client_limits.connections.evicted.get();
    Gauge "pagecast_admin_connections" "Open connections to the admin port.":
        "admin_connections" => now.server.connections.taken(), max now.server.connections.max;
    Gauge "pagecast_admin_watches" "Admin connections subscribed to dashboard events.":
        "admin_watches" => now.server.subscribers.taken(), max now.server.subscribers.max;
    Gauge "pagecast_clients" "Clients in the client table.":
        "clients" => now.client_limits.clients.len(), max now.config.clients.clients.get();
    Gauge "pagecast_client_connections"
        "Highest number of connections of one client since the start, if they are limited.":
        => now.client_limits.most_connections.load(Relaxed),
            max limit_of(&now.config.rates.client_connections, |max| max.get() as f64);
    Gauge "pagecast_client_requests_at_once"
        "Highest number of requests of one client under way since the start, if they are limited.":
        => now.client_limits.requests.most_at_once.load(Relaxed),
            max limit_of(&now.config.rates.client_requests_at_once, |max| max.get() as f64);
    Gauge "pagecast_head_bytes" "Bytes of the longest request head since the start.":
        => &now.totals.longest_head, max now.config.requests.head_bytes.get();
    Counter "pagecast_client_contradictions"
        "Requests whose Forwarded and X-Forwarded-For name different clients.":
        "contradictions" => now.client_limits.conflicting.get();

    // HTTP/2
    Gauge "pagecast_http2_connections" "Open HTTP/2 connections.":
        "http2.connections" => &now.totals.http2.connections;
    Gauge "pagecast_http2_streams" "HTTP/2 requests under way.": "http2.streams" => &now.totals.http2.streams;
    Gauge "pagecast_http2_connection_streams"
        "Highest number of requests under way on one HTTP/2 connection since the start.":
        "http2.connection_streams" => &now.totals.http2.streams_max, max now.config.http2.http2_streams.get();
    Counter "pagecast_http2_resets" "HTTP/2 streams that clients reset, or that the server reset because of them.":
        "http2.resets" => &now.totals.http2.resets;
    Gauge "pagecast_http2_connection_resets"
        "Highest number of stream resets on one HTTP/2 connection in about ten seconds since the start.":
        "http2.connection_resets"
            => &now.totals.http2.recent_resets_max, max now.config.http2.http2_resets.get();

    // Limits
    Counter "pagecast_limit_hits" "Requests or connections refused or cut because of a limit.":
        [limit = "connections"] "refused.connections" => now.client_limits.connections.refused.get(),
        [limit = "client_connections"] "refused.client_connections"
            => now.client_limits.refused_clients.get(),
        [limit = "client_requests"] "refused.client_requests"
            => now.client_limits.requests.refused(LimitExceeded::Client),
        [limit = "client_requests_at_once"] "refused.client_requests_at_once"
            => now.client_limits.requests.refused(LimitExceeded::AtOnce),
        [limit = "total_requests"] "refused.total_requests"
            => now.client_limits.requests.refused(LimitExceeded::Total),
        [limit = "directories"] => now.server.site.directories.refused.load(Relaxed),
        [limit = "client_directories"] "refused.client_directories"
            => &now.server.site.directories.for_client.refused,
        [limit = "handles"] => &now.server.site.files.loader.handles.timeouts,
        [limit = "disk_timeout"] => &now.server.site.files.shared.disk_timeouts,
        [limit = "head_bytes"] problem "refused.head_bytes"
            => &now.totals.rejected_heads[RejectedHead::TooLarge as usize],
        [limit = "head_timeout"] problem "refused.head_timeout"
            => &now.totals.rejected_heads[RejectedHead::TooSlow as usize],
        [limit = "stall_timeout"] => now.totals.of_outcome(ExchangeOutcome::Stalled),
        [limit = "min_rate"] "closed.too_slow" => now.client_limits.connections.too_slow.get(),
        [limit = "http2_resets"] "refused.http2_resets"
            => &now.totals.http2.violations[ProtocolViolation::Resets as usize],
        [limit = "http2_frames"] "refused.http2_frames"
            => &now.totals.http2.violations[ProtocolViolation::Frames as usize],
        [limit = "login_attempts"] "access.limited" problem "refused.login_attempts"
            => now.access.counters().limited.get(),
        [limit = "password_checks"] "access.checks_refused" problem "refused.password_checks"
            => now.access.checks().refused.get(),
        [limit = "access_log_queue"] => &now.access_log.counters.dropped;
    Counter "pagecast_rejections" "Requests or connections rejected for their contents.":
        [reason = "malformed_head"] problem "refused.malformed_heads"
            => &now.totals.rejected_heads[RejectedHead::Malformed as usize],
        [reason = "malformed_frame"] "refused.malformed_frames"
            => &now.totals.http2.violations[ProtocolViolation::Malformed as usize],
        [reason = "suspicious_query"] "refused.suspicious_queries"
            => now.server.site.https_policy.suspicious.get(),
        [reason = "proxy_header"] "refused.proxy_headers" => now.client_limits.refused_proxy_headers.get(),
        [reason = "admin_token"] => now.server.auth.wrong_tokens.get() + now.server.auth.too_many.get(),
        [reason = "admin_page"] "refused.admin_pages" => now.server.auth.foreign_pages.get();
    Hidden:
        "refused.admin_tokens" => now.server.auth.wrong_tokens.get(),
        "refused.admin_attempts" => now.server.auth.too_many.get();
    Gauge "pagecast_requests_per_second_limit" "Allowed requests per second: of each client, of all clients.":
        [of = "client"] => limit_of(&now.config.rates.client_requests, per_second),
        [of = "total"] => limit_of(&now.config.rates.total_requests, per_second);
    Gauge "pagecast_sent_bytes_per_second_limit"
        "Allowed bytes per second: on each connection, to each client, to all clients.":
        [of = "connection"] => limit_of(&now.config.rates.rate_connection, |rate| rate.get() as f64),
        [of = "client"] => limit_of(&now.config.rates.rate_client, |rate| rate.get() as f64),
        [of = "total"] => limit_of(&now.config.rates.rate_total, |rate| rate.get() as f64);
    Counter "pagecast_paced_responses" "Responses delayed at least once by a bandwidth limit.":
        "bandwidth.held_back" => now.client_limits.bandwidth.delayed.get();
    Gauge "pagecast_bandwidth_waiting" "Connections that wait for their share of the total bandwidth.":
        "bandwidth.waiting" => now.client_limits.bandwidth.total.waiting();
    Gauge "pagecast_timeout_seconds" "Configured timeouts.":
        [wait = "tls_handshake"] => now.config.tls.tls_handshake_timeout.get().as_secs_f64(),
        [wait = "head"] => now.config.connections.head_timeout.get().as_secs_f64(),
        [wait = "idle"] => now.config.connections.idle_timeout.get().as_secs_f64(),
        [wait = "stall"] => now.config.connections.stall_timeout.get().as_secs_f64(),
        [wait = "linger"] => now.config.connections.linger_timeout.get().as_secs_f64(),
        [wait = "disk"] => now.config.sending.disk_timeout.get().as_secs_f64(),
        [wait = "handle"] => now.config.open_files.handle_wait.get().as_secs_f64();

    // Caches
    Counter "pagecast_cache_hits" "Cache look-ups that found a valid entry.": .. caches(now, |cache| cache.hits);
    Counter "pagecast_cache_misses" "Cache look-ups that found no entry, or one that was no longer trusted.":
        .. caches(now, |cache| cache.misses);
    Counter "pagecast_cache_evictions" "Cache entries evicted for lack of room, by cache.":
        .. shared_caches(now, |cache| cache.evictions);
    Gauge "pagecast_cache_entries" "Cache entries, by cache.": .. shared_caches(now, |cache| cache.entries);
    Gauge "pagecast_names" "Names in the name cache.":
        "names" => now.server.site.files.shared.names.cache.entry_count(), max now.config.caches.names.get();
    Gauge "pagecast_digests" "Checksums in the cache.":
        "digests"
            => now.server.site.files.loader.tags.digests.counts().entries, max now.config.integrity.digests.get();
    Gauge "pagecast_heap_bytes" "Bytes of small files and encoded variants on the heap.":
        "heap_bytes" => now.server.site.files.shared.assets.heap.weighted_size(), max now.limits.heap_bytes;
    Gauge "pagecast_mapped_bytes" "Bytes of mapped files, in memory or not.":
        "mapped_bytes" => now.server.site.files.shared.assets.mapped_bytes(), max now.limits.cache_bytes;
    Gauge "pagecast_mappings" "Files that are mapped into memory.":
        "mappings" => now.server.site.files.shared.assets.mapped.entry_count(), max now.limits.mappings;
    Gauge "pagecast_unmapping_bytes" "Bytes of evicted mappings that wait to be unmapped.":
        "unmapping.bytes" => now.server.site.files.loader.unmapper.waiting_bytes();
    Counter "pagecast_unmapped_in_place" "Mappings that a worker unmapped itself, because too many waited.":
        "unmapping.in_place" => &now.server.site.files.loader.unmapper.in_place;

    // Handles and directories
    Gauge "pagecast_handles" "Open files of the site.":
        "handles" => now.server.site.files.loader.handles.in_use(), max now.limits.handles;
    Counter "pagecast_handle_waits" "Requests that waited for a free file handle.":
        "handles.waits" => &now.server.site.files.loader.handles.waits;
    Counter "pagecast_handle_timeouts" "Requests that got no file handle in time.":
        "handles.timeouts" problem "timeouts.handles" => &now.server.site.files.loader.handles.timeouts;
    Counter "pagecast_handles_opened" "Files opened for sending.":
        => &now.server.site.files.loader.handles.turnover.opened;
    Counter "pagecast_handles_closed" "Files opened for sending that were closed again.":
        => &now.server.site.files.loader.handles.turnover.closed;
    Gauge "pagecast_directories" "Listings and archives under way.":
        "directories" => now.directories(), max now.limits.directories;

    // Disk
    Counter "pagecast_windows" "Windows (256 KiB of a file) about to be sent, by residency in memory.":
        [residency = "resident"] => &now.totals.resident_windows,
        [residency = "cold"] => &now.totals.cold_windows;
    Histogram "pagecast_populate_duration_seconds" "Duration of cold reads (of pages that are not in memory), on their thread.":
        => now.server.site.files.shared.reads.durations();
    Gauge "pagecast_reads_running" "Cold reads under way, on all devices; the limit is for one device.":
        "reads.running" => now.reads.running;
    Gauge "pagecast_reads_running_limit" "Limit of pagecast_reads_running.":
        => now.config.sending.populate_threads.get();
    Gauge "pagecast_reads_waiting" "Cold reads that wait for a thread.":
        "reads.waiting" => now.reads.waiting;
    Counter "pagecast_reads" "Cold reads made.": "reads.made" => now.reads.made;
    Counter "pagecast_reads_shared" "Responses that shared the cold read of another response.":
        "reads.shared" => now.reads.shared;
    Counter "pagecast_reads_dropped" "Cold reads dropped before they began, because no response waited for them any more.":
        "reads.dropped" => now.reads.dropped;
    Counter "pagecast_disk_timeouts" "Requests for which the disk did not answer in time.":
        "reads.timeouts" problem "timeouts.disk" => &now.server.site.files.shared.disk_timeouts;
    Counter "pagecast_unanswered_probes" "Windows for which the file system could not report residency in memory.":
        "unanswered_probes" => residency::UNANSWERED.load(Relaxed);
    Counter "pagecast_faults" "Faults of files and disks, by kind.": .. faults(now);

    // Background work
    Counter "pagecast_background_jobs_ended" "Finished checksum and compression jobs, by result.":
        .. background_results(now);
    Gauge "pagecast_background_jobs" "Checksum and compression jobs that wait or run.":
        [work = "digest"] => now.digesting.under_way, max now.digesting.limit,
        [work = "compress"] => now.compressing.under_way, max now.compressing.limit;
    Hidden: "background" => now.digesting.under_way + now.compressing.under_way;

    // TLS; absent without TLS
    Counter "pagecast_tls_handshakes" "Finished TLS handshakes.":
        [result = "ok"] => now.tls.as_ref().map(|tls| tls.handshakes),
        [result = "failed"] problem "refused.handshakes" => now.tls.as_ref().map(|tls| tls.failures);
    Gauge "pagecast_tls_handshakes_under_way" "TLS handshakes under way.":
        => now.tls.as_ref().map(|tls| tls.in_progress), max now.tls.as_ref().map(|tls| tls.limit);
    Counter "pagecast_tls_certificates_refused" "Reloads of certificates that failed.":
        => now.tls.as_ref().map(|tls| tls.bad_certificates);
    Gauge "pagecast_tls_certificate_not_after_seconds" "When a certificate expires, in seconds since 1970.":
        .. certificates(now);

    // Access control
    Counter "pagecast_logins_granted" "Accepted signed URLs, tokens and passwords.":
        [way = "link"] "access.granted.link" => now.access.counters().granted.link.get(),
        [way = "bearer"] "access.granted.bearer" => now.access.counters().granted.bearer.get(),
        [way = "basic"] "access.granted.basic" => now.access.counters().granted.basic.get();
    Counter "pagecast_logins_refused" "Refused signed URLs, tokens and passwords.":
        [way = "link"] "access.denied.link" problem "refused.logins"
            => now.access.counters().denied.link.get(),
        [way = "bearer"] "access.denied.bearer" problem "refused.logins"
            => now.access.counters().denied.bearer.get(),
        [way = "basic"] "access.denied.basic" problem "refused.logins"
            => now.access.counters().denied.basic.get();
    Counter "pagecast_logins_missing" "Requests for protected paths without credentials.":
        "access.nothing_shown" => now.access.counters().nothing_shown.get();
    Gauge "pagecast_password_checks" "Password checks under way.":
        "access.checks" => now.access.checks().under_way(), max now.access.checks().threads;
    Gauge "pagecast_password_checks_waiting" "Password checks that wait for a thread.":
        "access.checks_waiting" => now.access.checks().waiting.load(Relaxed);
    Counter "pagecast_password_check_waits" "Password checks that had to wait.":
        "access.check_waits" => now.access.checks().waits.get();

    // Access log
    Counter "pagecast_access_log_written" "Access log lines written.":
        "access_log.written" => &now.access_log.counters.written;
    Counter "pagecast_access_log_dropped" "Access log lines dropped because the queue was full.":
        "access_log.dropped" => &now.access_log.counters.dropped;
    Counter "pagecast_access_log_failed" "Access log lines that could not be written.":
        "access_log.failed" => &now.access_log.counters.failed;
    Gauge "pagecast_access_log_queued" "Access log lines in the queue.":
        "access_log.queued" => now.access_log.queued();
    Gauge "pagecast_access_log_queued_limit" "Limit of pagecast_access_log_queued.":
        "access_log.limit" => now.access_log.capacity;

    // Process; without /proc only its memory limit
    Gauge "pagecast_memory_bytes" "The process's own memory: heap and stacks, without pages of files.":
        => now.process.map(|process| process.anonymous_bytes + process.shared_bytes);
    Gauge "pagecast_memory_bytes_limit" "Limit of pagecast_memory_bytes.":
        "memory.bytes" => now.limits.memory.bytes;
    Hidden:
        "memory.source" => now.limits.memory.source.name(),
        "process" => now.process.is_none().then_some(serde_json::Value::Null);
    Gauge "process_resident_memory_bytes" "Resident memory, pages of files included.":
        "process.resident_bytes" => now.process.map(|process| process.resident_bytes);
    Hidden:
        "process.anonymous_bytes" => now.process.map(|process| process.anonymous_bytes),
        "process.file_bytes" => now.process.map(|process| process.file_bytes),
        "process.shared_bytes" => now.process.map(|process| process.shared_bytes);
    Gauge "process_virtual_memory_bytes" "Virtual memory.":
        => now.process.map(|process| process.virtual_bytes);
    Gauge "process_threads" "Threads of the process.":
        "process.threads" => now.process.map(|process| process.threads);
};

/// Metrics that only `/metrics` reports, because reading them takes many system calls.
pub(crate) static PROCESS_METRICS: &[Metric] = metrics! { now:
    Counter "process_cpu_seconds" "Processor time, of user space and the kernel.":
        => now.usage.as_ref().map(|usage| usage.cpu_seconds);
    Gauge "process_open_fds" "Open files, sockets included.":
        => now.usage.as_ref().map(|usage| usage.open_files);
    Gauge "process_max_fds" "Limit of process_open_fds.":
        => now.usage.as_ref().map(|usage| usage.open_files_limit.map_or(f64::INFINITY, |limit| limit as f64));
    Gauge "process_start_time_seconds" "When the process started, in seconds since 1970.":
        => now.usage.as_ref().map(|usage| usage.started_seconds);
};

fn per_second(rate: &RequestRate) -> f64 {
    rate.requests() as f64 / rate.span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_documentation_has_each_metric_with_its_type_and_help() {
        let text = include_str!("../../../docs/metrics.md");
        let mut documented: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
            let (name, rest) = row.split_once('`').unwrap();
            let cells: Vec<_> = rest.split(" | ").collect();
            if let [_, kind, meaning, ..] = cells[..] {
                documented.insert(name.split('{').next().unwrap(), (kind, meaning));
            }
        }
        for metric in METRICS.iter().chain(PROCESS_METRICS) {
            let (suffix, expected) = match metric.kind {
                MetricKind::Hidden => continue,
                MetricKind::Counter => ("_total", "counter"),
                MetricKind::Gauge => ("", "gauge"),
                MetricKind::Histogram => ("", "histogram"),
                MetricKind::Info => ("_info", "gauge"),
            };
            let name = format!("{}{suffix}", metric.name);
            let Some((kind, meaning)) = documented.remove(&*name) else {
                assert!(text.contains(&format!("Limit: `{name}`")), "{name} is not documented");
                continue;
            };
            assert_eq!(kind, expected, "{name}");
            let meaning = meaning.replace('`', "");
            assert!(meaning.starts_with(metric.help), "{name}: {meaning} and {}", metric.help);
        }
        assert!(documented.is_empty(), "no such metrics: {documented:?}");
    }
}
