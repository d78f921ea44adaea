//! Builds everything that exists before the workers start.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::admin::authorize::AdminAuth;
use crate::admin::context::ServerContext;
use crate::admin::health::Health;
use crate::admin::slots::AdminSlots;
use crate::config::{ConfigError, LoadedConfig, ProcessInputs};
use crate::files::policy::Rules;
use crate::files::storage::Storage;
use crate::files::{FileSettings, Files, Root};
use crate::lifecycle::{
    ConfigInEffect, Lifecycle, ReloadTargets, Reloader, UpdateReceiver, Warmup, WarmupState, WorkerUpdates,
};
use crate::limits::client_limits::Limits;
use crate::net::tls::certificates::Certificates;
use crate::net::tls::config::Tls;
use crate::site::settings::SiteSettings;
use crate::telemetry::access_log::shared::AccessLog;
use crate::telemetry::metrics::registry::Metrics;

/// Parts of the server that are created before the workers start.
pub(super) struct Components {
    pub(super) context: Arc<ServerContext>,
    pub(super) warmup_state: WarmupState,
    // The last field, dropped when everything that logs requests has ended.
    pub(super) access_log: FlushLogOnDrop,
}

/// Writes what is left of the access log when dropped.
pub(super) struct FlushLogOnDrop(pub(super) Arc<AccessLog>);

impl Drop for FlushLogOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Components {
    /// Opens the document root in `storage`, certificates and logs, and builds from `loaded` what the admin listener and the workers
    /// use, with the channels on which the settings of reloads arrive at them; `has_tls` if a listener is for TLS.
    ///
    /// # Errors
    /// If something that the configuration names is not available; other errors are logged before the one that is returned.
    pub(super) async fn build(
        loaded: &LoadedConfig,
        given: ProcessInputs,
        storage: Arc<dyn Storage>,
        is_successor: bool,
        has_tls: bool,
    ) -> io::Result<(Self, Vec<UpdateReceiver<SiteSettings>>)> {
        let LoadedConfig { config, limits, .. } = loaded;
        let certificates = Certificates::load(config).map_err(log_all_but_last)?;
        let tls = certificates.map(|certificates| Tls::new(config, certificates)).transpose()?.map(Arc::new);
        let root = Root::open_on(storage, config.site.root.as_path(), config.site.symlinks)?;
        let files = Files::new(root, &FileSettings::of(config, limits), Rules::new(config))?;
        files.try_probe().await;
        log::info!("memory: {} MiB {}", limits.memory.bytes >> 20, limits.memory.source.name());
        let client_limits = Limits::new(config, limits);
        let access_log = FlushLogOnDrop(AccessLog::start(config)?);
        let warmup = Warmup::new(files.clone(), config, limits);
        let view = SiteSettings::new(loaded, files, &client_limits, has_tls)?;
        let (workers, updates) = WorkerUpdates::new(limits.workers);
        let targets = ReloadTargets {
            limits: client_limits,
            warmup: warmup.clone(),
            tls: tls.clone(),
            access_log: access_log.0.clone(),
            workers,
        };
        let in_effect = ConfigInEffect {
            origins: loaded.origins.clone(),
            postponed: Vec::new(),
            limits: *limits,
            view: view.clone(),
        };
        let lifecycle = Lifecycle::new();
        let context = ServerContext {
            started: Instant::now(),
            is_successor,
            auth: AdminAuth::new(config),
            health: Health::new(lifecycle.clone(), view.files.clone(), Arc::clone(&warmup.progress)),
            lifecycle,
            site: view,
            metrics: Metrics::with_access_log(access_log.0.clone()),
            tls,
            warmup: warmup.clone(),
            reloader: Reloader::new(given, in_effect, targets)?,
            connections: AdminSlots::new(limits.admin_connections),
            subscribers: AdminSlots::new(limits.admin_connections / 2),
        };
        let warmup_state = WarmupState::open(config, warmup)?;
        Ok((Self { context: Arc::new(context), warmup_state, access_log }, updates))
    }
}

/// Logs all errors but the last one, which is returned.
fn log_all_but_last(mut errors: Vec<ConfigError>) -> io::Error {
    let last = errors.pop();
    for error in errors {
        log::error!("{error}");
    }
    last.map_or_else(|| io::ErrorKind::Other.into(), io::Error::other)
}
