//! Reloads the configuration, redirects and certificates while the server runs.
//!
//! A configuration with an error is refused as a whole. An accepted one becomes a new `SiteSettings` for every worker: requests
//! under way finish with the view that they began with, and the next request of every connection uses the new one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::config::{
    Auto, Config, ConfigError, ConfigErrors, Count, LoadedConfig, ProcessInputs, RegularFiles,
    ResolvedLimits, RootPath, Setting, ValueOrigins, load, read_redirects, resolve_limits, serving_conflicts,
};
use crate::files::FileSettings;
use crate::files::policy::Rules;
use crate::http::redirects::Redirects;
use crate::lifecycle::config_change::ConfigChange;
use crate::lifecycle::config_reads::{ConfigReads, ReadLost};
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::warmer::{Warmup, WarmupTarget};
use crate::lifecycle::worker_updates::WorkerUpdates;
use crate::limits::client_limits::Limits;
use crate::net::tls::certificates::{CertificateFiles, Certificates};
use crate::net::tls::config::Tls;
use crate::site::settings::SiteSettings;
use crate::sys::service_manager;
use crate::sys::system_facts::SystemFacts;
use crate::telemetry::access_log::shared::AccessLog;
use crate::telemetry::logger;

/// Requests for a reload. Cheap to clone. A request that arrives before an equal one was begun is merged with it.
#[derive(Clone, Default)]
pub struct ReloadRequests {
    /// For the configuration, redirects included.
    pub configuration: Arc<Notify>,
    /// For the redirects alone: a document root that was replaced may have others.
    pub redirects: Arc<Notify>,
    /// For the access log to be reopened.
    pub reopen: Arc<Notify>,
}

/// Reloads the configuration.
pub(crate) struct Reloader {
    given: ProcessInputs,
    pub(crate) targets: ReloadTargets,
    /// One thread: a file system that hangs holds up reloads, renewed certificates and redirects, but no traffic.
    pub(crate) reads: ConfigReads,
    /// Fingerprint of the certificate files that were read last, if they are not usable.
    refused: Mutex<Option<[u8; 32]>>,
    turn: tokio::sync::Mutex<()>,
    /// Everything in effect; settings that need a restart have their values since the start.
    pub(crate) current: ArcSwap<ConfigInEffect>,
    /// Counts of configuration reloads.
    pub(crate) counts: Mutex<Reloads>,
}

/// The parts of the server that a reload changes.
pub(crate) struct ReloadTargets {
    pub(crate) limits: Limits,
    pub(crate) warmup: Warmup,
    /// `None` if TLS is off.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) access_log: Arc<AccessLog>,
    pub(crate) workers: WorkerUpdates<SiteSettings>,
}

/// Counts of reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reloads {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// Time of the last successful reload, or else of the start, in seconds since 1970.
    pub(crate) last_success: u64,
}

fn unix_seconds() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

/// The configuration in effect, and what was made of it.
#[derive(Clone)]
pub(crate) struct ConfigInEffect {
    pub(crate) origins: ValueOrigins,
    /// Settings that were read and wait for a restart.
    pub(crate) postponed: Vec<PendingRestart>,
    pub(crate) limits: ResolvedLimits,
    pub(crate) view: SiteSettings,
}

/// A setting that has another value at the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PendingRestart {
    pub(crate) key: &'static str,
    /// Where the value comes from.
    pub(crate) origin: String,
    /// The value that was read.
    pub(crate) value: String,
    /// The value in effect until the restart.
    pub(crate) until_then: String,
}

/// Result of a successful reload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reloaded {
    /// What has changed, as text.
    pub(crate) news: String,
    pub(crate) postponed: Vec<PendingRestart>,
}

/// Why a reload failed.
#[derive(Debug)]
pub(crate) enum ReloadError {
    /// The configuration has errors; nothing has changed.
    Invalid(ConfigErrors),
    /// Files could not be read; nothing has changed.
    Unread(ReadLost),
    /// The configuration is in effect, except on these workers.
    Incomplete(Vec<String>),
}

impl From<ConfigErrors> for ReloadError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Invalid(errors)
    }
}

impl From<ReadLost> for ReloadError {
    fn from(lost: ReadLost) -> Self {
        Self::Unread(lost)
    }
}

