//! Saves the recently used files at a stop, and warms them at the next start.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::state_dir::StateDirectory;
use crate::lifecycle::warmup::warmer::Warmup;
use crate::sys::own_thread::run_on_own_thread;

/// The state directory, if one is configured, and the warm-up that reads from it. Cheap to clone.
///
/// Decision: docs/decisions/034-warm-restart.md.
#[derive(Clone)]
pub(crate) struct WarmupState {
    directory: Option<StateDirectory>,
    warmup: Warmup,
    timeout: Duration,
}

impl WarmupState {
    /// Opens the directory that `config` names.
    ///
    /// # Errors
    /// If it can't be written to, or lies in the document root, from which it would be served.
    pub(crate) fn open(config: &Config, warmup: Warmup) -> io::Result<Self> {
        let directory = config
            .continuity
            .state_dir
            .given()
            .map(|path| StateDirectory::open(path.as_path(), config.site.root.as_path()))
            .transpose()?;
        Ok(Self { directory, warmup, timeout: config.continuity.warm_timeout.get() })
    }

    /// Warms the files that were saved. Traffic is served meanwhile; readiness checks fail.
    pub(crate) async fn restore(&self, lifecycle: &Lifecycle) {
        let Some(directory) = self.directory.as_ref().filter(|_| !self.timeout.is_zero()) else { return };
        lifecycle.advance(Phase::Warming);
        let begun = Instant::now();
        let reading = async {
            // An operator may have requested a warm-up already.
            let turn = Arc::clone(&self.warmup.turn).lock_owned().await;
            let (directory, max) = (directory.clone(), self.warmup.max_files);
            let hot = run_on_own_thread(move || directory.read(max)).await.unwrap_or_default();
            self.warmup.warm(&hot, &turn).await;
            hot
        };
        let hot = tokio::time::timeout(self.timeout, reading).await;
        let counts = *self.warmup.progress.lock();
        let seconds = begun.elapsed().as_secs_f32();
        match hot {
            Ok(hot) if hot.is_empty() => {}
            Ok(_) => log::info!("warmup complete after {seconds:.1}s: {counts}"),
            Err(_) => log::warn!("warmup not complete after {seconds:.1}s, ready all the same: {counts}"),
        }
    }

    /// Saves the recently used files. If that takes too long, the ones that were saved before stay.
    pub(crate) async fn save(self) {
        let Some(directory) = self.directory else { return };
        let (files, max) = (self.warmup.files(), self.warmup.max_files);
        let writing = run_on_own_thread(move || directory.save(&files.hot_files(max)));
        if tokio::time::timeout(SAVE_TIMEOUT, writing).await.is_err() {
            log::warn!("the list of recently used files was not saved in time: the previous one stays");
        }
    }
}

/// How long a stop, or a successor, waits for the list to be written.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);
