//! Listeners, workers, the App: from start to stop.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_rt::{Arbiter, System};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::{App, Error};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::accept::accept;
use crate::config::{Config, Limits, Loaded};
use crate::files::{Files, Root, Settings};
use crate::guard::Guard;
use crate::guard::connections::Connections;
pub use crate::handover::Listeners;
use crate::handover::{Activated, Offer, Predecessor, Successor, UpgradePlace, UpgradeSocket};
use crate::http::redirects::Redirects;
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::{Bound, Listener, Origin, deal};
use crate::ops::admin::Admin;
use crate::ops::health::Health;
use crate::ops::service::{self, Watchdog};
use crate::rules::Rules;
use crate::serve::{Manners, Site};
use crate::wire::worker::{Bounds, Worker};

/// Serves until a signal says to stop: the program's main job.
///
/// Exit code 0 when every response was finished, 1 when some were cut or the server could not start.
pub fn run(loaded: &Loaded) -> ExitCode {
    let Loaded { config, limits, redirects, .. } = loaded;
    init_log(config);
    // Before there are threads: it changes the environment.
    let outcome = Activated::take(config).and_then(|activated| {
        System::new().block_on(async {
            let (stop, stops) = mpsc::unbounded_channel();
            pass_signals_on(stop)?;
            let listeners = Listeners::gather(loaded, activated).await?;
            let limits = limits.with_sockets(listeners.sockets(), config).map_err(io::Error::other)?;
            serve(config, &limits, redirects, listeners, stops).await
        })
    });
    match outcome {
        Ok(Ended { cut: 0 }) => ExitCode::SUCCESS,
        Ok(Ended { cut }) => {
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
pub struct Ended {
    /// Responses that were under way and did not finish.
    pub cut: usize,
}

/// Serves on `listeners` until `stops` says to stop, or a successor has taken over; a second word ends at once. Runs on an
/// actix `System`.
///
/// # Errors
/// Where the root, a thread or a socket is not to be had.
pub async fn serve(
    config: &Config,
    limits: &Limits,
    redirects: &Arc<Redirects>,
    listeners: Listeners,
    mut stops: mpsc::UnboundedReceiver<()>,
) -> io::Result<Ended> {
    let root = Root::open(config.root.as_path(), config.symlinks)?;
    let rules = Rules::new(config);
    let files = Files::new(root, &Settings::of(config, limits), Arc::clone(&rules))?;
    files.try_probe().await;
    let lifecycle = Lifecycle::new();
    let health = Health::new(lifecycle.clone(), files.clone());
    let Listeners { traffic, admin, predecessor, upgrade } = listeners;
    let watchdog = Watchdog::find(predecessor.as_ref().and_then(|predecessor| predecessor.watchdog));
    let offer = Offer::of(&traffic, admin.as_ref(), watchdog.as_ref().map(Watchdog::timeout));
    let is_successor = predecessor.is_some();
    let start_admin = || admin.as_ref().map(|bound| start_admin(bound, &health)).transpose();
    // Until a successor is ready its predecessor answers, to questions about health too.
    let mut admin_server = if is_successor { None } else { start_admin()? };
    let plan = Plan {
        files: files.clone(),
        manners: Manners::of(config, limits, &files, rules, Arc::clone(redirects))?,
        bounds: bounds(config),
        guard: Guard::new(config),
        health: health.clone(),
        watchdog: watchdog.clone(),
        accepts_from: if is_successor { Phase::Ready } else { Phase::Starting },
        lifecycle: lifecycle.clone(),
        connections: Connections::new(limits.max_connections, limits.refusals),
    };
    let housekeeping = actix_rt::spawn(keep_house(files));
    let workers = Workers::start(&plan, limits.workers, &traffic).await?;
    lifecycle.advance(Phase::Ready);
    if is_successor {
        admin_server = start_admin()?;
    }
    drop((traffic, admin));
    log::info!("ready: {} from {}", counted(limits.workers, "worker"), config.root);
    let upgrade = take_office(predecessor, upgrade).await?;
    service::status(&format!("Serving {} by {}", config.root, counted(limits.workers, "worker")));
    let feeding = watchdog.map(|watchdog| actix_rt::spawn(watchdog.feed()));

    let successor = tokio::select! {
        _ = stops.recv() => None,
        successor = awaited(&offer, upgrade.as_ref()) => Some(successor),
    };
    let cut = match &successor {
        None => {
            // What is offered would stay open.
            drop(offer);
            service::stopping();
            workers.stop(config, &lifecycle, &mut stops).await
        }
        Some(successor) => {
            service::fall_silent();
            offer.let_in(successor).await;
            drop(offer);
            log::info!("{} has taken over", successor.who());
            if let Some(admin) = &admin_server {
                admin.close();
            }
            workers.retire(config, &lifecycle, &mut stops).await
        }
    };
    housekeeping.abort();
    if let Some(feeding) = feeding {
        feeding.abort();
    }
    if let Some(admin) = admin_server {
        admin.stop();
    }
    if let Some(successor) = successor {
        successor.gone().await;
    }
    Ok(Ended { cut })
}

fn start_admin(bound: &Bound, health: &Health) -> io::Result<Admin> {
    log::info!("{}admin on {}", from_whom(bound.origin), bound.url);
    let listener = bound.listeners.first().cloned().ok_or(io::ErrorKind::NotFound)?;
    Admin::start(listener, health.clone())
}

/// Relieves the predecessor, if there is one, takes the place where a successor asks, and tells the service manager.
async fn take_office(
    predecessor: Option<Predecessor>,
    upgrade: Option<UpgradePlace>,
) -> io::Result<Option<UpgradeSocket>> {
    let Some(mut predecessor) = predecessor else {
        let upgrade = upgrade.map(UpgradePlace::settle).transpose()?;
        service::ready();
        return Ok(upgrade);
    };
    match predecessor.relieve().await {
        Ok(()) => log::info!("taken over from {}", predecessor.who()),
        Err(error) => log::warn!("taken over from {}, but: {error}", predecessor.who()),
    }
    service::succeed();
    // There is no way back: the site is served, though no further successor can ask.
    Ok(upgrade.and_then(|place| {
        place
            .settle()
            .inspect_err(|error| log::error!("the upgrade socket can't take its path: {error}"))
            .ok()
    }))
}

/// The next successor; none ever comes where there is nowhere to ask.
async fn awaited(offer: &Offer, upgrade: Option<&UpgradeSocket>) -> Successor {
    match upgrade {
        Some(socket) => offer.awaited_at(socket).await,
        None => std::future::pending().await,
    }
}

fn from_whom(origin: Origin) -> &'static str {
    match origin {
        Origin::Here => "",
        Origin::Manager => "inherited: ",
        Origin::Predecessor => "taken over: ",
    }
}

/// What every worker is given.
#[derive(Clone)]
struct Plan {
    files: Files,
    manners: Manners,
    bounds: Bounds,
    guard: Guard,
    health: Health,
    watchdog: Option<Watchdog>,
    /// A successor leaves what comes before it is ready to its predecessor.
    accepts_from: Phase,
    lifecycle: Lifecycle,
    connections: Connections,
}

struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it is empty or told to end: how many responses it left unfinished.
    unfinished: mpsc::UnboundedReceiver<usize>,
    /// Workers that have reported; their connections had ended.
    finished: usize,
}

impl Workers {
    async fn start(plan: &Plan, count: usize, traffic: &[Bound]) -> io::Result<Self> {
        let (report, unfinished) = mpsc::unbounded_channel();
        let (started, mut starts) = mpsc::unbounded_channel();
        let mut arbiters = Vec::with_capacity(count);
        for listeners in deal(traffic, count) {
            let (plan, report, started) = (plan.clone(), report.clone(), started.clone());
            let arbiter = Arbiter::try_with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build()
            })?;
            arbiter.spawn_fn(move || {
                actix_rt::spawn(async move {
                    let left = work(plan, listeners, started).await;
                    let _ = report.send(left);
                });
            });
            arbiters.push(arbiter);
        }
        drop(started);
        for _ in 0..count {
            starts.recv().await.ok_or_else(|| io::Error::other("a worker did not start"))??;
        }
        for bound in traffic {
            log::info!("{}listening on {}", from_whom(bound.origin), bound.url);
        }
        Ok(Self { arbiters, unfinished, finished: 0 })
    }

    /// Drains, then closes, then ends; returns how many responses were cut.
    async fn stop(
        self,
        config: &Config,
        lifecycle: &Lifecycle,
        stops: &mut mpsc::UnboundedReceiver<()>,
    ) -> usize {
        lifecycle.advance(Phase::Draining);
        log::info!("stopping: serving on for {}, then finishing what is under way", config.drain_delay);
        let is_urgent = or_urgent(tokio::time::sleep(config.drain_delay.get()), stops).await.is_none();
        let timeout = if is_urgent { Duration::ZERO } else { config.shutdown_timeout.get() };
        self.end(timeout, lifecycle, stops).await
    }

    /// Leaves new connections to a successor, keeps the idle ones for the drain delay, then closes and ends; returns how many
    /// responses were cut.
    async fn retire(
        mut self,
        config: &Config,
        lifecycle: &Lifecycle,
        stops: &mut mpsc::UnboundedReceiver<()>,
    ) -> usize {
        lifecycle.advance(Phase::Retiring);
        log::info!(
            "retiring: keeping connections for {}, then finishing what is under way",
            config.drain_delay
        );
        let kept = tokio::time::timeout(config.drain_delay.get(), self.all_finished());
        let _ = or_urgent(kept, stops).await;
        self.end(config.shutdown_timeout.get(), lifecycle, stops).await
    }

    async fn end(
        mut self,
        timeout: Duration,
        lifecycle: &Lifecycle,
        stops: &mut mpsc::UnboundedReceiver<()>,
    ) -> usize {
        lifecycle.advance(Phase::Closing);
        let _ = or_urgent(tokio::time::timeout(timeout, self.all_finished()), stops).await;
        lifecycle.advance(Phase::Ended);
        let mut cut = 0;
        while self.finished < self.arbiters.len() {
            cut += self.unfinished.recv().await.unwrap_or(0);
            self.finished += 1;
        }
        for arbiter in self.arbiters {
            arbiter.stop();
            if arbiter.join().is_err() {
                log::error!("a worker panicked");
            }
        }
        cut
    }

    async fn all_finished(&mut self) {
        while self.finished < self.arbiters.len() && self.unfinished.recv().await.is_some() {
            self.finished += 1;
        }
    }
}

