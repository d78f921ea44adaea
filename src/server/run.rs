//! Listeners, workers, the App: from start to stop.
//!
//! | room      | what happens there                                                  |
//! |-----------|---------------------------------------------------------------------|
//! | `workers` | threads that serve, from their start to their end                   |

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::System;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::actions::OperatorActions;
use crate::admin::authorize::AdminAuth;
use crate::admin::health::Health;
use crate::admin::listener::{Admin, AdminContext};
use crate::admin::readings::{AdminSlotCounts, Gauges};
use crate::auth::access::Authenticator;
use crate::config::policy::rules::Rules;
use crate::config::{ConfigError, LoadedConfig, ProcessInputs};
use crate::files::storage::{self, Storage};
use crate::files::{FileSettings, Files, Root};
pub use crate::lifecycle::handover::Listeners;
use crate::lifecycle::handover::{
    ActivatedSockets, Predecessor, SocketOffer, Successor, UpgradePath, UpgradeSocket, came_to_nothing,
};
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::reload::{ConfigInEffect, ReloadRequests, Reloader, WorkerUpdate, WorkerView};
use crate::lifecycle::warmup::progress::Warmup;
use crate::lifecycle::warmup::restore::WarmupState;
use crate::limits::client_limits::Limits;
use crate::net::listener::{BoundAddress, SocketOrigin};
use crate::net::request_log::RequestLogOptions;
use crate::net::tls::certificates::Certificates;
use crate::net::tls::config::Tls;
use crate::net::worker::ConnectionSettings;
use crate::server::workers::{WorkerPlan, Workers};
use crate::site::handler::SiteSettings;
use crate::sys::service_manager::{self, Watchdog};
use crate::telemetry::access_log::log::AccessLog;
use crate::telemetry::logger;
use crate::telemetry::metrics::registry::Metrics;

