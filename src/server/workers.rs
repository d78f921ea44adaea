//! Threads that serve, from their start to their end.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Request;
use actix_rt::Arbiter;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceRequest, ServiceResponse};
use actix_web::{App, Error};
use tokio::sync::mpsc;

use super::run::{from_whom, or_urgent};
use crate::admin::health::Health;
use crate::config::{Config, DurationSetting};
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::reload::{WorkerUpdate, WorkerView};
use crate::limits::client_limits::Limits;
use crate::net::listener::{BoundAddress, ListenerSpec, Scheme, deal};
use crate::net::tls::config::Tls;
use crate::net::worker::Worker;
use crate::server::accept::accept;
use crate::site::handler::Site;
use crate::sys::service_manager::Watchdog;
use crate::telemetry::metrics::lookups::WorkerLookups;
use crate::telemetry::metrics::registry::Metrics;

/// What every worker is given.
#[derive(Clone)]
pub(super) struct WorkerPlan {
    pub(super) served: WorkerView,
    pub(super) guard: Limits,
    pub(super) ledger: Metrics,
    /// Where TLS is spoken anywhere.
    pub(super) tls: Option<Tls>,
    pub(super) health: Health,
    pub(super) watchdog: Option<Watchdog>,
    /// A successor leaves what comes before it is ready to its predecessor.
    pub(super) accepts_from: Phase,
    pub(super) lifecycle: Lifecycle,
}

pub(super) struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it is empty or told to end: how many responses it left unfinished.
    unfinished: mpsc::UnboundedReceiver<usize>,
    /// Workers that have reported; their connections had ended.
    finished: usize,
}

impl Workers {
    /// One for each of `orders`, from which it hears what it serves with from then on.
    pub(super) async fn start(
        plan: &WorkerPlan,
        orders: Vec<mpsc::UnboundedReceiver<WorkerUpdate>>,
        traffic: &[BoundAddress],
    ) -> io::Result<Self> {
        let count = orders.len();
        let (report, unfinished) = mpsc::unbounded_channel();
        let (started, mut starts) = mpsc::unbounded_channel();
        let mut arbiters = Vec::with_capacity(count);
        for (doors, orders) in deal(traffic, count).into_iter().zip(orders) {
            let (plan, report, started) = (plan.clone(), report.clone(), started.clone());
            let arbiter = Arbiter::try_with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build()
            })?;
            arbiter.spawn_fn(move || {
                actix_rt::spawn(async move {
                    let left = work(plan, doors, orders, started).await;
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
    pub(super) async fn stop(
        self,
        config: &Config,
        lifecycle: &Lifecycle,
        stops: &mut mpsc::UnboundedReceiver<()>,
    ) -> usize {
        lifecycle.advance(Phase::Draining);
        log::info!(
            "stopping: {}finishing what is under way",
            first("serving on", config.stopping.drain_delay)
        );
        let is_urgent =
            or_urgent(tokio::time::sleep(config.stopping.drain_delay.get()), stops).await.is_none();
        let timeout = if is_urgent { Duration::ZERO } else { config.stopping.shutdown_timeout.get() };
        self.end(timeout, lifecycle, stops).await
    }

    /// Leaves new connections to a successor, keeps the idle ones for the drain delay, then closes and ends; returns how many
    /// responses were cut.
    pub(super) async fn retire(
        mut self,
        config: &Config,
        lifecycle: &Lifecycle,
        stops: &mut mpsc::UnboundedReceiver<()>,
    ) -> usize {
        lifecycle.advance(Phase::Retiring);
        log::info!(
            "retiring: {}finishing what is under way",
            first("keeping connections", config.stopping.drain_delay)
        );
        let kept = tokio::time::timeout(config.stopping.drain_delay.get(), self.all_finished());
        let _ = or_urgent(kept, stops).await;
        self.end(config.stopping.shutdown_timeout.get(), lifecycle, stops).await
    }

    /// Ends at once, where nothing was accepted yet: all of it stays with the predecessor. Cuts no response.
    pub(super) fn give_up(self) -> usize {
        log::info!("stopping: the predecessor serves on");
        join(self.arbiters);
        0
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
        join(self.arbiters);
        cut
    }

    async fn all_finished(&mut self) {
        while self.finished < self.arbiters.len() && self.unfinished.recv().await.is_some() {
            self.finished += 1;
        }
    }
}

fn join(arbiters: Vec<Arbiter>) {
    for arbiter in arbiters {
        arbiter.stop();
        if arbiter.join().is_err() {
            log::error!("a worker panicked");
        }
    }
}

/// What is done before all else, if there is time for it.
fn first(what: &str, time: DurationSetting) -> String {
    if time.get().is_zero() { String::new() } else { format!("{what} for {time}, then ") }
}

/// One worker: an App, its connections, and the sockets that they come from.
async fn work(
    plan: WorkerPlan,
    doors: Vec<ListenerSpec>,
    orders: mpsc::UnboundedReceiver<WorkerUpdate>,
    started: mpsc::UnboundedSender<io::Result<()>>,
) -> usize {
    let WorkerPlan {
        served: WorkerView { files, manners, bounds, noting },
        guard,
        ledger,
        tls,
        health,
        watchdog,
        accepts_from,
        lifecycle,
    } = plan;
    let lookups = ledger.lookups();
    let first = Site::counting(files.clone(), manners, Arc::clone(&lookups));
    let site = Rc::new(RefCell::new(first));
    let app = match app(&site, &health).await {
        Ok(app) => app,
        Err(()) => {
            let _ = started.send(Err(io::Error::other("the App could not be built")));
            return 0;
        }
    };
    let worker = Worker::new(app, files, bounds, guard, &ledger);
    worker.set_noting(noting);
    let accepting: Vec<_> = doors
        .into_iter()
        .map(|(listener, scheme)| {
            let (worker, lifecycle) = (Rc::clone(&worker), lifecycle.clone());
            let tls = tls.clone().filter(|_| scheme == Scheme::Https);
            actix_rt::spawn(accept(listener, tls, worker, lifecycle, accepts_from))
        })
        .collect();
    if let Some(watchdog) = watchdog {
        actix_rt::spawn(watchdog.heart());
    }
    let heeding = actix_rt::spawn(heed(orders, site, lookups, Rc::clone(&worker)));
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
    heeding.abort();
    worker.responses_under_way()
}

/// Serves from each order on with what it brings. Requests under way keep the site that they began with.
async fn heed<S>(
    mut orders: mpsc::UnboundedReceiver<WorkerUpdate>,
    site: Rc<RefCell<Rc<Site>>>,
    lookups: Arc<WorkerLookups>,
    worker: Rc<Worker<S>>,
) {
    while let Some(WorkerUpdate { served: WorkerView { files, manners, bounds, noting }, done }) =
        orders.recv().await
    {
        site.replace(Site::counting(files, manners, Arc::clone(&lookups)));
        worker.set_bounds(bounds);
        worker.set_noting(noting);
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