impl ReloadError {
    /// Every error, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Invalid(errors) => errors.as_slice().iter().map(ToString::to_string).collect(),
            Self::Unread(lost) => vec![lost.to_string()],
            Self::Incomplete(failures) => failures.clone(),
        }
    }

    /// True if a file system that hangs is the cause: nothing is known about the files.
    fn is_delay(&self) -> bool {
        matches!(self, Self::Unread(ReadLost::TimedOut | ReadLost::Blocked))
    }

    /// Logs why a reload failed, and what is in effect now.
    fn log(&self, what: &str) {
        for line in self.lines() {
            log::error!("{line}");
        }
        if !matches!(self, Self::Incomplete(_)) {
            log::error!("not reloaded: {what} stays as it was");
        }
    }
}

impl Reloader {
    /// Creates the reloader of a configuration that was loaded from `given` and is in effect as `current`.
    ///
    /// # Errors
    /// If its thread can't be started.
    pub(crate) fn new(
        given: ProcessInputs,
        current: ConfigInEffect,
        targets: ReloadTargets,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            given,
            reads: ConfigReads::new()?,
            refused: Mutex::default(),
            targets,
            turn: tokio::sync::Mutex::default(),
            current: ArcSwap::from_pointee(current),
            counts: Mutex::new(Reloads { done: 0, failed: 0, last_success: unix_seconds() }),
        }))
    }

    /// Reloads on each of `requests`, one after the other, for as long as it is polled.
    pub(crate) async fn listen(self: Arc<Self>, requests: ReloadRequests, lifecycle: Lifecycle) {
        loop {
            let is_configuration = tokio::select! {
                biased;
                () = requests.configuration.notified() => true,
                () = requests.redirects.notified() => false,
            };
            match lifecycle.phase() {
                // No worker is left.
                Phase::Ended => {}
                Phase::Draining | Phase::Retiring | Phase::Closing if is_configuration => {
                    log::info!("not reloaded: the server is stopping");
                }
                // Errors have been logged.
                _ if is_configuration => drop(self.reload().await),
                _ => self.reload_redirects(&requests.redirects).await,
            }
        }
    }

    /// Reads the configuration again and applies what needs no restart. When it returns `Ok`, every new request is answered
    /// accordingly. Logs the changes, what waits for a restart, and every error.
    ///
    /// # Errors
    /// [`ReloadError::Invalid`] with every error of the configuration: the old one stays in effect as a whole.
    /// [`ReloadError::Unread`] if its files could not be read in time: nothing has changed either.
    /// [`ReloadError::Incomplete`] if a worker did not apply the new configuration in time: it is in effect on the others.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        service_manager::reloading();
        let outcome = self.read_and_apply().await;
        service_manager::ready();
        let mut counts = self.counts.lock();
        if outcome.is_ok() {
            counts.done += 1;
            counts.last_success = unix_seconds();
        } else {
            counts.failed += 1;
        }
        outcome.inspect_err(|error| error.log("the configuration"))
    }

    /// Reads the redirects again, as [`reload`](Self::reload) does. Makes `request` once more if a read that hangs delays this.
    async fn reload_redirects(&self, request: &Arc<Notify>) {
        let _turn = self.turn.lock().await;
        let Err(error) = self.read_and_apply_redirects().await else { return };
        // The read that hangs was logged when it missed its deadline.
        if !matches!(error, ReloadError::Unread(ReadLost::Blocked)) {
            error.log("_redirects");
        }
        if error.is_delay() {
            notify_later(request);
        }
    }

    async fn read_and_apply_redirects(&self) -> Result<(), ReloadError> {
        let before = self.current.load_full();
        let root = before.view.config.site.root.clone();
        let redirects = self.blocking(move || redirects_of(&root)).await?;
        if redirects == before.view.redirects {
            return Ok(());
        }
        log::info!("the redirects of {} have changed", before.view.config.site.root);
        let view = SiteSettings { redirects, ..before.view.clone() };
        self.put_into_effect(ConfigInEffect { view, ..ConfigInEffect::clone(&before) }).await
    }

    /// Reloads the certificates whenever their files change, for as long as it is polled. Files are read once two looks in a row
    /// found the same: another process may be about to write the second one.
    pub(crate) async fn poll_certificates(self: Arc<Self>) {
        let Some(tls) = &self.targets.tls else { return };
        let mut seen = None;
        loop {
            tokio::time::sleep(FILES_CHECK_INTERVAL).await;
            let _turn = self.turn.lock().await;
            let current = self.current.load_full();
            let found = match self.reads.run(move || CertificateFiles::read(&current.view.config)).await {
                Ok(found) => found,
                Err(lost) => {
                    // Logged once, not at each look while the read hangs.
                    if lost == ReadLost::TimedOut {
                        ReloadError::Unread(lost).log(CERTIFICATES);
                    }
                    continue;
                }
            };
            let fingerprint = CertificateFiles::fingerprint(&found);
            if fingerprint == Some(tls.certificates().fingerprint) {
                *self.refused.lock() = None;
            } else if fingerprint.is_some() && fingerprint == seen && fingerprint != *self.refused.lock() {
                match self.parse_certificates(found).await {
                    Ok(certificates) => replace_certificates(tls, certificates),
                    Err(error) => error.log(CERTIFICATES),
                }
            }
            seen = fingerprint;
        }
    }

    async fn read_and_apply(&self) -> Result<Reloaded, ReloadError> {
        let before = self.current.load_full();
        let (given, root) = (self.given.clone(), before.view.config.site.root.clone());
        let read = move || {
            let loaded = read_all(&given, &root)?;
            let found = CertificateFiles::read(&loaded.config);
            Ok((loaded, found))
        };
        let (loaded, found) = self.blocking(read).await?;
        let certificates = self.parse_certificates(found).await?;
        let change = ConfigChange::between(&before.view.config, loaded.config.clone());
        let config = Arc::new(change.config.clone());
        let limits = resolve_limits_beside(&before.limits, &config, &self.given.facts)?;
        self.apply_access_log(&before.view.config, &config).await?;
        let news = news(&change, &before, &loaded);
        if let Some(tls) = &self.targets.tls {
            replace_certificates(tls, certificates);
        }
        let pending = |setting: &&Setting| PendingRestart {
            key: setting.key,
            origin: loaded.origins.of(setting.key).to_string(),
            value: (setting.value)(&loaded.config),
            until_then: (setting.value)(&before.view.config),
        };
        let postponed: Vec<PendingRestart> = change.postponed.iter().map(pending).collect();
        let mut origins = loaded.origins.clone();
        for setting in &change.postponed {
            origins.set(setting.key, before.origins.of(setting.key).clone());
        }
        // Caches and counters stay.
        let files = before.view.files.reconfigured(&FileSettings::of(&config, &limits), Rules::new(&config));
        let view = before.view.reconfigured(config, &loaded, files);
        let next = ConfigInEffect { origins, postponed: postponed.clone(), limits, view };
        let outcome = self.put_into_effect(next).await;
        if !logger::is_same(&change.config, &before.view.config) {
            logger::change(&change.config);
        }
        match &outcome {
            Ok(()) => log::info!("reloaded {news}"),
            Err(_) => log::warn!("reloaded, but not on every worker: {news}"),
        }
        for PendingRestart { key, origin, value, until_then } in &postponed {
            log::warn!("{key} = {value} ({origin}) needs a restart: until then it stays {until_then}");
        }
        outcome.map(|()| Reloaded { news, postponed })
    }

    async fn apply_access_log(&self, before: &Config, config: &Config) -> Result<(), ReloadError> {
        let (old, new) = (before.clone(), config.clone());
        let prepare = move || AccessLog::prepare(&old, &new, old.site.root.as_path()).map_err(conflict);
        let prepared = self.blocking(prepare).await?;
        Ok(self.targets.access_log.apply(config, prepared).map_err(conflict)?)
    }

    /// Parses certificate files that were found, and remembers their fingerprint if they are not usable.
    async fn parse_certificates(
        &self,
        found: Result<Option<CertificateFiles>, Vec<ConfigError>>,
    ) -> Result<Option<Certificates>, ReloadError> {
        let fingerprint = CertificateFiles::fingerprint(&found);
        let parse = || found?.map(CertificateFiles::into_certificates).transpose();
        let parsed = self.blocking(move || parse().map_err(ConfigErrors::from)).await;
        // A deadline that was missed says nothing about the files.
        let is_refused = parsed.as_ref().is_err_and(|error| !error.is_delay());
        *self.refused.lock() = fingerprint.filter(|_| is_refused);
        if let (true, Some(tls)) = (is_refused, &self.targets.tls) {
            tls.bad_certificates.fetch_add(1, Ordering::Relaxed);
        }
        parsed
    }

    /// Makes `next` the configuration in effect, and waits until the workers have applied it, at most [`UPDATE_TIMEOUT`].
    async fn put_into_effect(&self, next: ConfigInEffect) -> Result<(), ReloadError> {
        let ReloadTargets { limits, warmup, workers, .. } = &self.targets;
        limits.apply(&next.view.config);
        limits.connections.set_max(next.limits.max_connections);
        let (files, dotfiles) = (next.view.files.clone(), next.view.config.site.dotfiles);
        warmup.target.store(Arc::new(WarmupTarget { files, dotfiles }));
        let view = next.view.clone();
        self.current.store(Arc::new(next));
        match workers.send(view, UPDATE_TIMEOUT).await {
            failures if failures.is_empty() => Ok(()),
            failures => Err(ReloadError::Incomplete(failures)),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, ConfigErrors> + Send + 'static,
    ) -> Result<T, ReloadError> {
        Ok(self.reads.run(job).await??)
    }
}

