//! Settings that change while the server runs: the configuration is read again, and what can be changed is.
//!
//! A configuration with a mistake is refused whole. One that is accepted becomes a new `WorkerView` for every worker: requests
//! under way finish with the one that they began with, and the next request of every connection sees the new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::config::change::ConfigChange;
use crate::config::policy::rules::Rules;
use crate::config::{
    Auto, Config, ConfigError, ConfigErrors, Count, LoadedConfig, ProcessInputs, RegularFiles,
    ResolvedLimits, RootPath, Setting, SystemFacts, ValueOrigins, read_redirects, settle,
};
use crate::files::{FileSettings, Files};
use crate::http::redirects::Redirects;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::progress::Warmup;
use crate::limits::client_limits::Limits;
use crate::net::request_log::RequestLogOptions;
use crate::net::tls::certificates::{CertificateFiles, Certificates};
use crate::net::tls::config::Tls;
use crate::net::worker::ConnectionSettings;
use crate::site::handler::SiteSettings;
use crate::sys::blocking_pool::BlockingPool;
use crate::sys::service_manager;
use crate::telemetry::access_log::log::AccessLog;
use crate::telemetry::logger;

/// Who asks for a reload leaves word here. What is asked for twice before it is begun is done once.
#[derive(Clone, Default)]
pub struct ReloadRequests {
    inner: Arc<ReloadRequest>,
}

#[derive(Default)]
struct ReloadRequest {
    configuration: Notify,
    redirects: Notify,
    reopening: Notify,
}

/// What is to be read again.
enum ReloadScope {
    Configuration,
    Redirects,
}

/// What a worker serves with.
#[derive(Clone)]
pub(crate) struct WorkerView {
    pub(crate) files: Files,
    pub(crate) manners: SiteSettings,
    pub(crate) bounds: ConnectionSettings,
    pub(crate) noting: RequestLogOptions,
}

/// For a worker: what it serves with from now on.
pub(crate) struct WorkerUpdate {
    pub(crate) served: WorkerView,
    /// Dropped once that is so.
    pub(crate) done: mpsc::UnboundedSender<()>,
}

/// Reads the configuration again. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct Reloader {
    inner: Arc<Inner>,
}

struct Inner {
    given: ProcessInputs,
    /// Apart from the other pools: a file system that hangs holds up the reload alone.
    disk: BlockingPool,
    guard: Limits,
    warmth: Warmup,
    tls: Option<Tls>,
    /// The files of certificates that were looked into last, whatever came of it.
    judged: Mutex<Option<[u8; 32]>>,
    access_log: AccessLog,
    workers: Vec<mpsc::UnboundedSender<WorkerUpdate>>,
    turn: tokio::sync::Mutex<()>,
    current: Mutex<ConfigInEffect>,
    counts: ReloadCounts,
}

/// What came of reloading.
#[derive(Debug)]
struct ReloadCounts {
    done: AtomicU64,
    failed: AtomicU64,
    /// When a configuration was last put into effect, in seconds since 1970.
    last_success: AtomicU64,
}

/// What came of reloading, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reloads {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// When a configuration was last put into effect, in seconds since 1970: at start at the latest.
    pub(crate) last_success: u64,
}

impl ReloadCounts {
    fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_success: AtomicU64::new(unix_seconds()),
        }
    }

    fn note(&self, is_done: bool) {
        if is_done {
            self.done.fetch_add(1, Ordering::Relaxed);
            self.last_success.store(unix_seconds(), Ordering::Relaxed);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is in effect.
#[derive(Clone)]
pub(crate) struct ConfigInEffect {
    pub(crate) config: Config,
    pub(crate) origins: ValueOrigins,
    /// What was read and waits for a restart.
    pub(crate) postponed: Vec<PendingRestart>,
    pub(crate) limits: ResolvedLimits,
    pub(crate) served: WorkerView,
}

/// A knob that has another value at the next start.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct PendingRestart {
    pub(crate) key: &'static str,
    /// Where the value comes from.
    pub(crate) origin: String,
    /// What was read, and what it is until then.
    pub(crate) value: String,
    pub(crate) until_then: String,
}

/// What came of a reload.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Reloaded {
    /// What has changed, in words.
    pub(crate) news: String,
    pub(crate) postponed: Vec<PendingRestart>,
}

