//! One worker, on its own thread: an App, its connections, and the listeners that they come from.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::task::JoinHandle;
use futures_util::future::select;
use tokio::sync::mpsc;

use crate::admin::health::Health;
use crate::lifecycle::{Lifecycle, Phase, UPDATE_TIMEOUT, UpdateReceiver};
use crate::limits::client_limits::Limits;
use crate::net::listener::{ListenerSpec, Scheme};
use crate::net::tls::config::Tls;
use crate::net::worker::{Worker, WorkerContext};
use crate::server::accept::accept;
use crate::server::app::{CurrentSite, app};
use crate::site::settings::{Site, SiteSettings};
use crate::sys::service_manager::Watchdog;
use crate::telemetry::metrics::registry::Metrics;

/// What every worker gets.
#[derive(Clone)]
pub(super) struct WorkerPlan {
    pub(super) view: SiteSettings,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    /// `None` if no listener is for TLS.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) health: Health,
    pub(super) watchdog: Option<Watchdog>,
    /// From this phase on connections are accepted: a successor leaves earlier ones to its predecessor.
    pub(super) accepts_from: Phase,
    pub(super) lifecycle: Lifecycle,
}

/// Serves on `listeners` until the lifecycle has ended or there are no connections left after it closed. `started` gets the
/// outcome of the start; `updates` brings the settings of reloads. Returns the number of responses that were cut.
pub(super) async fn serve_worker(
    plan: WorkerPlan,
    listeners: Vec<ListenerSpec>,
    updates: UpdateReceiver<SiteSettings>,
    started: mpsc::UnboundedSender<io::Result<()>>,
) -> usize {
    let WorkerPlan { view, limits, metrics, tls, health, watchdog, accepts_from, lifecycle } = plan;
    let (files, config) = (view.files.clone(), Arc::clone(&view.config));
    // Apart from the counts of the connections: the App is built before them.
    let site_metrics = metrics.worker();
    let current = CurrentSite::new(&Site::new(view, Arc::clone(&site_metrics)));
    let Ok(app) = app(&current, &health).await else {
        let _ = started.send(Err(io::Error::other("the App could not be built")));
        return 0;
    };
    let worker = Worker::new(app, files, config, limits, &metrics);
    let context = Rc::clone(&worker.context);
    let accept_loops = listeners.into_iter().map(|(listener, scheme)| {
        let tls = tls.clone().filter(|_| scheme == Scheme::Https);
        actix_rt::spawn(accept(listener, tls, Rc::clone(&worker), lifecycle.clone(), accepts_from))
    });
    let accept_loops = accept_loops.collect();
    if let Some(watchdog) = watchdog {
        actix_rt::spawn(watchdog.heartbeat());
    }
    let updated = Rc::clone(&context);
    actix_rt::spawn(updates.apply_with(move |view: SiteSettings, delay| {
        // Requests under way finish with the settings that they began with.
        updated.set_settings(Arc::clone(&view.config));
        current.replace(&Site::new(view, Arc::clone(&site_metrics)));
        if delay >= UPDATE_TIMEOUT {
            log::info!("a worker took the new configuration after {delay:.1?}");
        }
    }));
    let _ = started.send(Ok(()));
    drop(started);
    close_in_phases(&context, &lifecycle, accept_loops).await;
    context.connections.answering()
}

/// Retires, closes and ends with the phases of the lifecycle; returns earlier if no connection is left.
async fn close_in_phases(context: &WorkerContext, lifecycle: &Lifecycle, accept_loops: Vec<JoinHandle<()>>) {
    lifecycle.reached(Phase::Retiring).await;
    for accept_loop in accept_loops {
        let _ = accept_loop.await;
    }
    context.retire();
    select(pin!(context.emptied()), pin!(lifecycle.reached(Phase::Closing))).await;
    context.close();
    select(pin!(context.emptied()), pin!(lifecycle.reached(Phase::Ended))).await;
}