/// Loads the configuration, with the redirects of `root`, which goes on being served. Blocks.
fn read_all(given: &ProcessInputs, root: &RootPath) -> Result<LoadedConfig, ConfigErrors> {
    let loaded = load(given, Vec::new(), &RegularFiles)?;
    if loaded.config.site.root == *root {
        return Ok(loaded);
    }
    Ok(LoadedConfig { redirects: redirects_of(root)?, ..loaded })
}

fn conflict(error: io::Error) -> ConfigErrors {
    vec![ConfigError::Conflict(error.to_string())].into()
}

fn redirects_of(root: &RootPath) -> Result<Arc<Redirects>, ConfigErrors> {
    read_redirects(root.as_path(), &RegularFiles).map_err(ConfigErrors::from)
}

/// Checks live settings beside those that stay until a restart, and derives the limits beside the number of file handles,
/// which stays too.
fn resolve_limits_beside(
    before: &ResolvedLimits,
    config: &Config,
    facts: &SystemFacts,
) -> Result<ResolvedLimits, ConfigErrors> {
    let handles = Auto::Given(Count::of(before.handles as u64));
    let mut config = config.clone();
    Arc::make_mut(&mut config.open_files).handles = handles;
    let mut errors = serving_conflicts(&config);
    match resolve_limits(&config, facts) {
        Ok(limits) if errors.is_empty() => return Ok(limits),
        Ok(_) => {}
        Err(error) => errors.push(error),
    }
    errors.push(ConfigError::Conflict(format!(
        "this would be valid after a restart; until then the {handles} file handles stay reserved"
    )));
    Err(ConfigErrors::from(errors))
}

