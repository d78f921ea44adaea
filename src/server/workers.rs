//! Starts the worker threads, and ends them.

use std::io;
use std::time::Duration;

use actix_rt::Arbiter;
use tokio::sync::mpsc;

use crate::config::{Config, DurationSetting};
use crate::lifecycle::{Lifecycle, Phase, UpdateReceiver};
use crate::net::listener::{BoundAddress, SocketOrigin, deal};
use crate::server::signals::{Stops, unless_stopped};
use crate::server::worker_task::{WorkerPlan, serve_worker};
use crate::site::settings::SiteSettings;

/// The worker threads.
pub(super) struct Workers {
    arbiters: Vec<Arbiter>,
    /// From each worker, once it has no connections or was ended: the number of responses that it cut.
    cut: mpsc::UnboundedReceiver<usize>,
    /// Number of workers that have reported; their connections have ended.
    finished: usize,
    pub(super) lifecycle: Lifecycle,
}

impl Workers {
    /// Starts a worker for each of `updates`, the channel on which its settings of reloads arrive, and waits until all accept.
    pub(super) async fn start(
        plan: &WorkerPlan,
        updates: Vec<UpdateReceiver<SiteSettings>>,
        traffic: &[BoundAddress],
    ) -> io::Result<Self> {
        let count = updates.len();
        let (report, cut) = mpsc::unbounded_channel();
        let (started, mut starts) = mpsc::unbounded_channel();
        let mut arbiters = Vec::with_capacity(count);
        for (listeners, updates) in deal(traffic, count).into_iter().zip(updates) {
            let (plan, report, started) = (plan.clone(), report.clone(), started.clone());
            let arbiter = Arbiter::try_with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread().enable_all().build()
            })?;
            arbiter.spawn_fn(move || {
                let worker = serve_worker(plan, listeners, updates, started);
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
        Ok(Self { arbiters, cut, finished: 0, lifecycle: plan.lifecycle.clone() })
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
        let mut cut = 0;
        for _ in self.finished..self.arbiters.len() {
            cut += self.cut.recv().await.unwrap_or(0);
        }
        join(self.arbiters);
        cut
    }

    async fn all_finished(&mut self) {
        while self.finished < self.arbiters.len() && self.cut.recv().await.is_some() {
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

/// Logs what the workers do at the end: `first` for `time`, unless that is zero.
fn log_end(how: &str, first: &str, time: DurationSetting) {
    let first = if time.get().is_zero() { String::new() } else { format!("{first} for {time}, then ") };
    log::info!("{how}: {first}finishing responses under way");
}

/// Start of the log lines on a listener: where its socket comes from, if this process did not open it.
pub(super) fn origin_prefix(origin: SocketOrigin) -> &'static str {
    match origin {
        SocketOrigin::Here => "",
        SocketOrigin::Manager => "inherited: ",
        SocketOrigin::Predecessor => "taken over: ",
    }
}
