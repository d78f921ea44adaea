//! The worker threads: starts and ends them, and what each runs: an App, its connections, and their listeners.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;
use actix_rt::task::JoinHandle;
use futures_util::future::select;
use tokio::sync::mpsc;

use crate::admin::context::ServerContext;
use crate::config::{Config, DurationSetting};
use crate::lifecycle::{Lifecycle, Phase, UPDATE_TIMEOUT, UpdateReceiver};
use crate::net::listener::{BoundAddress, ListenerSpec, Scheme, SocketOrigin, deal};
use crate::net::worker::{Worker, WorkerContext};
use crate::server::accept::accept;
use crate::server::app::{CurrentSite, app};
use crate::server::signals::{Stops, unless_stopped};
use crate::site::settings::{Site, SiteSettings};
use crate::sys::service_manager::Watchdog;

/// The worker threads.
pub(super) struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it has no connections or was ended: the number of responses that it cut.
    cut: mpsc::UnboundedReceiver<usize>,
    /// The sum of what the workers have reported.
    cut_so_far: usize,
    lifecycle: Lifecycle,
}

impl Workers {
    /// Starts a worker for each of `updates`, the channel on which its settings of reloads arrive, and waits until all accept.
    pub(super) async fn start(
        context: &Arc<ServerContext>,
        watchdog: Option<&Watchdog>,
        updates: Vec<UpdateReceiver<SiteSettings>>,
        traffic: &[BoundAddress],
    ) -> io::Result<Self> {
        let count = updates.len();
        let (report, cut) = mpsc::unbounded_channel();
        let (started, mut starts) = mpsc::unbounded_channel();
        let mut arbiters = Vec::with_capacity(count);
        for (listeners, updates) in deal(traffic, count).into_iter().zip(updates) {
            let watchdog = watchdog.cloned();
            let (context, report, started) = (Arc::clone(context), report.clone(), started.clone());
            let arbiter = Arbiter::try_with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build()
            })?;
            arbiter.spawn_fn(move || {
                let worker = serve_worker(context, watchdog, listeners, updates, started);
                actix_rt::spawn(async move { report.send(worker.await) });
            });
            arbiters.push(arbiter);
        }
        drop(started);
        for _ in 0..count {
            starts.recv().await.ok_or_else(|| io::Error::other("a worker did not start"))??;
        }
        for bound in traffic {
            log::info!("{}listening on {}", origin_prefix(bound.origin), bound.url);
        }
        Ok(Self { arbiters, cut, cut_so_far: 0, lifecycle: context.lifecycle.clone() })
    }

    /// Drains, then closes, then ends the workers. Returns the number of responses that were cut.
    pub(super) async fn stop(self, config: &Config, stops: &mut Stops) -> usize {
        self.lifecycle.advance(Phase::Draining);
        log_end("stopping", "serving on", config.stopping.drain_delay);
        let drained = unless_stopped(tokio::time::sleep(config.stopping.drain_delay.get()), stops).await;
        let timeout = drained.map_or(Duration::ZERO, |()| config.stopping.shutdown_timeout.get());
        self.end(timeout, stops).await
    }

    /// Leaves new connections to a successor, keeps idle ones for the drain delay, then closes and ends the workers. Returns the
    /// number of responses that were cut.
    pub(super) async fn retire(mut self, config: &Config, stops: &mut Stops) -> usize {
        self.lifecycle.advance(Phase::Retiring);
        log_end("retiring", "keeping connections", config.stopping.drain_delay);
        let kept = tokio::time::timeout(config.stopping.drain_delay.get(), self.all_finished());
        let _ = unless_stopped(kept, stops).await;
        self.end(config.stopping.shutdown_timeout.get(), stops).await
    }

    /// Ends workers that have accepted nothing yet: the predecessor has all connections. Returns 0, the responses cut.
    pub(super) fn abandon(self) -> usize {
        log::info!("stopping: the predecessor goes on serving");
        join(self.arbiters);
        0
    }

    async fn end(mut self, timeout: Duration, stops: &mut Stops) -> usize {
        self.lifecycle.advance(Phase::Closing);
        let _ = unless_stopped(tokio::time::timeout(timeout, self.all_finished()), stops).await;
        self.lifecycle.advance(Phase::Ended);
        self.all_finished().await;
        join(self.arbiters);
        self.cut_so_far
    }

    async fn all_finished(&mut self) {
        while let Some(cut) = self.cut.recv().await {
            self.cut_so_far += cut;
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

/// Logs what the workers do at the end: `first` for `time`, unless that is zero.
fn log_end(how: &str, first: &str, time: DurationSetting) {
    let first = if time.get().is_zero() { String::new() } else { format!("{first} for {time}, then ") };
    log::info!("{how}: {first}finishing responses under way");
}

/// Serves on `listeners` until the lifecycle has ended or there are no connections left after it closed. `started` gets the
/// outcome of the start; `updates` brings the settings of reloads. Returns the number of responses that were cut.
async fn serve_worker(
    server: Arc<ServerContext>,
    watchdog: Option<Watchdog>,
    listeners: Vec<ListenerSpec>,
    updates: UpdateReceiver<SiteSettings>,
    started: mpsc::UnboundedSender<io::Result<()>>,
) -> usize {
    let ServerContext { site: view, metrics, tls, health, lifecycle, .. } = &*server;
    // A successor leaves earlier connections to its predecessor.
    let accepts_from = if server.is_successor { Phase::Ready } else { Phase::Starting };
    let metrics = metrics.worker();
    let current = CurrentSite::new(&Site::new(view.clone(), Arc::clone(&metrics)));
    let Ok(app) = app(&current, health).await else {
        let _ = started.send(Err(io::Error::other("the App could not be built")));
        return 0;
    };
    let (config, limits) = (Arc::clone(&view.config), view.limits.clone());
    let worker = Worker::new(app, view.files.clone(), config, limits, Arc::clone(&metrics));
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
        current.replace(&Site::new(view, Arc::clone(&metrics)));
        if delay >= UPDATE_TIMEOUT {
            log::info!("a worker took the new configuration after {delay:.1?}");
        }
    }));
    let _ = started.send(Ok(()));
    drop(started);
    close_in_phases(&context, lifecycle, accept_loops).await;
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

/// Start of the log lines on a listener: where its socket comes from, if this process did not open it.
pub(super) fn origin_prefix(origin: SocketOrigin) -> &'static str {
    match origin {
        SocketOrigin::Here => "",
        SocketOrigin::Manager => "inherited: ",
        SocketOrigin::Predecessor => "taken over: ",
    }
}