/// Serves until a signal says to stop: the program's main job.
///
/// Exit code 0 when every response was finished, 1 when some were cut or the server could not start.
///
/// On SIGHUP it loads again what it was `given`.
pub fn run(loaded: &LoadedConfig, given: ProcessInputs) -> ExitCode {
    let LoadedConfig { config, limits, .. } = loaded;
    logger::start(config);
    // Before there are threads: it changes the environment.
    let outcome = ActivatedSockets::take(config).and_then(|activated| {
        System::new().block_on(async {
            let signals = Signals::of_the_process()?;
            let listeners = Listeners::gather(loaded, activated).await?;
            let limits = limits.with_sockets(listeners.sockets(), config).map_err(io::Error::other)?;
            let loaded = LoadedConfig { limits, ..loaded.clone() };
            serve(&loaded, given, listeners, signals, Arc::new(storage::SystemStorage)).await
        })
    });
    match outcome {
        Ok(ServerExit { cut: 0 }) => ExitCode::SUCCESS,
        Ok(ServerExit { cut }) => {
            log::error!("stopped with {} cut", counted(cut, "response"));
            ExitCode::FAILURE
        }
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How a server ended.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerExit {
    /// Responses that were under way and did not finish.
    pub cut: usize,
}

/// What a server is told while it runs.
pub struct Signals {
    /// To stop; a second word ends at once.
    pub stops: mpsc::UnboundedReceiver<()>,
    /// To read the configuration again.
    pub reloads: ReloadRequests,
}

/// Serves on `listeners` until a signal says to stop, or a successor has taken over. On a reload what was `given` is read
/// again. Files come from `storage`. Runs on an actix `System`.
///
/// # Errors
/// Where the root, a thread or a socket is not to be had.
pub async fn serve(
    loaded: &LoadedConfig,
    given: ProcessInputs,
    listeners: Listeners,
    signals: Signals,
    storage: Arc<dyn Storage>,
) -> io::Result<ServerExit> {
    let has_tls = listeners.has_tls();
    let Listeners { traffic, admin, mut predecessor, upgrade } = listeners;
    let Signals { mut stops, reloads } = signals;
    let watchdog = Watchdog::find(predecessor.as_ref().and_then(|predecessor| predecessor.watchdog));
    let offer = SocketOffer::of(&traffic, admin.as_ref(), watchdog.as_ref().map(Watchdog::timeout));
    let is_successor = predecessor.is_some();
    let house = Components::build(loaded, given, storage, watchdog.as_ref(), is_successor).await?;
    let Components { plan, memory, reloader, orders, desk, access_log } = house;
    // Until all who write to it have ended.
    let access_log = FlushLogOnDrop(access_log);
    if has_tls && plan.tls.is_none() {
        return Err(io::Error::other(NO_CERTIFICATE));
    }
    let (files, lifecycle) = (plan.served.files.clone(), plan.lifecycle.clone());
    let start_admin = |admin: Option<&BoundAddress>| admin.map(|bound| start_admin(bound, &desk)).transpose();
    // Until a successor is ready its predecessor answers, to questions about health too.
    let mut admin_server = if is_successor { None } else { start_admin(admin.as_ref())? };
    let mut tasks = Tasks(vec![
        actix_rt::spawn(keep_house(files, reloads.clone())),
        actix_rt::spawn(keep_log(access_log.0.clone(), reloads.clone())),
        actix_rt::spawn({
            let guard = plan.guard.clone();
            async move { guard.share_bandwidth().await }
        }),
    ]);
    let workers = Workers::start(&plan, orders, &traffic).await?;
    let is_warm = or_urgent(warmed(&memory, &lifecycle, predecessor.as_mut()), &mut stops).await.is_some();
    drop(traffic);
    if !is_warm {
        // Stopped while warming: what was remembered stays.
        drop(admin);
        offer.end();
        let cut = match is_successor {
            true => workers.give_up(),
            false => {
                service_manager::stopping();
                workers.stop(&reloader.config(), &lifecycle, &mut stops).await
            }
        };
        if let Some(admin) = admin_server {
            admin.stop();
        }
        return Ok(ServerExit { cut });
    }
    lifecycle.advance(Phase::Ready);
    if is_successor {
        admin_server = start_admin(admin.as_ref())?;
    }
    drop(admin);
    let who = counted(loaded.limits.workers, "worker");
    let upgrade = take_office(predecessor, upgrade).await?;
    log::info!("ready: {who} from {}", loaded.config.site.root);
    service_manager::status(&format!("Serving {} by {who}", loaded.config.site.root));
    tasks.0.extend(watchdog.map(|watchdog| actix_rt::spawn(watchdog.feed())));
    tasks.0.push(actix_rt::spawn(reloader.clone().listen(reloads, lifecycle.clone())));
    tasks.0.push(actix_rt::spawn(reloader.clone().watch_certificates()));

    let successor = tokio::select! {
        _ = stops.recv() => None,
        successor = let_in(&offer, upgrade.as_ref(), &memory) => Some(successor),
    };
    // What is hot is known best before clients go elsewhere.
    let remembering = successor.is_none().then(|| actix_rt::spawn(memory.remember_in_time()));
    let cut = match &successor {
        None => {
            // What is offered would stay open.
            offer.end();
            service_manager::stopping();
            workers.stop(&reloader.config(), &lifecycle, &mut stops).await
        }
        Some(successor) => {
            drop(offer);
            log::info!("{} has taken over", successor.who());
            if let Some(admin) = &admin_server {
                admin.close();
            }
            workers.retire(&reloader.config(), &lifecycle, &mut stops).await
        }
    };
    if let Some(remembering) = remembering {
        let _ = remembering.await;
    }
    drop(tasks);
    if let Some(admin) = admin_server {
        admin.stop();
    }
    if let Some(successor) = successor {
        successor.gone().await;
    }
    Ok(ServerExit { cut })
}

/// All that stands before there are workers.
struct Components {
    plan: WorkerPlan,
    memory: WarmupState,
    reloader: Reloader,
    /// For each worker, what it serves with from then on.
    orders: Vec<mpsc::UnboundedReceiver<WorkerUpdate>>,
    desk: AdminContext,
    access_log: AccessLog,
}

impl Components {
    async fn build(
        loaded: &LoadedConfig,
        given: ProcessInputs,
        storage: Arc<dyn Storage>,
        watchdog: Option<&Watchdog>,
        is_successor: bool,
    ) -> io::Result<Self> {
        let LoadedConfig { config, limits, redirects, access, .. } = loaded;
        let entry = AdminAuth::new(config);
        let certificates = Certificates::load(config).map_err(all_wrong)?;
        let tls = certificates.map(|certificates| Tls::new(config, certificates)).transpose()?;
        let root = Root::open_on(storage, config.site.root.as_path(), config.site.symlinks)?;
        let rules = Rules::new(config);
        let files = Files::new(root, &FileSettings::of(config, limits), Arc::clone(&rules))?;
        files.try_probe().await;
        log::info!("memory: {} MiB {}", limits.memory_bytes >> 20, limits.memory_source);
        let (lifecycle, guard) = (Lifecycle::new(), Limits::new(config, limits));
        let access_log = AccessLog::start(config)?;
        let warmth = Warmup::new(files.clone(), config, limits);
        let access = Authenticator::new(config, access)?;
        let manners = SiteSettings::of(config, limits, &files, rules, Arc::clone(redirects), &guard, access)?;
        let health = Health::new(lifecycle.clone(), files.clone()).telling(warmth.progress());
        let plan = WorkerPlan {
            served: WorkerView {
                files,
                manners,
                bounds: ConnectionSettings::of(config),
                noting: RequestLogOptions::of(config),
            },
            guard: guard.clone(),
            ledger: Metrics::writing(Arc::new(access_log.clone())),
            tls: tls.clone(),
            health: health.clone(),
            watchdog: watchdog.cloned(),
            accepts_from: if is_successor { Phase::Ready } else { Phase::Starting },
            lifecycle,
        };
        let (told, orders) = (0..limits.workers).map(|_| mpsc::unbounded_channel()).unzip();
        let current = ConfigInEffect {
            config: config.clone(),
            origins: loaded.origins.clone(),
            postponed: Vec::new(),
            limits: *limits,
            served: plan.served.clone(),
        };
        let reloader = Reloader::new(given, current, guard, warmth.clone(), tls, access_log.clone(), told)?;
        let memory = WarmupState::open(config, warmth.clone())?;
        let gauges = Gauges {
            started: Instant::now(),
            lifecycle: plan.lifecycle.clone(),
            entry: entry.clone(),
            files: plan.served.files.clone(),
            guard: plan.guard.clone(),
            access: plan.served.manners.access.clone(),
            gate: plan.served.manners.gate.clone(),
            directories: plan.served.manners.directories.clone(),
            progress: Arc::clone(warmth.progress()),
            ledger: plan.ledger.clone(),
            access_log: access_log.clone(),
            tls: plan.tls.clone(),
            reloader: reloader.clone(),
            admin: AdminSlotCounts::new(limits.admin_connections),
            is_successor,
        };
        let lifecycle = plan.lifecycle.clone();
        let operators = OperatorActions { lifecycle, reloader: reloader.clone(), warmth: warmth.clone() };
        let desk = AdminContext { entry, health, gauges, warmth, operators };
        Ok(Self { plan, memory, reloader, orders, desk, access_log })
    }
}

/// What goes on beside the workers, until it is dropped.
struct Tasks(Vec<actix_rt::task::JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(actix_rt::task::JoinHandle::abort);
    }
}

fn start_admin(bound: &BoundAddress, desk: &AdminContext) -> io::Result<Admin> {
    log::info!("{}admin on {}", from_whom(bound.origin), bound.url);
    let listener = bound.listeners.first().cloned().ok_or(io::ErrorKind::NotFound)?;
    Admin::start(listener, desk.clone())
}

/// Reads what was hot before, for as long as there is a predecessor to serve meanwhile, where there was one.
async fn warmed(memory: &WarmupState, lifecycle: &Lifecycle, predecessor: Option<&mut Predecessor>) {
    let Some(predecessor) = predecessor else { return memory.recall(lifecycle).await };
    tokio::select! {
        () = memory.recall(lifecycle) => {}
        () = predecessor.gone() => {
            log::warn!("{} is gone before this server is warm: serving all the same", predecessor.who());
        }
    }
}

/// Relieves the predecessor, if there is one, takes the place where a successor asks, and tells the service manager.
async fn take_office(
    predecessor: Option<Predecessor>,
    upgrade: Option<UpgradePath>,
) -> io::Result<Option<UpgradeSocket>> {
    let Some(mut predecessor) = predecessor else {
        let upgrade = upgrade.map(UpgradePath::settle).transpose()?;
        service_manager::ready();
        return Ok(upgrade);
    };
    match predecessor.relieve().await {
        Ok(()) => log::info!("taken over from {}", predecessor.who()),
        Err(error) => log::warn!("taken over from {}, but: {error}", predecessor.who()),
    }
    service_manager::succeed();
    // There is no way back: the site is served, though no further successor can ask.
    Ok(upgrade.and_then(|place| {
        place
            .settle()
            .inspect_err(|error| log::error!("the upgrade socket can't take its path: {error}"))
            .ok()
    }))
}

/// The next successor, which finds what is hot now, once it is let in; none ever comes where there is nowhere to ask.
async fn let_in(offer: &SocketOffer, upgrade: Option<&UpgradeSocket>, memory: &WarmupState) -> Successor {
    let Some(socket) = upgrade else { return std::future::pending().await };
    loop {
        let prepare = async || memory.clone().remember_in_time().await;
        let successor = offer.awaited_at(socket, prepare).await;
        service_manager::set_silent(true);
        match offer.let_in(&successor).await {
            Ok(()) => return successor,
            Err(error) => {
                service_manager::set_silent(false);
                came_to_nothing(&error);
            }
        }
    }
}

pub(crate) fn from_whom(origin: SocketOrigin) -> &'static str {
    match origin {
        SocketOrigin::Here => "",
        SocketOrigin::Manager => "inherited: ",
        SocketOrigin::Predecessor => "taken over: ",
    }
}