/// One worker: an App, its connections, and the sockets that they come from.
async fn work(plan: Plan, listeners: Vec<Listener>, started: mpsc::UnboundedSender<io::Result<()>>) -> usize {
    let Plan { files, manners, bounds, guard, health, watchdog, accepts_from, lifecycle, connections } = plan;
    let site = Site::new(files.clone(), manners);
    let app = match app(&site, &health).await {
        Ok(app) => app,
        Err(()) => {
            let _ = started.send(Err(io::Error::other("the App could not be built")));
            return 0;
        }
    };
    let worker = Worker::new(app, files, bounds, guard);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let lifecycle = lifecycle.clone();
            actix_rt::spawn(accept(
                listener,
                Rc::clone(&worker),
                connections.clone(),
                lifecycle,
                accepts_from,
            ))
        })
        .collect();
    if let Some(watchdog) = watchdog {
        actix_rt::spawn(watchdog.heart());
    }
    let _ = started.send(Ok(()));
    lifecycle.reached(Phase::Retiring).await;
    for accepting in accepting {
        let _ = accepting.await;
    }
    worker.retire();
    {
        let closing = pin!(lifecycle.reached(Phase::Closing));
        let emptied = pin!(worker.emptied());
        futures_util::future::select(emptied, closing).await;
    }
    worker.close();
    let ended = pin!(lifecycle.reached(Phase::Ended));
    let emptied = pin!(worker.emptied());
    futures_util::future::select(emptied, ended).await;
    worker.responses_under_way()
}

