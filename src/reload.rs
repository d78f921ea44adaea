//! Settings that change while the server runs: the configuration is read again, and what can be changed is.
//!
//! A configuration with a mistake is refused whole. One that is accepted becomes a new `Served` for every worker: requests
//! under way finish with the one that they began with, and the next request of every connection sees the new one.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::config::change::Change;
use crate::config::{
    Auto, Config, ConfigError, ConfigErrors, Count, Given, Limits, Loaded, RegularFiles, RootPath,
    SystemFacts, read_redirects, settle,
};
use crate::files::disk::Disk;
use crate::files::{Files, Settings};
use crate::guard::Guard;
use crate::http::redirects::Redirects;
use crate::lifecycle::{Lifecycle, Phase};
use crate::ops::logger;
use crate::ops::service;
use crate::rules::Rules;
use crate::serve::Manners;
use crate::tls::Tls;
use crate::tls::certificates::{Certificates, Found};
use crate::warmth::Warmth;
use crate::wire::worker::Bounds;

/// Who asks for a reload leaves word here. What is asked for twice before it is begun is done once.
#[derive(Clone, Default)]
pub struct ReloadRequests {
    inner: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    configuration: Notify,
    redirects: Notify,
}

/// What is to be read again.
enum Wanted {
    Configuration,
    Redirects,
}

/// What a worker serves with.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) files: Files,
    pub(crate) manners: Manners,
    pub(crate) bounds: Bounds,
}

/// For a worker: what it serves with from now on.
pub(crate) struct Order {
    pub(crate) served: Served,
    /// Dropped once that is so.
    pub(crate) done: mpsc::UnboundedSender<()>,
}

/// Reads the configuration again. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct Reloader {
    inner: Arc<Inner>,
}

struct Inner {
    given: Given,
    /// Apart from the other pools: a file system that hangs holds up the reload alone.
    disk: Disk,
    guard: Guard,
    warmth: Warmth,
    tls: Option<Tls>,
    /// The files of certificates that were looked into last, whatever came of it.
    judged: Mutex<Option<[u8; 32]>>,
    workers: Vec<mpsc::UnboundedSender<Order>>,
    turn: tokio::sync::Mutex<()>,
    current: Mutex<Current>,
}

/// What is in effect.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) served: Served,
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

    async fn next(&self) -> Wanted {
        tokio::select! {
            biased;
            () = self.inner.configuration.notified() => Wanted::Configuration,
            () = self.inner.redirects.notified() => Wanted::Redirects,
        }
    }
}