impl ReloadRequests {
    /// Asks for the configuration to be read again, and the redirects with it.
    pub fn ask(&self) {
        self.inner.configuration.notify_one();
    }

    /// Asks for the redirects alone: another tree may have others.
    pub(crate) fn ask_for_redirects(&self) {
        self.inner.redirects.notify_one();
    }

    /// Asks for the access log to be opened anew.
    pub fn ask_to_reopen(&self) {
        self.inner.reopening.notify_one();
    }

    /// Waits until the access log is to be opened anew.
    pub(crate) async fn reopening(&self) {
        self.inner.reopening.notified().await;
    }

    async fn next(&self) -> ReloadScope {
        tokio::select! {
            biased;
            () = self.inner.configuration.notified() => ReloadScope::Configuration,
            () = self.inner.redirects.notified() => ReloadScope::Redirects,
        }
    }
}

impl Reloader {
    /// Reloads what was loaded from `given` and is in effect as `current`.
    ///
    /// # Errors
    /// Where threads can't be started.
    pub(crate) fn new(
        given: ProcessInputs,
        current: ConfigInEffect,
        guard: Limits,
        warmth: Warmup,
        tls: Option<Tls>,
        access_log: AccessLog,
        workers: Vec<mpsc::UnboundedSender<WorkerUpdate>>,
    ) -> std::io::Result<Self> {
        let disk = BlockingPool::new("pagecast-load", 1, 0)?;
        let (turn, current) = (tokio::sync::Mutex::default(), Mutex::new(current));
        let counts = ReloadCounts::new();
        let judged = Mutex::new(tls.as_ref().map(|tls| tls.certificates().fingerprint()));
        let inner =
            Inner { given, disk, guard, warmth, tls, judged, access_log, workers, turn, current, counts };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does what `requests` ask for, one after the other, for as long as it is polled.
    pub(crate) async fn listen(self, requests: ReloadRequests, lifecycle: Lifecycle) {
        loop {
            let wanted = requests.next().await;
            let is_stopping = lifecycle.phase() >= Phase::Draining;
            match wanted {
                ReloadScope::Configuration if is_stopping => {
                    log::info!("not reloaded: the server is stopping");
                }
                // What went wrong is in the log.
                ReloadScope::Configuration => drop(self.reload().await),
                ReloadScope::Redirects => drop(self.reload_redirects().await),
            }
        }
    }

    /// The configuration in effect: of knobs that need a restart the value since the start.
    pub(crate) fn config(&self) -> Config {
        self.inner.current.lock().config.clone()
    }

    /// The limits in effect.
    pub(crate) fn limits(&self) -> ResolvedLimits {
        self.inner.current.lock().limits
    }

    /// What came of reloading the configuration.
    pub(crate) fn counts(&self) -> Reloads {
        let ReloadCounts { done, failed, last_success } = &self.inner.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reloads { done: load(done), failed: load(failed), last_success: load(last_success) }
    }

    /// Reads the configuration again and puts into effect what needs no restart. Once it returns, every request that comes
    /// is answered accordingly. The log hears what has changed, what waits for a restart, and every error.
    ///
    /// # Errors
    /// All that is wrong with the new configuration; the old one stays in effect whole.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ConfigErrors> {
        let _turn = self.inner.turn.lock().await;
        service_manager::reloading();
        let outcome = self.read_and_apply().await;
        service_manager::ready();
        self.inner.counts.note(outcome.is_ok());
        if let Err(errors) = &outcome {
            tell(errors, "the configuration");
        }
        outcome
    }

    /// Reads the redirects again, as [`reload`](Self::reload) does.
    ///
    /// # Errors
    /// Every line that is wrong; the old ones stay in effect.
    pub(crate) async fn reload_redirects(&self) -> Result<(), ConfigErrors> {
        let _turn = self.inner.turn.lock().await;
        let before = self.current();
        let root = before.config.site.root.clone();
        let read = self.blocking(move || redirects_of(&root)).await;
        let redirects = read.inspect_err(|errors| tell(errors, "what _redirects says"))?;
        if redirects != before.served.manners.redirects {
            log::info!("the redirects of {} are others", before.config.site.root);
            let manners = SiteSettings { redirects, ..before.served.manners.clone() };
            let served = WorkerView { manners, ..before.served.clone() };
            self.put_into_effect(ConfigInEffect { served, ..before }).await;
        }
        Ok(())
    }

