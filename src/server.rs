//! Listeners, workers, the App: from start to stop.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_rt::{Arbiter, System};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::{App, Error};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::accept::accept;
use crate::config::{AdminListen, Config, Limits, Loaded};
use crate::files::{Files, Root, Settings};
use crate::guard::Guard;
use crate::guard::connections::Connections;
use crate::http::redirects::Redirects;
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::{Bound, Listener, bind};
use crate::ops::admin::{Admin, Desk};
use crate::ops::health::Health;
use crate::ops::status::{self, Gauges};
use crate::rules::Rules;
use crate::serve::{Manners, Site};
use crate::warmth::Warmth;
use crate::warmth::state::StateDirectory;
use crate::wire::worker::{Bounds, Worker};

/// Serves until a signal says to stop: the program's main job.
///
/// Exit code 0 when every response was finished, 1 when some were cut or the server could not start.
pub fn run(loaded: &Loaded) -> ExitCode {
    let Loaded { config, limits, redirects, .. } = loaded;
    init_log(config);
    let outcome = System::new().block_on(async {
        let (stop, stops) = mpsc::unbounded_channel();
        pass_signals_on(stop)?;
        serve(config, limits, redirects, Listeners::bind(config, limits)?, stops).await
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

/// The sockets that a server is given.
pub struct Listeners {
    traffic: Vec<Bound>,
    admin: Option<Bound>,
}

/// How a server ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Responses that were under way and did not finish.
    pub cut: usize,
}

impl Listeners {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// The first address that is not to be had.
    pub fn bind(config: &Config, limits: &Limits) -> io::Result<Self> {
        let addresses = config.listen.as_slice();
        let traffic = addresses
            .iter()
            .map(|address| bind(address, limits.workers, addresses, config.defer_accept.is_on()))
            .collect::<io::Result<_>>()?;
        let admin = match &config.admin_listen {
            AdminListen::Off => None,
            AdminListen::At(address) => Some(bind(address, 1, &[], false)?),
        };
        Ok(Self { traffic, admin })
    }
}

/// Serves on `listeners` until `stops` says to stop; a second word ends at once. Runs on an actix `System`.
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
    let started = Instant::now();
    let root = Root::open(config.root.as_path(), config.symlinks)?;
    let state = config.state_dir.given().map(|path| StateDirectory::open(path.as_path())).transpose()?;
    let rules = Rules::new(config);
    let files = Files::new(root, &Settings::of(config, limits), Arc::clone(&rules))?;
    files.try_probe().await;
    let lifecycle = Lifecycle::new();
    let warmth = Warmth::new(files.clone(), config, limits);
    let plan = Plan {
        files: files.clone(),
        manners: Manners::of(config, limits, &files, rules, Arc::clone(redirects))?,
        bounds: bounds(config),
        guard: Guard::new(config),
        health: Health::new(lifecycle.clone(), files.clone()).telling(warmth.progress()),
        lifecycle: lifecycle.clone(),
        connections: Connections::new(limits.max_connections, limits.refusals),
    };
    let admin = match listeners.admin {
        Some(Bound { mut listeners, url }) => {
            log::info!("admin on {url}");
            let desk = plan.desk(started, &warmth, config, limits);
            listeners.pop().map(|listener| Admin::start(listener, desk)).transpose()?
        }
        None => None,
    };
    log::info!("memory: {} MiB {}", limits.memory_bytes >> 20, limits.memory_source);
    let housekeeping = actix_rt::spawn(keep_house(files.clone()));
    let workers = Workers::start(&plan, limits.workers, listeners.traffic).await?;
    let memory = Memory { state, warmth, timeout: config.warm_timeout.get() };
    let is_warm = or_urgent(memory.recall(&lifecycle), &mut stops).await.is_some();
    let mut remembering = None;
    if is_warm {
        lifecycle.advance(Phase::Ready);
        log::info!("ready: {} from {}", counted(limits.workers, "worker"), config.root);
        let _ = stops.recv().await;
        // What is hot is known best before clients go elsewhere. Who is stopped while warming leaves what was remembered.
        remembering = Some(actix_rt::spawn(memory.remember()));
    }
    let cut = workers.stop(config, &lifecycle, &mut stops).await;
    if let Some(remembering) = remembering
        && tokio::time::timeout(REMEMBER_TIMEOUT, remembering).await.is_err()
    {
        log::warn!("what is hot was not written in time: what was remembered before stays");
    }
    housekeeping.abort();
    if let Some(admin) = admin {
        admin.stop().await;
    }
    Ok(Ended { cut })
}

/// What every worker is given.
#[derive(Clone)]
struct Plan {
    files: Files,
    manners: Manners,
    bounds: Bounds,
    guard: Guard,
    health: Health,
    lifecycle: Lifecycle,
    connections: Connections,
}

impl Plan {
    /// What operators are shown, and may ask for.
    fn desk(&self, started: Instant, warmth: &Warmth, config: &Config, limits: &Limits) -> Desk {
        let gauges = Gauges {
            started,
            lifecycle: self.lifecycle.clone(),
            files: self.files.clone(),
            connections: self.connections.clone(),
            guard: self.guard.clone(),
            gate: self.manners.gate.clone(),
            progress: Arc::clone(warmth.progress()),
            limits: *limits,
            bounds: status::Bounds::of(config),
        };
        Desk { health: self.health.clone(), gauges, warmth: warmth.clone() }
    }
}

/// What outlives the process, where that is wanted.
struct Memory {
    state: Option<StateDirectory>,
    warmth: Warmth,
    timeout: Duration,
}

impl Memory {
    /// Reads what was hot before, while traffic is served already and readiness denied.
    async fn recall(&self, lifecycle: &Lifecycle) {
        let Some(state) = self.state.as_ref().filter(|_| !self.timeout.is_zero()) else { return };
        let Some(turn) = self.warmth.turn() else { return };
        lifecycle.advance(Phase::Warming);
        let begun = Instant::now();
        let reading = async {
            let hot = state.read(self.warmth.most).await;
            self.warmth.fetch(&hot, &turn).await;
            hot
        };
        let hot = tokio::time::timeout(self.timeout, reading).await;
        let counts = self.warmth.progress().counts();
        let seconds = begun.elapsed().as_secs_f32();
        match hot {
            Ok(hot) if hot.is_empty() => {}
            Ok(_) => log::info!("warm after {seconds:.1}s: {counts}"),
            Err(_) => log::warn!("not warm after {seconds:.1}s, and ready all the same: {counts}"),
        }
    }

    /// Writes what is hot now.
    async fn remember(self) {
        if let Some(state) = &self.state {
            state.write(self.warmth.files(), self.warmth.most).await;
        }
    }
}

struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it is empty or told to end: how many responses it left unfinished.
    unfinished: mpsc::UnboundedReceiver<usize>,
}