impl Reloader {
    /// Reloads what was loaded from `given` and is in effect as `current`.
    ///
    /// # Errors
    /// Where threads can't be started.
    pub(crate) fn new(
        given: Given,
        current: Current,
        guard: Guard,
        warmth: Warmth,
        tls: Option<Tls>,
        workers: Vec<mpsc::UnboundedSender<Order>>,
    ) -> std::io::Result<Self> {
        let disk = Disk::new("pagecast-load", 1, 0)?;
        let (turn, current) = (tokio::sync::Mutex::default(), Mutex::new(current));
        let judged = Mutex::new(tls.as_ref().map(|tls| tls.certificates().fingerprint()));
        let inner = Inner { given, disk, guard, warmth, tls, judged, workers, turn, current };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does what `requests` ask for, one after the other, for as long as it is polled.
    pub(crate) async fn listen(self, requests: ReloadRequests, lifecycle: Lifecycle) {
        loop {
            let wanted = requests.next().await;
            let is_stopping = lifecycle.phase() >= Phase::Draining;
            match wanted {
                Wanted::Configuration if is_stopping => {
                    log::info!("not reloaded: the server is stopping");
                }
                // What went wrong is in the log.
                Wanted::Configuration => drop(self.reload().await),
                Wanted::Redirects => drop(self.reload_redirects().await),
            }
        }
    }

    /// The configuration in effect: of knobs that need a restart the value since the start.
    pub(crate) fn config(&self) -> Config {
        self.inner.current.lock().config.clone()
    }

    /// Reads the configuration again and puts into effect what needs no restart. Once it returns, every request that comes
    /// is answered accordingly. The log hears what has changed, what waits for a restart, and every error.
    ///
    /// # Errors
    /// All that is wrong with the new configuration; the old one stays in effect whole.
    pub(crate) async fn reload(&self) -> Result<(), ConfigErrors> {
        let _turn = self.inner.turn.lock().await;
        service::reloading();
        let outcome = self.read_and_apply().await;
        service::ready();
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
        let root = before.config.root.clone();
        let read = self.blocking(move || redirects_of(&root)).await;
        let redirects = read.inspect_err(|errors| tell(errors, "what _redirects says"))?;
        if redirects != before.served.manners.redirects {
            log::info!("the redirects of {} are others", before.config.root);
            let manners = Manners { redirects, ..before.served.manners.clone() };
            let served = Served { manners, ..before.served.clone() };
            self.put_into_effect(Current { served, ..before }).await;
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
            let found = self.inner.disk.run(move || Found::read(&config)).await;
            let Ok(found) = found else { continue };
            let fingerprint = Found::fingerprint(&found);
            let is_new = fingerprint.is_some() && fingerprint != *self.inner.judged.lock();
            if is_new && fingerprint == seen {
                self.judge(tls, found).await;
            }
            seen = fingerprint;
            drop(turn);
        }
    }

    async fn judge(&self, tls: &Tls, found: Result<Option<Found>, Vec<ConfigError>>) {
        *self.inner.judged.lock() = Found::fingerprint(&found);
        let read = || found?.map(Found::into_certificates).transpose();
        match self.blocking(move || read().map_err(ConfigErrors::from)).await {
            Ok(None) => {}
            Ok(Some(certificates)) => put_certificates(tls, certificates),
            Err(errors) => {
                tls.count_bad_certificates();
                tell(&errors, CERTIFICATES);
            }
        }
    }

    async fn read_and_apply(&self) -> Result<(), ConfigErrors> {
        let before = self.current();
        let (given, root) = (self.inner.given.clone(), before.config.root.clone());
        let loaded = self.blocking(move || read_all(&given, &root)).await?;
        let certificates = self.read_certificates(&loaded.config).await?;
        let change = Change::between(&before.config, loaded.config.clone());
        let limits = settle_beside(&before.limits, &change.config, &self.inner.given.facts)?;
        let news = news(&change, &before, &loaded);
        if let (Some(tls), Some(certificates)) = (&self.inner.tls, certificates) {
            put_certificates(tls, certificates);
        }
        let served = before.served.changed(&change.config, &limits, Arc::clone(&loaded.redirects));
        self.put_into_effect(Current { config: change.config.clone(), limits, served }).await;
        if change.config.log != before.config.log {
            logger::change(&change.config.log);
        }
        log::info!("reloaded {news}");
        for knob in &change.postponed {
            let (read, stays) = (knob.value(&loaded.config), knob.value(&before.config));
            let origin = loaded.origins.of(knob.key);
            log::warn!("{} = {read} ({origin}) needs a restart: until then it stays {stays}", knob.key);
        }
        Ok(())
    }

    /// The certificates that `config` names.
    async fn read_certificates(&self, config: &Config) -> Result<Option<Certificates>, ConfigErrors> {
        let config = config.clone();
        let read = move || {
            let found = Found::read(&config);
            let fingerprint = Found::fingerprint(&found);
            let parse = || found?.map(Found::into_certificates).transpose();
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

    async fn put_into_effect(&self, next: Current) {
        let inner = &self.inner;
        inner.guard.apply(&next.config);
        inner.guard.connections().set_max(next.limits.max_connections);
        inner.warmth.follow(next.served.files.clone(), next.config.dotfiles);
        let (done, mut all_done) = mpsc::unbounded_channel();
        for worker in &inner.workers {
            // A worker that has ended serves nobody.
            let _ = worker.send(Order { served: next.served.clone(), done: done.clone() });
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

    fn current(&self) -> Current {
        self.inner.current.lock().clone()
    }
}

impl Served {
    /// What `config` and `limits` say now.
    fn changed(&self, config: &Config, limits: &Limits, redirects: Arc<Redirects>) -> Self {
        let files = self.files.changed(&Settings::of(config, limits), Rules::new(config));
        let manners = self.manners.changed(config, limits, &files, redirects);
        Self { files, manners, bounds: Bounds::of(config) }
    }
}

/// Reads everything; the redirects are those of `root`, which stays the one that is served. Blocks.
fn read_all(given: &Given, root: &RootPath) -> Result<Loaded, ConfigErrors> {
    let loaded = given.load(&RegularFiles)?;
    if loaded.config.root == *root {
        return Ok(loaded);
    }
    Ok(Loaded { redirects: redirects_of(root)?, ..loaded })
}

fn redirects_of(root: &RootPath) -> Result<Arc<Redirects>, ConfigErrors> {
    read_redirects(root.as_path(), &RegularFiles).map_err(ConfigErrors::from)
}

/// Settles what may change beside what was settled at start and can't: the handles are as many as they are.
fn settle_beside(before: &Limits, config: &Config, facts: &SystemFacts) -> Result<Limits, ConfigErrors> {
    let handles = Auto::Given(Count::of(before.handles as u64));
    settle(&Config { handles, ..config.clone() }, facts).map_err(|mut errors| {
        errors.push(ConfigError::Conflict(format!(
            "that would hold after a restart, but not beside what stays until then, as the {handles} handles do"
        )));
        ConfigErrors::from(errors)
    })
}

/// What a reload brings, in words.
fn news(change: &Change, before: &Current, loaded: &Loaded) -> String {
    let mut news = change.describe(&before.config);
    if loaded.redirects != before.served.manners.redirects {
        news.push_str(if news.is_empty() { "redirects" } else { ", redirects" });
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
