//! Tasks that run beside the workers for as long as the server does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::files::Files;
use crate::lifecycle::ReloadRequests;
use crate::site::settings::SiteSettings;
use crate::telemetry::access_log::shared::AccessLog;

/// Starts the periodic work on files, the access log and bandwidth shares. It ends when the tasks are dropped.
pub(super) fn start(
    site: &SiteSettings,
    access_log: Arc<AccessLog>,
    reloads: &ReloadRequests,
) -> JoinSet<()> {
    let limits = site.limits.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn_local(maintain_files(site.files.clone(), reloads.clone()));
    tasks.spawn_local(maintain_access_log(access_log, reloads.clone()));
    tasks.spawn_local(async move { limits.bandwidth.share().await });
    tasks
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
                reloads.redirects.notify_one();
            }
        }
    };
    tokio::join!(files.listen(), maintaining, checking_root);
}

/// Reopens the access log on request, and logs once a second how many of its lines were lost.
async fn maintain_access_log(access_log: Arc<AccessLog>, reloads: ReloadRequests) {
    let mut ticks = ticks();
    let logging_losses = async {
        loop {
            ticks.tick().await;
            access_log.report_losses(Some(Instant::now()));
        }
    };
    let reopening = async {
        loop {
            reloads.reopen.notified().await;
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
