//! Every gauge at one moment: what `/status` and `/metrics` are both made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::process::Process;
use crate::admin::authorize::{AdminAuth, AdminAuthCounts};
use crate::admin::slots::{AdminSlots, SlotCounts};
use crate::auth::access::{AccessCounts, Authenticator};
use crate::config::{Config, ResolvedLimits};
use crate::files::{FaultCounts, FileGauges, Files};
use crate::lifecycle::handover;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::reload::{Reloader, Reloads};
use crate::lifecycle::warmup::progress::{self, WarmupProgress};
use crate::limits::bandwidth::BandwidthCounts;
use crate::limits::client_limits::{LimitCounts, Limits};
use crate::limits::connections::{ActivityCounts, ConnectionCounts};
use crate::net::tls::config::{Tls, TlsCounts};
use crate::site::directory_jobs::DirectoryJobs;
use crate::site::https_policy::HttpsPolicy;
use crate::telemetry::access_log::{counters::AccessLogCounts, log::AccessLog};
use crate::telemetry::metrics::histogram::HistogramTotals;
use crate::telemetry::metrics::lookups::LookupCounts;
use crate::telemetry::metrics::registry::Metrics;
use crate::telemetry::metrics::totals::MetricTotals;

/// Where the gauges come from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gauges {
    pub(crate) started: Instant,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) entry: AdminAuth,
    pub(crate) files: Files,
    pub(crate) guard: Limits,
    pub(crate) gate: HttpsPolicy,
    pub(crate) access: Authenticator,
    pub(crate) directories: DirectoryJobs,
    pub(crate) progress: Arc<WarmupProgress>,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
    pub(crate) tls: Option<Tls>,
    pub(crate) reloader: Reloader,
    pub(crate) admin: AdminSlotCounts,
    /// The listeners come from a predecessor.
    pub(crate) is_successor: bool,
}

/// Who is at the admin listener.
#[derive(Clone, Debug)]
pub(crate) struct AdminSlotCounts {
    pub(crate) connections: AdminSlots,
    /// Those who watch the dashboard.
    pub(crate) watches: AdminSlots,
}

impl AdminSlotCounts {
    /// So many connections. Half of them may watch: the others are for those who ask, and for health above all.
    pub(crate) fn new(connections: usize) -> Self {
        Self { connections: AdminSlots::new(connections), watches: AdminSlots::new(connections / 2) }
    }
}

/// Every gauge at one moment.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) phase: Phase,
    /// An operator has load balancers go elsewhere.
    pub(crate) is_drained: bool,
    /// What the admin listener refused.
    pub(crate) entry: AdminAuthCounts,
    pub(crate) admin_connections: SlotCounts,
    /// Those of them that watch the dashboard.
    pub(crate) admin_watches: SlotCounts,
    pub(crate) uptime: Duration,
    pub(crate) is_successor: bool,
    pub(crate) upgrades_failed: u64,
    pub(crate) root_is_sound: bool,
    /// What is in effect.
    pub(crate) config: Config,
    pub(crate) limits: ResolvedLimits,
    pub(crate) reloads: Reloads,
    pub(crate) warming: progress::WarmupCounts,
    pub(crate) totals: MetricTotals,
    pub(crate) access_log: AccessLogCounts,
    /// None where TLS is not spoken.
    pub(crate) tls: Option<TlsCounts>,
    pub(crate) access: AccessCounts,
    pub(crate) lookups: LookupCounts,
    /// Responses under way that had to wait.
    pub(crate) transfers: usize,
    pub(crate) connections: ConnectionCounts,
    pub(crate) activities: ActivityCounts,
    pub(crate) guard: LimitCounts,
    pub(crate) suspicious_queries: u64,
    pub(crate) bandwidth: BandwidthCounts,
    pub(crate) files: FileGauges,
    pub(crate) faults: FaultCounts,
    /// Of the reads of cold pages.
    pub(crate) read_durations: HistogramTotals,
    /// Listings and archives under way, those that found no place, and those whose client had its share.
    pub(crate) directories: u64,
    pub(crate) directories_refused: u64,
    pub(crate) client_directories_refused: u64,
    /// None where `/proc` is not to be had.
    pub(crate) process: Option<Process>,
}

impl Gauges {
    /// All of them, now. Waits for nobody for long.
    pub(crate) fn read(&self) -> Readings {
        let limits = self.reloader.limits();
        Readings {
            phase: self.lifecycle.phase(),
            is_drained: self.lifecycle.is_drained(),
            entry: self.entry.counts(),
            admin_connections: self.admin.connections.counts(),
            admin_watches: self.admin.watches.counts(),
            uptime: self.started.elapsed(),
            is_successor: self.is_successor,
            upgrades_failed: handover::failures(),
            root_is_sound: self.files.root_is_sound(),
            config: self.reloader.config(),
            limits,
            reloads: self.reloader.counts(),
            warming: self.progress.counts(),
            totals: self.metrics.totals(),
            access_log: self.access_log.counts(),
            tls: self.tls.as_ref().map(Tls::counts),
            access: self.access.counts(),
            lookups: self.metrics.lookup_counts(),
            transfers: self.metrics.transfer_count(),
            connections: self.guard.connections().counts(),
            activities: self.guard.connections().activities(),
            guard: self.guard.counts(),
            suspicious_queries: self.gate.suspicious(),
            bandwidth: self.guard.bandwidth().counts(),
            files: FileGauges::of(&self.files),
            faults: self.files.faults().counts(),
            read_durations: self.files.reads().durations(),
            directories: limits.directories.saturating_sub(self.directories.permits_left()) as u64,
            directories_refused: self.directories.refused(),
            client_directories_refused: self.directories.clients_refused(),
            process: Process::read(),
        }
    }
}
