//! What is hot outlives the process, where that is wanted.

use std::io;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::progress::Warmup;
use crate::lifecycle::warmup::state_dir::StateDirectory;

/// The directory that is written and read, and what is warmed from it. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct WarmupState {
    state: Option<StateDirectory>,
    warmth: Warmup,
    timeout: Duration,
}

impl WarmupState {
    /// Opens the directory that `config` names.
    ///
    /// # Errors
    /// Where it can't be written to, or what is written there would be served.
    pub(crate) fn open(config: &Config, warmth: Warmup) -> io::Result<Self> {
        let state = config
            .continuity
            .state_dir
            .given()
            .map(|path| StateDirectory::open(path.as_path(), config.site.root.as_path()))
            .transpose()?;
        Ok(Self { state, warmth, timeout: config.continuity.warm_timeout.get() })
    }

    /// Reads what was hot before, while traffic is served already and readiness denied.
    pub(crate) async fn recall(&self, lifecycle: &Lifecycle) {
        let Some(state) = self.state.as_ref().filter(|_| !self.timeout.is_zero()) else { return };
        lifecycle.advance(Phase::Warming);
        let begun = Instant::now();
        let reading = async {
            // Somebody else may be warming already, on demand.
            let turn = self.warmth.next_turn().await;
            let hot = state.read(self.warmth.most).await;
            if let Some(turn) = turn {
                self.warmth.fetch(&hot, &turn).await;
            }
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

    /// Writes what is hot now, unless that takes too long: then what was remembered before stays.
    pub(crate) async fn remember_in_time(self) {
        let Some(state) = &self.state else { return };
        let files = self.warmth.files();
        let writing = state.write(&files, self.warmth.most);
        if tokio::time::timeout(REMEMBER_TIMEOUT, writing).await.is_err() {
            log::warn!("what is hot was not written in time: what was remembered before stays");
        }
    }
}

/// How long a stop, or a successor, waits for what is hot to be written.
const REMEMBER_TIMEOUT: Duration = Duration::from_secs(5);
