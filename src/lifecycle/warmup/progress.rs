//! What was hot stays hot: over a restart, and where an operator says so.
//!
//! | room     | what it knows                                                              |
//! |----------|----------------------------------------------------------------------------|
//! | `asking` | what is asked of a running server, and its answer                          |
//! | `record` | hot files as lines of text                                                 |
//! | `state`  | the directory in which they outlive a process                              |
//! | `memory` | what is written at a stop and read at a start                              |
//! | `room`   | how many of them the caches hold                                           |
//! | `walk`   | which files of a tree globs match                                          |
//! | `client` | `pagecast warm`: asks a running server                                     |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, Dotfiles, ResolvedLimits};
use crate::files::Files;
use crate::files::cache::warming::{HotFile, WarmResult};
use crate::lifecycle::warmup::capacity::CacheCapacity;
use crate::site::resolver::hides;

/// Reads files into memory before they are asked for. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct Warmup {
    view: Arc<ArcSwap<WarmupTarget>>,
    limits: ResolvedLimits,
    /// Files that are read at once.
    at_once: usize,
    /// Files that are remembered, or read on demand.
    pub(crate) most: usize,
    /// Only one warming is under way at any time.
    turn: Arc<Semaphore>,
    progress: Arc<WarmupProgress>,
}

/// What is served now.
struct WarmupTarget {
    files: Files,
    dotfiles: Dotfiles,
}

/// How far a warming is.
#[derive(Debug, Default)]
pub(crate) struct WarmupProgress {
    of: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
    gone: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
}

/// How far a warming was at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct WarmupCounts {
    /// Files that are to be read.
    pub(crate) of: u64,
    /// Files that are done with, whatever came of it.
    pub(crate) done: u64,
    /// Bytes that were read, or were in memory already.
    pub(crate) bytes: u64,
    /// Files that are not there, or not to be served.
    pub(crate) gone: u64,
    /// Files that could not be read.
    pub(crate) failed: u64,
    /// Files for which the caches have no room.
    pub(crate) left_out: u64,
}

impl Warmup {
    pub(crate) fn new(files: Files, config: &Config, limits: &ResolvedLimits) -> Self {
        Self {
            view: Arc::new(ArcSwap::from_pointee(WarmupTarget { files, dotfiles: config.site.dotfiles })),
            limits: *limits,
            // The others are left to traffic.
            at_once: (config.sending.populate_threads.as_usize() / 2).max(1),
            most: config.continuity.warm_files.as_usize(),
            turn: Arc::new(Semaphore::new(1)),
            progress: Arc::default(),
        }
    }

    /// From now on `files` are what is served; a warming under way goes on with those before.
    pub(crate) fn follow(&self, files: Files, dotfiles: Dotfiles) {
        self.view.store(Arc::new(WarmupTarget { files, dotfiles }));
    }

    pub(crate) fn files(&self) -> Files {
        self.view.load().files.clone()
    }

    pub(crate) fn dotfiles(&self) -> Dotfiles {
        self.view.load().dotfiles
    }

    /// The turn to warm; none while another warming is under way.
    pub(crate) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// The turn to warm, once no other warming is under way.
    pub(crate) async fn next_turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }

    /// How far the warming under way is, or the last one was.
    pub(crate) fn progress(&self) -> &Arc<WarmupProgress> {
        &self.progress
    }

    /// Reads `hot` files into memory in their order, several at once. `_turn` is the caller's turn. What is hidden is
    /// passed over, and so is what the caches have no room for: nothing is read that would push out what was read
    /// before it.
    pub(crate) async fn fetch(&self, hot: &[HotFile], _turn: &OwnedSemaphorePermit) {
        let (progress, view) = (&*self.progress, self.view.load_full());
        let WarmupTarget { files, dotfiles } = &*view;
        progress.begin(hot.len() as u64);
        let mut room = CacheCapacity::new(&self.limits);
        let fitting = (0..).zip(hot).filter(|(_, hot)| {
            if hides(*dotfiles, &hot.path) {
                progress.note(WarmResult::Gone);
                return false;
            }
            let fits = room.take(files.charge(hot.length), hot.parts.bytes(hot.length));
            if !fits {
                progress.left_out.fetch_add(1, Ordering::Relaxed);
                progress.done.fetch_add(1, Ordering::Relaxed);
            }
            fits
        });
        let fetching = stream::iter(fitting).for_each_concurrent(self.at_once, |(rank, hot)| async move {
            progress.note(files.warm(hot, rank).await);
        });
        fetching.await;
        files.rank(hot).await;
    }
}

impl WarmupProgress {
    pub(crate) fn counts(&self) -> WarmupCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WarmupCounts {
            of: load(&self.of),
            done: load(&self.done),
            bytes: load(&self.bytes),
            gone: load(&self.gone),
            failed: load(&self.failed),
            left_out: load(&self.left_out),
        }
    }

    fn begin(&self, of: u64) {
        for count in [&self.done, &self.bytes, &self.gone, &self.failed, &self.left_out] {
            count.store(0, Ordering::Relaxed);
        }
        self.of.store(of, Ordering::Relaxed);
    }

    fn note(&self, warmed: WarmResult) {
        match warmed {
            WarmResult::Read(bytes) => self.bytes.fetch_add(bytes, Ordering::Relaxed),
            WarmResult::Gone => self.gone.fetch_add(1, Ordering::Relaxed),
            WarmResult::Failed => self.failed.fetch_add(1, Ordering::Relaxed),
        };
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// As the log has it.
impl std::fmt::Display for WarmupCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { of, done, bytes, gone, failed, left_out } = self;
        write!(f, "{done} of {of} files, {bytes} bytes")?;
        for (count, what) in [(gone, "gone"), (failed, "failed"), (left_out, "without room")] {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}
