//! Reads the numbers behind the table of metrics from the parts of the server.

use std::sync::{Arc, LazyLock};

use super::context::ServerContext;
use super::process::{Process, ProcessUsage};
use crate::auth::access::Authenticator;
use crate::config::{Config, ResolvedLimits};
use crate::files::WorkCounts;
use crate::files::reads::ReadCounts;
use crate::lifecycle::reload::Reloads;
use crate::lifecycle::warmup::progress::WarmupCounts;
use crate::limits::client_limits::Limits;
use crate::limits::connections::ActivityCounts;
use crate::net::tls::config::TlsCounts;
use crate::telemetry::access_log::shared::AccessLog;
use crate::telemetry::metrics::counts::MetricCounts;

/// The numbers at one moment.
pub(crate) struct Readings {
    /// For the numbers that are read one by one.
    pub(crate) server: Arc<ServerContext>,
    /// Configuration in effect.
    pub(crate) config: Config,
    pub(crate) limits: ResolvedLimits,
    pub(crate) reloads: Reloads,
    pub(crate) warming: WarmupCounts,
    pub(crate) totals: MetricCounts,
    pub(crate) access_log: Arc<AccessLog>,
    /// `None` without TLS.
    pub(crate) tls: Option<TlsCounts>,
    pub(crate) access: Authenticator,
    pub(crate) client_limits: Limits,
    pub(crate) activities: ActivityCounts,
    /// Reads of cold pages.
    pub(crate) reads: ReadCounts,
    /// Background tasks: checksums and compressions.
    pub(crate) digesting: WorkCounts,
    pub(crate) compressing: WorkCounts,
    /// `None` without `/proc`.
    pub(crate) process: Option<Process>,
    /// CPU time and open files of the process, read when needed first. `None` without `/proc`.
    pub(crate) usage: LazyLock<Option<ProcessUsage>>,
}

impl Readings {
    /// Reads all numbers. Blocks only for short locks.
    pub(crate) fn new(server: &Arc<ServerContext>) -> Self {
        let current = server.reloader.current.load_full();
        Self {
            config: Config::clone(&current.view.config),
            limits: current.limits,
            reloads: *server.reloader.counts.lock(),
            warming: *server.warmup.progress.lock(),
            totals: server.metrics.totals(),
            access_log: Arc::clone(&server.reloader.targets.access_log),
            tls: server.tls.as_ref().map(|tls| tls.counts()),
            access: server.site.authenticator.clone(),
            client_limits: server.site.limits.clone(),
            activities: server.site.limits.connections.activities(),
            reads: server.site.files.shared.reads.counts(),
            digesting: server.site.files.shared.digesting.counts(),
            compressing: server.site.files.shared.encoding.counts(),
            process: Process::read(),
            usage: LazyLock::new(ProcessUsage::read),
            server: Arc::clone(server),
        }
    }

    /// Listings and archives under way.
    pub(crate) fn directories(&self) -> usize {
        self.limits.directories.saturating_sub(self.server.site.directories.permits.available_permits())
    }
}