/// What is done once a second, what inotify tells, and what is to be done about a root that is another one now.
async fn keep_house(files: Files, reloads: ReloadRequests) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let maintaining = async {
        loop {
            ticks.tick().await;
            files.maintain().await;
        }
    };
    let looking = async {
        loop {
            tokio::time::sleep(files.root_check_after()).await;
            if files.check_root().await {
                reloads.ask_for_redirects();
            }
        }
    };
    tokio::join!(files.listen(), maintaining, looking);
}

/// What the access log is asked for, and what the diagnostics hear of it.
async fn keep_log(access_log: AccessLog, reloads: ReloadRequests) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let telling = async {
        loop {
            ticks.tick().await;
            access_log.tell_losses(Instant::now());
        }
    };
    let reopening = async {
        loop {
            reloads.reopening().await;
            access_log.reopen();
        }
    };
    tokio::join!(telling, reopening);
}

/// What is left in the access log is written when this is dropped.
struct FlushLogOnDrop(AccessLog);

impl Drop for FlushLogOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The outcome of `waited`, or none when another word to stop comes first.
pub(crate) async fn or_urgent<T>(
    waited: impl Future<Output = T>,
    stops: &mut mpsc::UnboundedReceiver<()>,
) -> Option<T> {
    tokio::select! {
        outcome = waited => Some(outcome),
        Some(()) = stops.recv() => None,
    }
}