/// The App: an ordinary one, whose default service is the site.
async fn app(
    site: &Rc<Site>,
    health: &Health,
) -> Result<impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static, ()> {
    let site = Rc::clone(site);
    let app = App::new()
        .configure(|app| health.configure(app))
        .default_service(fn_service(move |request: ServiceRequest| Rc::clone(&site).serve(request)));
    map_config(app, |()| AppConfig::default()).into_factory().new_service(()).await
}

/// What is done once a second, and what inotify tells.
async fn keep_house(files: Files) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let maintaining = async {
        loop {
            ticks.tick().await;
            files.maintain().await;
        }
    };
    tokio::join!(files.listen(), maintaining);
}

/// The outcome of `waited`, or none when another word to stop comes first.
async fn or_urgent<T>(waited: impl Future<Output = T>, stops: &mut mpsc::UnboundedReceiver<()>) -> Option<T> {
    tokio::select! {
        outcome = waited => Some(outcome),
        Some(()) = stops.recv() => None,
    }
}

fn pass_signals_on(stop: mpsc::UnboundedSender<()>) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        actix_rt::spawn(async move { while signals.recv().await.is_some() && stop.send(()).is_ok() {} });
    }
    Ok(())
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        head_bytes: config.head_bytes.as_usize(),
        head_fields: config.head_fields.as_usize(),
        body_bytes: config.body_bytes.get(),
        head_timeout: config.head_timeout.get(),
        idle_timeout: config.idle_timeout.get(),
        stall_timeout: config.stall_timeout.get(),
        linger_timeout: config.linger_timeout.get(),
        turn_bytes: config.turn_bytes.as_usize(),
        long_rate: config.long_rate.get(),
    }
}

fn init_log(config: &Config) {
    // A second server in one process logs as the first does.
    let _ = env_logger::Builder::new()
        // What the admin listener's server says of its own threads; a filter that names it is heeded.
        .filter_module("actix_server", log::LevelFilter::Warn)
        .parse_filters(config.log.as_str())
        .try_init();
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