impl Workers {
    async fn start(plan: &Plan, count: usize, mut traffic: Vec<Bound>) -> io::Result<Self> {
        let (report, unfinished) = mpsc::unbounded_channel();
        let (started, mut starts) = mpsc::unbounded_channel();
        let mut arbiters = Vec::with_capacity(count);
        for _ in 0..count {
            let listeners: Vec<Listener> =
                traffic.iter_mut().filter_map(|bound| bound.listeners.pop()).collect();
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
        for bound in &traffic {
            log::info!("listening on {}", bound.url);
        }
        Ok(Self { arbiters, unfinished })
    }

    /// Drains, then closes, then ends; returns how many responses were cut.
    async fn stop(
        mut self,
        config: &Config,
        lifecycle: &Lifecycle,
        stops: &mut mpsc::UnboundedReceiver<()>,
    ) -> usize {
        lifecycle.advance(Phase::Draining);
        log::info!("stopping: serving on for {}, then finishing what is under way", config.drain_delay);
        let is_urgent = or_urgent(tokio::time::sleep(config.drain_delay.get()), stops).await.is_none();
        lifecycle.advance(Phase::Closing);
        let timeout = if is_urgent { Duration::ZERO } else { config.shutdown_timeout.get() };
        let count = self.arbiters.len();
        let mut finished = 0;
        let waited = async {
            while finished < count && self.unfinished.recv().await.is_some() {
                finished += 1;
            }
        };
        let _ = or_urgent(tokio::time::timeout(timeout, waited), stops).await;
        lifecycle.advance(Phase::Ended);
        let mut cut = 0;
        while finished < count {
            cut += self.unfinished.recv().await.unwrap_or(0);
            finished += 1;
        }
        for arbiter in self.arbiters {
            arbiter.stop();
            if arbiter.join().is_err() {
                log::error!("a worker panicked");
            }
        }
        cut
    }
}

/// One worker: an App, its connections, and the sockets that they come from.
async fn work(plan: Plan, listeners: Vec<Listener>, started: mpsc::UnboundedSender<io::Result<()>>) -> usize {
    let Plan { files, manners, bounds, guard, health, lifecycle, connections } = plan;
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
            actix_rt::spawn(accept(listener, Rc::clone(&worker), connections.clone(), lifecycle.clone()))
        })
        .collect();
    let _ = started.send(Ok(()));
    lifecycle.reached(Phase::Closing).await;
    for accepting in accepting {
        let _ = accepting.await;
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

/// How long a stop waits for what is hot to be written, once all else is done.
const REMEMBER_TIMEOUT: Duration = Duration::from_secs(5);

const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