impl Signals {
    /// SIGTERM and SIGINT say to stop, SIGHUP to read the configuration again, SIGUSR1 to open the access log anew.
    fn of_the_process() -> io::Result<Self> {
        let (stop, stops) = mpsc::unbounded_channel();
        let reloads = ReloadRequests::default();
        let mut hangups = signal(SignalKind::hangup())?;
        let asked = reloads.clone();
        actix_rt::spawn(async move {
            while hangups.recv().await.is_some() {
                asked.ask();
            }
        });
        let mut renamed = signal(SignalKind::user_defined1())?;
        let asked = reloads.clone();
        actix_rt::spawn(async move {
            while renamed.recv().await.is_some() {
                asked.ask_to_reopen();
            }
        });
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let mut signals = signal(kind)?;
            let stop = stop.clone();
            actix_rt::spawn(async move { while signals.recv().await.is_some() && stop.send(()).is_ok() {} });
        }
        Ok(Self { stops, reloads })
    }
}

/// The last of what is wrong as an error, all before it in the log.
fn all_wrong(errors: Vec<ConfigError>) -> io::Error {
    let mut errors = errors;
    let last = errors.pop();
    for error in errors {
        log::error!("{error}");
    }
    last.map_or_else(|| io::ErrorKind::Other.into(), io::Error::other)
}

const NO_CERTIFICATE: &str = "TLS is to be spoken on an inherited socket, and there is no certificate: give PAGECAST_TLS_CERT \
    and PAGECAST_TLS_KEY";

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
