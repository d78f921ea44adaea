//! `/status`: every gauge beside its limit, as JSON. One struct, which whatever else shows gauges is fed from.

use std::time::Instant;

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, guard};
use serde::Serialize;

use super::process::Process;
use crate::config::{Config, Limits};
use crate::directories::Directories;
use crate::files::{FaultCounts, Files};
use crate::guard::Guard;
use crate::guard::access::{Access, AccessCounts, ByWay};
use crate::guard::gate::Gate;
use crate::lifecycle::{Lifecycle, Phase};
use crate::warmth::{Counts, Progress};

/// Where the gauges come from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gauges {
    pub(crate) started: Instant,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) files: Files,
    pub(crate) guard: Guard,
    pub(crate) gate: Gate,
    pub(crate) access: Access,
    pub(crate) directories: Directories,
    pub(crate) progress: std::sync::Arc<Progress>,
    pub(crate) limits: Limits,
    pub(crate) bounds: Bounds,
}

/// Limits that are settled by the configuration alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    names: u64,
    digests: u64,
    clients: u64,
}

/// How the server is, at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    phase: &'static str,
    uptime_seconds: u64,
    warming: Counts,
    connections: Gauge,
    clients: Gauge,
    handles: Handles,
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
    memory: Memory,
    faults: FaultCounts,
    refused: Refused,
    closed: Closed,
    reads: Reads,
    bandwidth: Bandwidth,
    unmapping: Unmapping,
    access: AccessGauges,
    /// Requests whose `Forwarded` and `X-Forwarded-For` name different clients.
    contradictions: u64,
}

/// A number and what it may not exceed.
#[derive(Clone, Copy, Debug, Serialize)]
struct Gauge {
    now: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
struct Handles {
    now: u64,
    limit: u64,
    /// Requests that had to wait for one, and those that waited in vain.
    waits: u64,
    timeouts: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    bytes: u64,
    source: String,
}

/// What was refused, by kind.
#[derive(Debug, Serialize)]
struct Refused {
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
}

/// What is not for all.
#[derive(Debug, Serialize)]
struct AccessGauges {
    granted: ByWay,
    /// Shown, and opened nothing.
    denied: ByWay,
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
struct Closed {
    /// Idle ones, for a newcomer.
    idle: u64,
    /// Those whose clients took too little while connections ran short.
    too_slow: u64,
}

/// Cold pages, and what waits for them.
#[derive(Debug, Serialize)]
struct Reads {
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
struct Bandwidth {
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

impl Bounds {
    pub(crate) fn of(config: &Config) -> Self {
        Self { names: config.names.get(), digests: config.digests.get(), clients: config.clients.get() }
    }
}

impl Gauges {
    /// Adds the route to an App.
    pub(crate) fn configure(&self, app: &mut ServiceConfig) {
        let gauges = self.clone();
        let read = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        let answer = move || {
            let status = gauges.read();
            async move {
                HttpResponse::Ok()
                    .insert_header((CACHE_CONTROL, "no-store"))
                    .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
                    .json(status)
            }
        };
        app.service(web::resource("/status").route(read.to(answer)));
    }

    /// All of them, now.
    pub(crate) fn read(&self) -> Status {
        let (counts, limits) = (self.files.counts(), &self.limits);
        let (connections, guard) = (self.guard.connection_counts(), self.guard.counts());
        let bandwidth = self.guard.bandwidth_counts();
        let directories = limits.directories.saturating_sub(self.directories.permits_left()) as u64;
        Status {
            version: env!("CARGO_PKG_VERSION"),
            phase: name_of(self.lifecycle.phase()),
            uptime_seconds: self.started.elapsed().as_secs(),
            warming: self.progress.counts(),
            connections: gauge(connections.open as u64, connections.max as u64),
            clients: gauge(guard.clients as u64, self.bounds.clients),
            handles: Handles {
                now: counts.handles as u64,
                limit: limits.handles as u64,
                waits: counts.handle_waits,
                timeouts: counts.handle_timeouts,
            },
            names: gauge(counts.names, self.bounds.names),
            heap_bytes: gauge(counts.heap_bytes, limits.heap_bytes),
            mapped_bytes: gauge(counts.mapped_bytes, limits.cache_bytes),
            mappings: gauge(counts.mappings, limits.mappings as u64),
            directories: gauge(directories, limits.directories as u64),
            digests: gauge(counts.digests, self.bounds.digests),
            background: counts.background,
            unanswered_probes: counts.unanswered_probes,
            process: Process::read(),
            memory: Memory { bytes: limits.memory_bytes, source: limits.memory_source.to_string() },
            faults: self.files.faults().counts(),
            refused: Refused {
                suspicious_queries: self.gate.suspicious(),
                connections: connections.refused,
                client_connections: guard.refused_connections,
                client_requests: guard.refused_by_client_rate,
                total_requests: guard.refused_by_total_rate,
                client_requests_at_once: guard.refused_at_once,
                client_directories: self.directories.clients_refused(),
                proxy_headers: guard.proxy_headers_refused,
            },
            closed: Closed { idle: connections.evicted, too_slow: connections.too_slow },
            reads: Reads {
                waiting: counts.reads_waiting,
                running: counts.reads_running,
                made: counts.reads,
                shared: counts.reads_shared,
                dropped: counts.reads_dropped,
                timeouts: counts.disk_timeouts,
            },
            bandwidth: Bandwidth { held_back: bandwidth.held_back, waiting: bandwidth.waiting },
            unmapping: Unmapping { bytes: counts.unmapping_bytes, in_place: counts.unmapped_in_place },
            access: access_gauges(self.access.counts()),
            contradictions: guard.contradictions,
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

fn gauge(now: u64, limit: u64) -> Gauge {
    Gauge { now, limit }
}

fn name_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Warming => "warming",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
        Phase::Retiring => "retiring",
        Phase::Closing => "closing",
        Phase::Ended => "ended",
    }
}
