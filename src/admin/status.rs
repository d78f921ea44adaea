//! `/status`: every gauge beside its limit, as JSON. One struct, which whatever else shows gauges is fed from.

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, guard};
use serde::Serialize;

use super::process::Process;
use super::readings::{Gauges, Readings};
use crate::admin::slots::SlotCounts;
use crate::auth::access::{AccessCounts, CountByMethod};
use crate::files::FaultCounts;
use crate::lifecycle::reload::Reloads;
use crate::lifecycle::warmup::progress::WarmupCounts;
use crate::telemetry::access_log::counters::AccessLogCounts;
use crate::telemetry::metrics::http2::ProtocolViolation;

/// How the server is, at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    phase: &'static str,
    /// An operator has load balancers go elsewhere.
    is_drained: bool,
    uptime_seconds: u64,
    requests: RequestStatus,
    warming: WarmupCounts,
    connections: Gauge,
    http2: Http2Status,
    clients: Gauge,
    /// Connections to the admin listener, and those of them that watch the dashboard.
    admin_connections: Gauge,
    admin_watches: Gauge,
    handles: HandleStatus,
    names: Gauge,
    /// Bytes of small files.
    heap_bytes: Gauge,
    /// Bytes of mapped files, in memory or not.
    mapped_bytes: Gauge,
    mappings: Gauge,
    /// Listings and archives under way.
    directories: Gauge,
    digests: Gauge,
    /// Checksums and compressed forms that wait or are under way.
    background: usize,
    /// Windows of which the file system could not say whether they are in memory.
    unanswered_probes: u64,
    /// None where `/proc` is not to be had.
    process: Option<Process>,
    memory: MemoryStatus,
    faults: FaultCounts,
    refused: RejectedStatus,
    closed: EvictedStatus,
    reads: ReadStatus,
    bandwidth: BandwidthStatus,
    unmapping: Unmapping,
    /// Of the configuration.
    reloads: Reloads,
    access: AccessGauges,
    /// Requests whose `Forwarded` and `X-Forwarded-For` name different clients.
    contradictions: u64,
    access_log: AccessLogCounts,
    /// Those that TLS is spoken with.
    certificates: Vec<Certificate>,
}

/// What became of requests since the start.
#[derive(Debug, Serialize)]
struct RequestStatus {
    ended: u64,
    /// Those that the server is to blame for: 5xx, a disk that failed, a file that changed.
    errors: u64,
    sent_bytes: u64,
    /// Responses under way that had to wait for their clients or for a disk.
    long_under_way: usize,
}

/// Connections over HTTP/2, and the streams on them.
#[derive(Debug, Serialize)]
struct Http2Status {
    connections: u64,
    streams: u64,
    /// The most that one connection had open at once, and reset in about ten seconds.
    connection_streams: Gauge,
    connection_resets: Gauge,
    resets: u64,
}

/// When a certificate expires.
#[derive(Debug, Serialize)]
struct Certificate {
    /// Its first name.
    name: String,
    /// Seconds since 1970.
    not_after: i64,
}

