//! The worker threads: starts and ends them, and what each runs: an App, its connections, and their listeners.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;
use actix_rt::task::JoinHandle;
use futures_util::FutureExt;
use futures_util::future::select;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::admin::context::ServerContext;
use crate::config::{Config, DurationSetting};
use crate::lifecycle::{Lifecycle, Phase, UPDATE_TIMEOUT, UpdateReceiver};
use crate::net::listener::{BoundAddress, ListenerSpec, Scheme, SocketOrigin, deal};
use crate::net::worker::{Worker, WorkerContext};
use crate::server::accept::accept;
use crate::server::app::{CurrentSite, app};
use crate::server::signals::{Stops, unless_stopped};
use crate::site::settings::{Site, SiteSettings};
use crate::sys::own_thread::run_on_own_thread;
use crate::sys::service_manager::Watchdog;

/// The worker threads.
pub(super) struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it has no connections or was ended: the number of responses that it cut.
    cut: mpsc::UnboundedReceiver<usize>,
    /// The sum of what the workers have reported.
    cut_so_far: usize,
    /// The number of workers that have reported.
    reports: usize,
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
        Ok(Self { arbiters, cut, cut_so_far: 0, reports: 0, lifecycle: context.lifecycle.clone() })
    }

    /// Drains, then closes, then ends the workers. Returns the number of responses that were cut.
    pub(super) async fn stop(self, config: &Config, stops: &mut Stops) -> usize {
        self.lifecycle.advance(Phase::Draining);
        log_end("stopping", "serving on", config.stopping.drain_delay);
        let drained = unless_stopped(tokio::time::sleep(config.stopping.drain_delay.get()), stops).await;
        self.end(drained.map(|()| config.stopping.shutdown_timeout.get()), stops).await
    }

    /// Leaves new connections to a successor, keeps idle ones for the drain delay, then closes and ends the workers. Returns the
    /// number of responses that were cut.
    pub(super) async fn retire(mut self, config: &Config, stops: &mut Stops) -> usize {
        self.lifecycle.advance(Phase::Retiring);
        log_end("retiring", "keeping connections", config.stopping.drain_delay);
        let kept = tokio::time::timeout(config.stopping.drain_delay.get(), self.all_finished());
        let _ = unless_stopped(kept, stops).await;
        self.end(Some(config.stopping.shutdown_timeout.get()), stops).await
    }

    /// Ends workers that have accepted nothing yet: the predecessor has all connections. Returns the number of workers
    /// that did not end; no response is cut.
    pub(super) async fn abandon(self) -> usize {
        log::info!("stopping: the predecessor goes on serving");
        join(self.arbiters).await
    }

    /// Closes the listeners, waits for responses under way, at most for `timeout` (`None`: a second request to stop has come), and
    /// ends the workers. A worker that is stuck in the kernel is left to the end of the process, and counts as one cut response.
    async fn end(mut self, timeout: Option<Duration>, stops: &mut Stops) -> usize {
        self.lifecycle.advance(Phase::Closing);
        let finishing = tokio::time::timeout(timeout.unwrap_or_default(), self.all_finished());
        let is_hurried = unless_stopped(finishing, stops).await.is_none() || timeout.is_none();
        self.lifecycle.advance(Phase::Ended);
        let is_over = !is_hurried && {
            let reporting = tokio::time::timeout(REPORT_TIMEOUT, self.all_finished());
            unless_stopped(reporting, stops).await.is_some()
        };
        if !is_over {
            let _ = tokio::time::timeout(THREAD_END_TIMEOUT, self.all_finished()).await;
        }
        let is_complete = self.cut.is_closed();
        // Reports that came meanwhile.
        let _ = self.all_finished().now_or_never();
        let silent = if is_complete { 0 } else { self.arbiters.len() - self.reports };
        // A worker without a report is most likely one that does not end either.
        self.cut_so_far + silent.max(join(self.arbiters).await)
    }

    async fn all_finished(&mut self) {
        while let Some(cut) = self.cut.recv().await {
            self.cut_so_far += cut;
            self.reports += 1;
        }
    }
}

/// Ends the threads, and logs those that do not end within [`THREAD_END_TIMEOUT`]: a call on a file system that hangs can't be
/// interrupted, and the end of the process does not wait for it. Returns their number.
async fn join(arbiters: Vec<Arbiter>) -> usize {
    let deadline = Instant::now() + THREAD_END_TIMEOUT;
    let join = |arbiter: Arbiter| {
        arbiter.stop();
        actix_rt::spawn(run_on_own_thread(move || arbiter.join()))
    };
    let joining: Vec<_> = arbiters.into_iter().map(join).collect();
    let mut running = 0;
    for (worker, joined) in (1..).zip(joining) {
        match tokio::time::timeout_at(deadline, joined).await {
            Ok(Ok(Some(Err(_)))) => log::error!("a worker panicked"),
            Ok(_) => {}
            Err(_) => {
                log::error!("worker {worker} does not stop: the process ends without waiting for it");
                running += 1;
            }
        }
    }
    running
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

/// How long a stop waits, after the responses were cut, for workers to report them. A worker that is not stuck in the kernel needs
/// milliseconds.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The same after a second request to stop, and for the threads to end.
const THREAD_END_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use actix_rt::System;
    use std::sync::mpsc::{Sender, channel};

    /// A worker that has reported two cut responses, and one whose thread is stuck until the sender is dropped.
    fn workers() -> (Workers, Sender<()>) {
        let (report, cut) = mpsc::unbounded_channel();
        let (free, stuck) = channel::<()>();
        let arbiters = vec![Arbiter::new(), Arbiter::new()];
        let reporting = report.clone();
        arbiters[0].spawn(async move {
            let _ = reporting.send(2);
        });
        arbiters[1].spawn_fn(move || {
            let _ = stuck.recv();
            drop(report);
        });
        (Workers { arbiters, cut, cut_so_far: 0, reports: 0, lifecycle: Lifecycle::new() }, free)
    }

    #[test]
    fn a_stuck_worker_does_not_hold_up_the_stop_and_counts_as_cut() {
        System::new().block_on(async {
            let (begun, (workers, free)) = (Instant::now(), workers());
            let (_stop, mut stops) = mpsc::unbounded_channel();
            assert_eq!(workers.end(Some(Duration::ZERO), &mut stops).await, 3);
            assert!((REPORT_TIMEOUT..REPORT_TIMEOUT * 3).contains(&begun.elapsed()), "{:?}", begun.elapsed());
            drop(free);
        });
    }

    #[test]
    fn a_second_request_to_stop_ends_the_wait_for_a_stuck_worker() {
        System::new().block_on(async {
            for comes_early in [true, false] {
                let (begun, (workers, free)) = (Instant::now(), workers());
                let (stop, mut stops) = mpsc::unbounded_channel();
                let timeout = (!comes_early).then_some(Duration::ZERO);
                let ending = workers.end(timeout, &mut stops);
                let requesting = async {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let _ = stop.send(());
                };
                assert_eq!(tokio::join!(ending, requesting).0, 3);
                assert!(begun.elapsed() < REPORT_TIMEOUT, "{comes_early}: {:?}", begun.elapsed());
                drop(free);
            }
        });
    }
}