/// Requests a read again after a pause, for one that a hanging file system prevented.
fn notify_later(request: &Arc<Notify>) {
    let request = Arc::clone(request);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(FILES_CHECK_INTERVAL).await;
        request.notify_one();
    });
}

/// What a reload changes, as text.
fn news(change: &ConfigChange, before: &ConfigInEffect, loaded: &LoadedConfig) -> String {
    let mut changes = vec![change.describe(&before.view.config)];
    if loaded.redirects != before.view.redirects {
        changes.push("redirects".to_owned());
    }
    if !before.view.authenticator.uses(&loaded.access) {
        changes.push("keys, tokens or passwords".to_owned());
    }
    changes.retain(|change| !change.is_empty());
    let news = if changes.is_empty() { "nothing has changed".to_owned() } else { changes.join(", ") };
    match &loaded.file {
        Some(file) => format!("{}: {news}", file.display()),
        None => format!("the redirects, no configuration file being named: {news}"),
    }
}

fn replace_certificates(tls: &Tls, certificates: Option<Certificates>) {
    let Some(certificates) = certificates else { return };
    if certificates.fingerprint != tls.certificates().fingerprint {
        let names: Vec<String> = certificates.expiries().map(|(name, _)| name).collect();
        log::info!("certificates replaced: {}", names.join(", "));
        tls.replace(certificates);
    }
}

/// What stays as it was if certificates are refused, for the log.
const CERTIFICATES: &str = "the set of certificates";

/// How often the certificate files are read, and redirects that could not be. Whole: their dates don't show every change, and they are short.
const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a reload waits for the workers. An event loop that runs applies an update within milliseconds; clients of
/// `POST /reload` and service managers wait longer than this.
pub(crate) const UPDATE_TIMEOUT: Duration = Duration::from_secs(5);