/// A number and what it may not exceed.
#[derive(Clone, Copy, Debug, Serialize)]
struct Gauge {
    now: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
struct HandleStatus {
    now: u64,
    limit: u64,
    /// Requests that had to wait for one, and those that waited in vain.
    waits: u64,
    timeouts: u64,
}

#[derive(Debug, Serialize)]
struct MemoryStatus {
    bytes: u64,
    source: String,
}

/// What was refused, by kind.
#[derive(Debug, Serialize)]
struct RejectedStatus {
    suspicious_queries: u64,
    /// At the limit of all connections, and at that of one client.
    connections: u64,
    client_connections: u64,
    /// By the rate of one client, by that of all together, and at the limit of requests at once.
    client_requests: u64,
    total_requests: u64,
    client_requests_at_once: u64,
    /// Listings and archives of clients that had their share of the places.
    client_directories: u64,
    /// Connections closed for the PROXY header that they began with, or did not.
    proxy_headers: u64,
    /// Connections over HTTP/2 that ended for frames that are not allowed, for resets, and for frames that bring nothing.
    malformed_frames: u64,
    http2_resets: u64,
    http2_frames: u64,
    /// Of the admin listener: wrong tokens, tokens after too many wrong ones, requests of other sites' pages.
    admin_tokens: u64,
    admin_attempts: u64,
    admin_pages: u64,
}

/// What is not for all.
#[derive(Debug, Serialize)]
struct AccessGauges {
    granted: CountByMethod,
    /// Shown, and opened nothing.
    denied: CountByMethod,
    /// Requests that showed nothing.
    nothing_shown: u64,
    /// Attempts of clients that had been wrong too often.
    limited: u64,
    /// Passwords that are checked.
    checks: Gauge,
    checks_waiting: u64,
    /// Checks that had to wait for a thread, and those that waited in vain.
    check_waits: u64,
    checks_refused: u64,
}

/// Connections that lost their place to others.
#[derive(Debug, Serialize)]
struct EvictedStatus {
    /// Idle ones, for a newcomer.
    idle: u64,
    /// Those whose clients took too little while connections ran short.
    too_slow: u64,
}

/// Cold pages, and what waits for them.
#[derive(Debug, Serialize)]
struct ReadStatus {
    waiting: usize,
    running: usize,
    made: u64,
    /// Responses that waited for a read that another had asked for.
    shared: u64,
    /// Let go before their turn, since nobody waited any more.
    dropped: u64,
    /// Requests that the disk did not answer in time.
    timeouts: u64,
}

/// What the rates of bandwidth do.
#[derive(Debug, Serialize)]
struct BandwidthStatus {
    /// Responses that were held back at least once; those that the kernel paces are not among them.
    held_back: u64,
    /// Connections that wait for their share of the rate of all clients.
    waiting: usize,
}

/// Evicted mappings that wait to be taken down.
#[derive(Debug, Serialize)]
struct Unmapping {
    bytes: u64,
    /// Taken down where they were let go, since too many waited.
    in_place: u64,
}

impl Gauges {
    /// Adds the route to an App.
    pub(crate) fn configure_status(&self, app: &mut ServiceConfig) {
        let gauges = self.clone();
        let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        let answer = move || {
            let status = Status::of(&gauges.read());
            async move {
                HttpResponse::Ok()
                    .insert_header((CACHE_CONTROL, "no-store"))
                    .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
                    .json(status)
            }
        };
        app.service(web::resource("/status").route(read.to(answer)));
    }
}

impl Status {
    /// Those of `readings` that are shown.
    pub(crate) fn of(readings: &Readings) -> Self {
        let Readings { config, limits, files, connections, guard, totals, .. } = readings;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phase: readings.phase.name(),
            is_drained: readings.is_drained,
            uptime_seconds: readings.uptime.as_secs(),
            requests: RequestStatus {
                ended: totals.requests(),
                errors: totals.errors(),
                sent_bytes: totals.bytes(),
                long_under_way: readings.transfers,
            },
            warming: readings.warming,
            connections: gauge(connections.open as u64, connections.max as u64),
            http2: Http2Status {
                connections: totals.http2.connections,
                streams: totals.http2.streams,
                connection_streams: gauge(totals.http2.streams_max, config.http2.http2_streams.get()),
                connection_resets: gauge(totals.http2.recent_resets_max, config.http2.http2_resets.get()),
                resets: totals.http2.resets,
            },
            admin_connections: places(readings.admin_connections),
            admin_watches: places(readings.admin_watches),
            clients: gauge(guard.clients as u64, config.clients.clients.get()),
            handles: HandleStatus {
                now: files.handles as u64,
                limit: limits.handles as u64,
                waits: files.handle_waits,
                timeouts: files.handle_timeouts,
            },
            names: gauge(files.names, config.caches.names.get()),
            heap_bytes: gauge(files.heap_bytes, limits.heap_bytes),
            mapped_bytes: gauge(files.mapped_bytes, limits.cache_bytes),
            mappings: gauge(files.mappings, limits.mappings as u64),
            directories: gauge(readings.directories, limits.directories as u64),
            digests: gauge(files.digests, config.integrity.digests.get()),
            background: files.background,
            unanswered_probes: files.unanswered_probes,
            process: readings.process,
            memory: MemoryStatus { bytes: limits.memory_bytes, source: limits.memory_source.to_string() },
            faults: readings.faults,
            refused: RejectedStatus {
                suspicious_queries: readings.suspicious_queries,
                connections: connections.refused,
                client_connections: guard.refused_connections,
                client_requests: guard.refused_by_client_rate,
                total_requests: guard.refused_by_total_rate,
                client_requests_at_once: guard.refused_at_once,
                client_directories: readings.client_directories_refused,
                proxy_headers: guard.proxy_headers_refused,
                malformed_frames: totals.http2.violations(ProtocolViolation::Malformed),
                http2_resets: totals.http2.violations(ProtocolViolation::Resets),
                http2_frames: totals.http2.violations(ProtocolViolation::Frames),
                admin_tokens: readings.entry.tokens,
                admin_attempts: readings.entry.too_many,
                admin_pages: readings.entry.pages,
            },
            closed: EvictedStatus { idle: connections.evicted, too_slow: connections.too_slow },
            reads: ReadStatus {
                waiting: files.reads_waiting,
                running: files.reads_running,
                made: files.reads,
                shared: files.reads_shared,
                dropped: files.reads_dropped,
                timeouts: files.disk_timeouts,
            },
            bandwidth: BandwidthStatus {
                held_back: readings.bandwidth.held_back,
                waiting: readings.bandwidth.waiting,
            },
            unmapping: Unmapping { bytes: files.unmapping_bytes, in_place: files.unmapped_in_place },
            reloads: readings.reloads,
            access: access_gauges(readings.access),
            contradictions: guard.contradictions,
            access_log: readings.access_log,
            certificates: readings
                .tls
                .iter()
                .flat_map(|tls| &tls.certificates)
                .map(Certificate::of)
                .collect(),
        }
    }
}

fn access_gauges(counts: AccessCounts) -> AccessGauges {
    let checks = counts.checks;
    AccessGauges {
        granted: counts.granted,
        denied: counts.denied,
        nothing_shown: counts.nothing_shown,
        limited: counts.limited,
        checks: gauge(checks.under_way as u64, checks.limit as u64),
        checks_waiting: checks.waiting as u64,
        check_waits: checks.waits,
        checks_refused: checks.refused,
    }
}

impl Certificate {
    fn of((name, not_after): &(String, i64)) -> Self {
        Self { name: name.clone(), not_after: *not_after }
    }
}

fn places(places: SlotCounts) -> Gauge {
    gauge(places.taken as u64, places.max as u64)
}

fn gauge(now: u64, limit: u64) -> Gauge {
    Gauge { now, limit }
}
