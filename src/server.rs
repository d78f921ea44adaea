//! Listeners, workers, the App: from start to stop.

use std::cell::RefCell;
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
use crate::config::{AdminListen, Config, Given, Limits, Loaded};
use crate::files::{Files, Root, Settings};
use crate::guard::Guard;
use crate::guard::connections::Connections;
use crate::lifecycle::{Lifecycle, Phase};
use crate::listen::{Bound, Listener, bind};
use crate::ops::admin::Admin;
use crate::ops::health::Health;
use crate::ops::logger;
use crate::reload::{Current, Order, ReloadRequests, Reloader, Served};
use crate::rules::Rules;
use crate::serve::{Manners, Site};
use crate::wire::worker::{Bounds, Worker};

/// Serves until a signal says to stop: the program's main job.
///
/// Exit code 0 when every response was finished, 1 when some were cut or the server could not start.
///
/// On SIGHUP it loads again what it was `given`.
pub fn run(loaded: &Loaded, given: Given) -> ExitCode {
    let Loaded { config, limits, .. } = loaded;
    logger::start(&config.log);
    let outcome = System::new().block_on(async {
        let (stop, stops) = mpsc::unbounded_channel();
        let reloads = ReloadRequests::default();
        pass_signals_on(stop, reloads.clone())?;
        serve(loaded, given, Listeners::bind(config, limits)?, stops, reloads).await
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

/// Serves on `listeners` until `stops` says to stop; a second word ends at once. What `reloads` ask for is read again from
/// what was `given`. Runs on an actix `System`.
///
/// # Errors
/// Where the root, a thread or a socket is not to be had.
pub async fn serve(
    loaded: &Loaded,
    given: Given,
    listeners: Listeners,
    mut stops: mpsc::UnboundedReceiver<()>,
    reloads: ReloadRequests,
) -> io::Result<Ended> {
    let Loaded { config, limits, redirects, .. } = loaded;
    let root = Root::open(config.root.as_path(), config.symlinks)?;
    let rules = Rules::new(config);
    let files = Files::new(root, &Settings::of(config, limits), Arc::clone(&rules))?;
    files.try_probe().await;
    let lifecycle = Lifecycle::new();
    let health = Health::new(lifecycle.clone(), files.clone());
    let admin = match listeners.admin {
        Some(Bound { mut listeners, url }) => {
            log::info!("admin on {url}");
            listeners.pop().map(|listener| Admin::start(listener, health.clone())).transpose()?
        }
        None => None,
    };
    let manners = Manners::of(config, limits, &files, rules, Arc::clone(redirects))?;
    let plan = Plan {
        served: Served { files: files.clone(), manners, bounds: Bounds::of(config) },
        guard: Guard::new(config),
        health,
        lifecycle: lifecycle.clone(),
        connections: Connections::new(limits.max_connections, limits.refusals),
    };
    let housekeeping = actix_rt::spawn(keep_house(files, reloads.clone()));
    let (orders, ordered) = (0..limits.workers).map(|_| mpsc::unbounded_channel()).unzip();
    let current = Current { config: config.clone(), limits: *limits, served: plan.served.clone() };
    let reloader = Reloader::new(given, current, plan.guard.clone(), plan.connections.clone(), orders)?;
    let workers = Workers::start(&plan, ordered, listeners.traffic).await?;
    lifecycle.advance(Phase::Ready);
    log::info!("ready: {} from {}", counted(limits.workers, "worker"), config.root);

    let reloading = actix_rt::spawn(reloader.clone().listen(reloads, lifecycle.clone()));
    let _ = stops.recv().await;
    let cut = workers.stop(&reloader.config(), &lifecycle, &mut stops).await;
    housekeeping.abort();
    reloading.abort();
    if let Some(admin) = admin {
        admin.stop().await;
    }
    Ok(Ended { cut })
}

/// What every worker is given.
#[derive(Clone)]
struct Plan {
    served: Served,
    guard: Guard,
    health: Health,
    lifecycle: Lifecycle,
    connections: Connections,
}

struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it is empty or told to end: how many responses it left unfinished.
    unfinished: mpsc::UnboundedReceiver<usize>,
}

impl Workers {
    /// One for each of `ordered`, from which it hears what it serves with from then on.
    async fn start(
        plan: &Plan,
        ordered: Vec<mpsc::UnboundedReceiver<Order>>,
        mut traffic: Vec<Bound>,
    ) -> io::Result<Self> {
        let count = ordered.len();
        let (report, unfinished) = mpsc::unbounded_channel();
        let (started, mut starts) = mpsc::unbounded_channel();
        let mut arbiters = Vec::with_capacity(count);
        for orders in ordered {
            let listeners: Vec<Listener> =
                traffic.iter_mut().filter_map(|bound| bound.listeners.pop()).collect();
            let (plan, report, started) = (plan.clone(), report.clone(), started.clone());
            let arbiter = Arbiter::try_with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build()
            })?;
            arbiter.spawn_fn(move || {
                actix_rt::spawn(async move {
                    let left = work(plan, listeners, orders, started).await;
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
async fn work(
    plan: Plan,
    listeners: Vec<Listener>,
    orders: mpsc::UnboundedReceiver<Order>,
    started: mpsc::UnboundedSender<io::Result<()>>,
) -> usize {
    let Plan { served: Served { files, manners, bounds }, guard, health, lifecycle, connections } = plan;
    let site = Rc::new(RefCell::new(Site::new(files.clone(), manners)));
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
    let heeding = actix_rt::spawn(heed(orders, site, Rc::clone(&worker)));
    let _ = started.send(Ok(()));
    lifecycle.reached(Phase::Closing).await;
    for accepting in accepting {
        let _ = accepting.await;
    }
    worker.close();
    let ended = pin!(lifecycle.reached(Phase::Ended));
    let emptied = pin!(worker.emptied());
    futures_util::future::select(emptied, ended).await;
    heeding.abort();
    worker.responses_under_way()
}

/// Serves from each order on with what it brings. Requests under way keep the site that they began with.
async fn heed<S>(
    mut orders: mpsc::UnboundedReceiver<Order>,
    site: Rc<RefCell<Rc<Site>>>,
    worker: Rc<Worker<S>>,
) {
    while let Some(Order { served: Served { files, manners, bounds }, done }) = orders.recv().await {
        site.replace(Site::new(files, manners));
        worker.set_bounds(bounds);
        drop(done);
    }
}

/// The App: an ordinary one, whose default service is the site.
async fn app(
    site: &Rc<RefCell<Rc<Site>>>,
    health: &Health,
) -> Result<impl Service<Request, Response = ServiceResponse<BoxBody>, Error = Error> + 'static, ()> {
    let site = Rc::clone(site);
    let app = App::new()
        .configure(|app| health.configure(app))
        .default_service(fn_service(move |request: ServiceRequest| Rc::clone(&site.borrow()).serve(request)));
    map_config(app, |()| AppConfig::default()).into_factory().new_service(()).await
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

/// The outcome of `waited`, or none when another word to stop comes first.
async fn or_urgent<T>(waited: impl Future<Output = T>, stops: &mut mpsc::UnboundedReceiver<()>) -> Option<T> {
    tokio::select! {
        outcome = waited => Some(outcome),
        Some(()) = stops.recv() => None,
    }
}

fn pass_signals_on(stop: mpsc::UnboundedSender<()>, reloads: ReloadRequests) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    actix_rt::spawn(async move {
        while hangups.recv().await.is_some() {
            reloads.ask();
        }
    });
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        actix_rt::spawn(async move { while signals.recv().await.is_some() && stop.send(()).is_ok() {} });
    }
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
