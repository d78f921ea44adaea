//! Reads the numbers behind the table of metrics from the parts of the server.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::process::{Process, ProcessUsage};
use crate::admin::authorize::{AdminAuth, AdminAuthCounts};
use crate::admin::slots::{AdminSlots, SlotCounts};
use crate::auth::access::{AccessCounts, Authenticator};
use crate::config::{Config, ResolvedLimits};
use crate::files::{FaultCounts, FileGauges, Files};
use crate::lifecycle::handover;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::reload::{Reloader, Reloads};
use crate::lifecycle::warmup::progress::WarmupCounts;
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

/// The parts of the server that have numbers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gauges {
    pub(crate) started: Instant,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) admin_auth: AdminAuth,
    pub(crate) files: Files,
    pub(crate) client_limits: Limits,
    pub(crate) https_policy: HttpsPolicy,
    pub(crate) access: Authenticator,
    pub(crate) directories: DirectoryJobs,
    pub(crate) progress: Arc<Mutex<WarmupCounts>>,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) admin: AdminSlotCounts,
    /// The listeners were taken over from a predecessor.
    pub(crate) is_successor: bool,
}

/// Slots of the admin listener.
#[derive(Clone, Debug)]
pub(crate) struct AdminSlotCounts {
    pub(crate) connections: AdminSlots,
    /// Connections that receive events for a dashboard.
    pub(crate) watches: AdminSlots,
}

impl AdminSlotCounts {
    /// Creates slots for `connections`. Half of them may receive events; the others stay free for requests, above all health
    /// checks.
    pub(crate) fn new(connections: usize) -> Self {
        Self { connections: AdminSlots::new(connections), watches: AdminSlots::new(connections / 2) }
    }
}

/// The numbers at one moment.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) phase: Phase,
    /// An operator makes readiness fail.
    pub(crate) is_drained: bool,
    /// Requests rejected by the admin listener.
    pub(crate) admin_auth: AdminAuthCounts,
    pub(crate) admin_connections: SlotCounts,
    /// Admin connections that receive events for a dashboard.
    pub(crate) admin_watches: SlotCounts,
    pub(crate) uptime: Duration,
    pub(crate) is_successor: bool,
    pub(crate) upgrades_failed: u64,
    pub(crate) root_is_sound: bool,
    /// Configuration in effect.
    pub(crate) config: Config,
    pub(crate) limits: ResolvedLimits,
    pub(crate) reloads: Reloads,
    pub(crate) warming: WarmupCounts,
    pub(crate) totals: MetricTotals,
    pub(crate) access_log: AccessLogCounts,
    /// `None` without TLS.
    pub(crate) tls: Option<TlsCounts>,
    pub(crate) access: AccessCounts,
    pub(crate) lookups: LookupCounts,
    /// Responses in progress that had to wait.
    pub(crate) transfers: usize,
    pub(crate) connections: ConnectionCounts,
    pub(crate) activities: ActivityCounts,
    pub(crate) client_limits: LimitCounts,
    pub(crate) suspicious_queries: u64,
    pub(crate) bandwidth: BandwidthCounts,
    pub(crate) files: FileGauges,
    pub(crate) faults: FaultCounts,
    /// Durations of reads of cold pages.
    pub(crate) read_durations: HistogramTotals,
    /// Listings and archives: in progress, rejected, and rejected because of the share of their client.
    pub(crate) directories: u64,
    pub(crate) directories_refused: u64,
    pub(crate) client_directories_refused: u64,
    /// `None` without `/proc`.
    pub(crate) process: Option<Process>,
    usage: OnceLock<Option<ProcessUsage>>,
}

impl Readings {
    /// CPU time and open files of the process, read when needed first. `None` without `/proc`.
    pub(crate) fn usage(&self) -> Option<&ProcessUsage> {
        self.usage.get_or_init(ProcessUsage::read).as_ref()
    }
}

impl Gauges {
    /// Reads all numbers. Blocks only for short locks.
    pub(crate) fn read(&self) -> Readings {
        let current = self.reloader.current.load_full();
        let limits = current.limits;
        Readings {
            phase: self.lifecycle.phase(),
            is_drained: self.lifecycle.is_drained.load(Ordering::Relaxed),
            admin_auth: self.admin_auth.counts(),
            admin_connections: self.admin.connections.counts(),
            admin_watches: self.admin.watches.counts(),
            uptime: self.started.elapsed(),
            is_successor: self.is_successor,
            upgrades_failed: handover::FAILURES.load(Ordering::Relaxed),
            root_is_sound: self.files.shared.root_monitor.is_sound(),
            config: Config::clone(&current.view.config),
            limits,
            reloads: *self.reloader.counts.lock(),
            warming: *self.progress.lock(),
            totals: self.metrics.totals(),
            access_log: self.access_log.counts(),
            tls: self.tls.as_ref().map(|tls| tls.counts()),
            access: self.access.counts(),
            lookups: self.metrics.lookup_counts(),
            transfers: self.metrics.transfer_count(),
            connections: self.client_limits.connections().counts(),
            activities: self.client_limits.connections().activities(),
            client_limits: self.client_limits.counts(),
            suspicious_queries: self.https_policy.suspicious(),
            bandwidth: self.client_limits.bandwidth().counts(),
            files: FileGauges::of(&self.files),
            faults: self.files.loader.faults.counts(),
            read_durations: self.files.shared.reads.durations(),
            directories: limits.directories.saturating_sub(self.directories.permits_left()) as u64,
            directories_refused: self.directories.refused(),
            client_directories_refused: self.directories.clients_refused(),
            process: Process::read(),
            usage: OnceLock::new(),
        }
    }
}