    /// Reads the certificates again whenever their files are others, for as long as it is polled. Files are taken as they are once
    /// two looks have found the same: somebody may be about to write the second one.
    pub(crate) async fn watch_certificates(self) {
        let Some(tls) = &self.inner.tls else { return };
        let mut seen = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let turn = self.inner.turn.lock().await;
            let config = self.config();
            let found = self.inner.disk.run(move || CertificateFiles::read(&config)).await;
            let Ok(found) = found else { continue };
            let fingerprint = CertificateFiles::fingerprint(&found);
            let is_new = fingerprint.is_some() && fingerprint != *self.inner.judged.lock();
            if is_new && fingerprint == seen {
                self.judge(tls, found).await;
            }
            seen = fingerprint;
            drop(turn);
        }
    }

    async fn judge(&self, tls: &Tls, found: Result<Option<CertificateFiles>, Vec<ConfigError>>) {
        *self.inner.judged.lock() = CertificateFiles::fingerprint(&found);
        let read = || found?.map(CertificateFiles::into_certificates).transpose();
        match self.blocking(move || read().map_err(ConfigErrors::from)).await {
            Ok(None) => {}
            Ok(Some(certificates)) => put_certificates(tls, certificates),
            Err(errors) => {
                tls.count_bad_certificates();
                tell(&errors, CERTIFICATES);
            }
        }
    }

    async fn read_and_apply(&self) -> Result<Reloaded, ConfigErrors> {
        let before = self.current();
        let (given, root) = (self.inner.given.clone(), before.config.site.root.clone());
        let loaded = self.blocking(move || read_all(&given, &root)).await?;
        let certificates = self.read_certificates(&loaded.config).await?;
        let change = ConfigChange::between(&before.config, loaded.config.clone());
        let limits = settle_beside(&before.limits, &change.config, &self.inner.given.facts)?;
        let log = self.inner.access_log.clone();
        let (old, new) = (before.config.clone(), change.config.clone());
        let prepared = self
            .blocking(move || {
                log.prepare(&old, &new, old.site.root.as_path()).map_err(|error| conflict(&error))
            })
            .await?;
        self.inner.access_log.apply(&change.config, prepared).map_err(|error| conflict(&error))?;
        let news = news(&change, &before, &loaded);
        if let (Some(tls), Some(certificates)) = (&self.inner.tls, certificates) {
            put_certificates(tls, certificates);
        }
        let served = before.served.changed(&change.config, &limits, &loaded);
        let postponed: Vec<PendingRestart> =
            change.postponed.iter().map(|knob| PendingRestart::new(knob, &loaded, &before)).collect();
        let mut origins = loaded.origins.clone();
        for knob in &change.postponed {
            origins.set(knob.key, before.origins.of(knob.key).clone());
        }
        let config = change.config.clone();
        let next = ConfigInEffect { config, origins, postponed: postponed.clone(), limits, served };
        self.put_into_effect(next).await;
        if !logger::is_same(&change.config, &before.config) {
            logger::change(&change.config);
        }
        log::info!("reloaded {news}");
        for PendingRestart { key, origin, value, until_then } in &postponed {
            log::warn!("{key} = {value} ({origin}) needs a restart: until then it stays {until_then}");
        }
        Ok(Reloaded { news, postponed })
    }

    /// The certificates that `config` names.
    async fn read_certificates(&self, config: &Config) -> Result<Option<Certificates>, ConfigErrors> {
        let config = config.clone();
        let read = move || {
            let found = CertificateFiles::read(&config);
            let fingerprint = CertificateFiles::fingerprint(&found);
            let parse = || found?.map(CertificateFiles::into_certificates).transpose();
            Ok((fingerprint, parse().map_err(ConfigErrors::from)))
        };
        let (fingerprint, certificates) = self.blocking(read).await?;
        if fingerprint.is_some() {
            *self.inner.judged.lock() = fingerprint;
        }
        if certificates.is_err() {
            self.inner.tls.iter().for_each(Tls::count_bad_certificates);
        }
        certificates
    }

    async fn put_into_effect(&self, next: ConfigInEffect) {
        let inner = &self.inner;
        inner.guard.apply(&next.config);
        inner.guard.connections().set_max(next.limits.max_connections);
        inner.warmth.follow(next.served.files.clone(), next.config.site.dotfiles);
        let (done, mut all_done) = mpsc::unbounded_channel();
        for worker in &inner.workers {
            // A worker that has ended serves nobody.
            let _ = worker.send(WorkerUpdate { served: next.served.clone(), done: done.clone() });
        }
        *inner.current.lock() = next;
        drop(done);
        let _: Option<()> = all_done.recv().await;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, ConfigErrors> + Send + 'static,
    ) -> Result<T, ConfigErrors> {
        // A panic has been logged by its hook.
        let panicked = |_| Err(ConfigError::Conflict("it could not be read".to_owned()).into());
        self.inner.disk.run(job).await.unwrap_or_else(panicked)
    }

    /// What is in effect.
    pub(crate) fn current(&self) -> ConfigInEffect {
        self.inner.current.lock().clone()
    }
}

