//! Reads files into the caches.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::config::{Config, Dotfiles, ResolvedLimits};
use crate::files::Files;
use crate::files::warming::{HotFile, WarmResult};
use crate::lifecycle::warmup::capacity::CacheCapacity;
use crate::lifecycle::warmup::progress::WarmupCounts;
use crate::site::resolver::hides;

/// Reads files into memory before clients request them. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub(crate) struct Warmup {
    /// A warm-up under way goes on with the target before.
    pub(crate) target: Arc<ArcSwap<WarmupTarget>>,
    limits: ResolvedLimits,
    /// Number of files that are read at the same time.
    parallel: usize,
    /// Most files that are saved for the next start, or read on request.
    pub(crate) max_files: usize,
    /// Held during a warm-up.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    pub(crate) progress: Arc<Mutex<WarmupCounts>>,
}

/// The files that are served now.
pub(crate) struct WarmupTarget {
    pub(crate) files: Files,
    pub(crate) dotfiles: Dotfiles,
}

impl Warmup {
    pub(crate) fn new(files: Files, config: &Config, limits: &ResolvedLimits) -> Self {
        Self {
            target: Arc::new(ArcSwap::from_pointee(WarmupTarget { files, dotfiles: config.site.dotfiles })),
            limits: *limits,
            // The other threads are left to traffic.
            parallel: (config.sending.populate_threads.as_usize() / 2).max(1),
            max_files: config.continuity.warm_files.as_usize(),
            turn: Arc::default(),
            progress: Arc::default(),
        }
    }

    pub(crate) fn files(&self) -> Files {
        self.target.load().files.clone()
    }

    /// Reads `hot` files into memory in their order, several at the same time. `_turn` is held by the caller. Skips hidden
    /// files, and those for which the caches have no room: nothing is read that would evict what was read before it.
    pub(crate) async fn warm(&self, hot: &[HotFile], _turn: &OwnedMutexGuard<()>) {
        let (progress, target) = (&*self.progress, self.target.load_full());
        let WarmupTarget { files, dotfiles } = &*target;
        *progress.lock() = WarmupCounts { of: hot.len() as u64, ..WarmupCounts::default() };
        let mut capacity = CacheCapacity::new(&self.limits);
        let fitting = (0..).zip(hot).filter(|(_, hot)| {
            if hides(*dotfiles, &hot.path) {
                progress.lock().record(Some(WarmResult::Gone));
                return false;
            }
            let fits = capacity.take(files.charge(hot.length), hot.parts.bytes(hot.length));
            if !fits {
                progress.lock().record(None);
            }
            fits
        });
        let warming = stream::iter(fitting).for_each_concurrent(self.parallel, |(rank, hot)| async move {
            let result = files.warm(hot, rank).await;
            progress.lock().record(Some(result));
        });
        warming.await;
        files.rank_hot_files(hot).await;
    }
}
