//! Tasks that run beside the workers for as long as the server does.

use std::time::{Duration, Instant};

use actix_rt::task::JoinHandle;

use crate::files::Files;
use crate::lifecycle::ReloadRequests;
use crate::limits::client_limits::Limits;
use crate::telemetry::access_log::log::AccessLog;

/// Tasks that are aborted when this is dropped.
pub(super) struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// Starts the periodic work on files, the access log and bandwidth shares.
    pub(super) fn start(
        files: Files,
        access_log: AccessLog,
        limits: Limits,
        reloads: &ReloadRequests,
    ) -> Self {
        Self(vec![
            actix_rt::spawn(maintain_files(files, reloads.clone())),
            actix_rt::spawn(maintain_access_log(access_log, reloads.clone())),
            actix_rt::spawn(async move { limits.bandwidth.share().await }),
        ])
    }

    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.0.push(actix_rt::spawn(task));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Follows inotify, maintains the caches once a second, and requests new redirects when the document root was replaced.
async fn maintain_files(files: Files, reloads: ReloadRequests) {
    let mut ticks = ticks();
    let maintaining = async {
        loop {
            ticks.tick().await;
            files.maintain().await;
        }
    };
    let checking_root = async {
        loop {
            tokio::time::sleep(files.shared.root_monitor.interval()).await;
            if files.check_root().await {
                reloads.request_redirects();
            }
        }
    };
    tokio::join!(files.listen(), maintaining, checking_root);
}

/// Reopens the access log on request, and logs once a second how many of its lines were lost.
async fn maintain_access_log(access_log: AccessLog, reloads: ReloadRequests) {
    let mut ticks = ticks();
    let logging_losses = async {
        loop {
            ticks.tick().await;
            access_log.report_losses(Instant::now());
        }
    };
    let reopening = async {
        loop {
            reloads.reopen_requested().await;
            access_log.reopen();
        }
    };
    tokio::join!(logging_losses, reopening);
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);