impl PendingRestart {
    fn new(knob: &Setting, loaded: &LoadedConfig, before: &ConfigInEffect) -> Self {
        Self {
            key: knob.key,
            origin: loaded.origins.of(knob.key).to_string(),
            value: knob.value(&loaded.config),
            until_then: knob.value(&before.config),
        }
    }
}

impl WorkerView {
    /// What `config` and `limits` say now.
    fn changed(&self, config: &Config, limits: &ResolvedLimits, loaded: &LoadedConfig) -> Self {
        let redirects = Arc::clone(&loaded.redirects);
        let files = self.files.changed(&FileSettings::of(config, limits), Rules::new(config));
        let manners = self.manners.changed(config, limits, &files, redirects, &loaded.access);
        Self { files, manners, bounds: ConnectionSettings::of(config), noting: RequestLogOptions::of(config) }
    }
}

/// Reads everything; the redirects are those of `root`, which stays the one that is served. Blocks.
fn read_all(given: &ProcessInputs, root: &RootPath) -> Result<LoadedConfig, ConfigErrors> {
    let loaded = given.load(&RegularFiles)?;
    if loaded.config.site.root == *root {
        return Ok(loaded);
    }
    Ok(LoadedConfig { redirects: redirects_of(root)?, ..loaded })
}

fn conflict(error: &std::io::Error) -> ConfigErrors {
    ConfigError::Conflict(error.to_string()).into()
}

fn redirects_of(root: &RootPath) -> Result<Arc<Redirects>, ConfigErrors> {
    read_redirects(root.as_path(), &RegularFiles).map_err(ConfigErrors::from)
}

/// Settles what may change beside what was settled at start and can't: the handles are as many as they are.
fn settle_beside(
    before: &ResolvedLimits,
    config: &Config,
    facts: &SystemFacts,
) -> Result<ResolvedLimits, ConfigErrors> {
    let handles = Auto::Given(Count::of(before.handles as u64));
    let mut config = config.clone();
    Arc::make_mut(&mut config.open_files).handles = handles;
    settle(&config, facts).map_err(|mut errors| {
        errors.push(ConfigError::Conflict(format!(
            "that would hold after a restart, but not beside what stays until then, as the {handles} handles do"
        )));
        ConfigErrors::from(errors)
    })
}

/// What a reload brings, in words.
fn news(change: &ConfigChange, before: &ConfigInEffect, loaded: &LoadedConfig) -> String {
    let mut news = change.describe(&before.config);
    if loaded.redirects != before.served.manners.redirects {
        news.push_str(if news.is_empty() { "redirects" } else { ", redirects" });
    }
    if !before.served.manners.access.is_by(&loaded.access) {
        news.push_str(if news.is_empty() {
            "keys, tokens or passwords"
        } else {
            ", keys, tokens or passwords"
        });
    }
    if news.is_empty() {
        news.push_str("nothing has changed");
    }
    match &loaded.file {
        Some(file) => format!("{}: {news}", file.display()),
        None => format!("the redirects, no configuration file being named: {news}"),
    }
}

fn put_certificates(tls: &Tls, certificates: Certificates) {
    if certificates.fingerprint() != tls.certificates().fingerprint() {
        let names: Vec<String> = certificates.expiries().map(|(name, _)| name).collect();
        log::info!("the certificates are others: {}", names.join(", "));
        tls.replace(certificates);
    }
}

/// Certificates are looked at so often, whole: their dates do not tell all changes, and they are short.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const CERTIFICATES: &str = "the set of certificates";

fn tell(errors: &ConfigErrors, what: &str) {
    for error in errors.as_slice() {
        log::error!("{error}");
    }
    log::error!("not reloaded: {what} stays as it was");
}
