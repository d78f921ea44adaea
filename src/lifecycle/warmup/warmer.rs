//! Reads files into the caches.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, Dotfiles, ResolvedLimits};
use crate::files::Files;
use crate::files::warming::{HotFile, WarmResult};
use crate::lifecycle::warmup::capacity::CacheCapacity;
use crate::lifecycle::warmup::progress::WarmupProgress;
use crate::site::resolver::hides;

/// Reads files into memory before clients request them. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub(crate) struct Warmup {
    target: Arc<ArcSwap<WarmupTarget>>,
    limits: ResolvedLimits,
    /// Number of files that are read at the same time.
    parallel: usize,
    /// Most files that are saved for the next start, or read on request.
    pub(crate) max_files: usize,
    /// Its one permit is held during a warmup.
    turn: Arc<Semaphore>,
    progress: Arc<WarmupProgress>,
}

/// The files that are served now.
struct WarmupTarget {
    files: Files,
    dotfiles: Dotfiles,
}

impl Warmup {
    pub(crate) fn new(files: Files, config: &Config, limits: &ResolvedLimits) -> Self {
        Self {
            target: Arc::new(ArcSwap::from_pointee(WarmupTarget { files, dotfiles: config.site.dotfiles })),
            limits: *limits,
            // The other threads are left to traffic.
            parallel: (config.sending.populate_threads.as_usize() / 2).max(1),
            max_files: config.continuity.warm_files.as_usize(),
            turn: Arc::new(Semaphore::new(1)),
            progress: Arc::default(),
        }
    }

    /// Replaces the files that are served; a warmup under way goes on with the ones before.
    pub(crate) fn set_target(&self, files: Files, dotfiles: Dotfiles) {
        self.target.store(Arc::new(WarmupTarget { files, dotfiles }));
    }

    pub(crate) fn files(&self) -> Files {
        self.target.load().files.clone()
    }

    pub(crate) fn dotfiles(&self) -> Dotfiles {
        self.target.load().dotfiles
    }

    /// The permit to warm files; `None` while another warmup is under way.
    pub(crate) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// Waits for the permit to warm files.
    pub(crate) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }

    /// Progress of the warmup under way, or of the last one.
    pub(crate) fn progress(&self) -> &Arc<WarmupProgress> {
        &self.progress
    }

    /// Reads `hot` files into memory in their order, several at the same time. `_permit` is the caller's permit. Skips hidden
    /// files, and those for which the caches have no room: nothing is read that would evict what was read before it.
    pub(crate) async fn warm(&self, hot: &[HotFile], _permit: &OwnedSemaphorePermit) {
        let (progress, target) = (&*self.progress, self.target.load_full());
        let WarmupTarget { files, dotfiles } = &*target;
        progress.begin(hot.len() as u64);
        let mut capacity = CacheCapacity::new(&self.limits);
        let fitting = (0..).zip(hot).filter(|(_, hot)| {
            if hides(*dotfiles, &hot.path) {
                progress.record(WarmResult::Gone);
                return false;
            }
            let fits = capacity.take(files.charge(hot.length), hot.parts.bytes(hot.length));
            if !fits {
                progress.record_left_out();
            }
            fits
        });
        let warming = stream::iter(fitting).for_each_concurrent(self.parallel, |(rank, hot)| async move {
            progress.record(files.warm(hot, rank).await);
        });
        warming.await;
        files.rank_hot_files(hot).await;
    }
}
