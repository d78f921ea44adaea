//! Names: what a path led to, and when that was last checked.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Asset, CacheRef};
use crate::files::policy::PathPolicy;
use crate::http::target::SitePath;

/// A path and what it last led to. Shared by the name cache and the path caches of the workers.
pub struct Name {
    pub(crate) path: SitePath<'static>,
    pub(crate) outcome: PathOutcome<CacheRef<Asset>>,
    pub(crate) policy: Arc<PathPolicy>,
    pub(crate) is_watched: bool,
    pub(crate) is_remote: bool,
    /// Generation of the settings that the path was looked up under.
    pub(crate) generation: u64,
    /// Time for which a check is trusted.
    trust_ms: u64,
    /// When the name was last checked; before [`CLOCK_START_MS`] if it was invalidated since.
    ///
    /// Decision: docs/decisions/015-name-trust.md.
    checked_ms: AtomicU64,
    touched_ms: AtomicU64,
    /// Requests for the name, and how many of them [`Self::take_uses`] has returned.
    uses: AtomicU64,
    uses_taken: AtomicU64,
    is_purged: AtomicBool,
}

/// Result of looking up a path on the disk.
pub(crate) struct NameResult {
    pub(crate) lookup: Lookup,
    /// The rules' settings for the path, whatever it leads to.
    pub(crate) policy: Arc<PathPolicy>,
    /// inotify reports every change of what the path leads to.
    pub(crate) is_watched: bool,
    /// Metadata in the kernel's memory may be out of date: a worker can't confirm the result.
    pub(crate) is_remote: bool,
}

/// What a path leads to, with a reference `F` to its file.
#[derive(Clone, Debug)]
pub enum PathOutcome<F> {
    /// A regular file that may be read.
    File(F),
    /// A directory: the caller decides how it is answered.
    Directory,
    /// Nothing, or nothing that is ever served: a FIFO, a symbolic link that leaves the root.
    Missing,
    /// The entry exists and may not be read.
    Forbidden,
    /// No handle, memory or table entry was available: true of the moment only.
    Busy,
    /// The disk or the file system failed; the log has the cause.
    Failed,
}

/// Result of a lookup for a request.
pub type Lookup = PathOutcome<Arc<Asset>>;

impl<F> PathOutcome<F> {
    /// The same outcome with another reference to the file.
    pub(crate) fn try_map<T, E>(&self, file: impl FnOnce(&F) -> Result<T, E>) -> Result<PathOutcome<T>, E> {
        Ok(match self {
            Self::File(known) => PathOutcome::File(file(known)?),
            Self::Directory => PathOutcome::Directory,
            Self::Missing => PathOutcome::Missing,
            Self::Forbidden => PathOutcome::Forbidden,
            Self::Busy => PathOutcome::Busy,
            Self::Failed => PathOutcome::Failed,
        })
    }

    /// The file, if it is one.
    pub(crate) fn into_file(self) -> Option<F> {
        match self {
            Self::File(file) => Some(file),
            _ => None,
        }
    }

    /// The outcome's name for operators.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Directory => "directory",
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

impl Name {
    /// The name of `path` as it was `found` at `checked_ms`, under the settings of `generation`, and to be trusted for
    /// `trust_ms`.
    pub(crate) fn new(
        path: SitePath<'static>,
        found: &NameResult,
        generation: u64,
        checked_ms: u64,
        trust_ms: u64,
    ) -> Self {
        let is_transient = matches!(found.lookup, Lookup::Busy | Lookup::Failed);
        let checked_ms = if is_transient { NEVER } else { checked_ms };
        let Ok(outcome) = found.lookup.try_map(|asset| Ok::<_, Infallible>(asset.cache_ref()));
        Self {
            path,
            outcome,
            policy: Arc::clone(&found.policy),
            is_watched: found.is_watched,
            is_remote: found.is_remote,
            generation,
            trust_ms,
            checked_ms: AtomicU64::new(checked_ms),
            touched_ms: AtomicU64::new(checked_ms),
            uses: AtomicU64::new(0),
            uses_taken: AtomicU64::new(0),
            is_purged: AtomicBool::new(false),
        }
    }

    /// The result as it was last known; `None` if its asset was evicted.
    pub(crate) fn lookup(&self) -> Option<Lookup> {
        self.outcome.try_map(|asset| asset.get().ok_or(())).ok()
    }

    /// The file that the path led to, if it is one and its asset is still in memory.
    pub(crate) fn file(&self) -> Option<Arc<Asset>> {
        self.lookup()?.into_file()
    }

    /// Bytes that the name takes in its cache, with those of an asset that no other cache counts.
    pub(crate) fn bytes(&self) -> u64 {
        let asset = match &self.outcome {
            PathOutcome::File(file) => file.kept.as_ref().map_or(0, |asset| asset.heap_bytes()),
            _ => 0,
        };
        (size_of::<Self>() + self.path.as_bytes().len() + CACHE_ENTRY_BYTES + asset) as u64
    }

    /// Whether the last check was so shortly before `now_ms` that it still holds, and after `invalidated_until_ms`.
    pub(crate) fn is_trusted(&self, now_ms: u64, invalidated_until_ms: u64) -> bool {
        let since = now_ms.saturating_sub(self.trust_ms).max(invalidated_until_ms);
        self.checked_at() > since
    }

    /// When the name was last checked, in milliseconds; before the clock's start if the next use checks it.
    pub(crate) fn checked_at(&self) -> u64 {
        self.checked_ms.load(Ordering::Acquire)
    }

    /// Records a successful check at `now_ms`, unless the name was invalidated since it was last `checked_ms`.
    pub(crate) fn confirm(&self, checked_ms: u64, now_ms: u64) {
        let _ = self.checked_ms.compare_exchange(checked_ms, now_ms, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Makes the next use check the name.
    pub(crate) fn invalidate(&self) {
        // Another number each time, so that a check that runs now does not take this for the state that it began with.
        let next = |checked_ms| Some(if checked_ms < CLOCK_START_MS { checked_ms + 1 } else { NEVER });
        let _ = self.checked_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// Makes the next use look the path up again, whatever a check says.
    pub(crate) fn purge(&self) {
        self.is_purged.store(true, Ordering::Release);
        self.invalidate();
    }

    /// Whether the name was purged. A trusted one never was.
    pub(crate) fn is_purged(&self) -> bool {
        self.is_purged.load(Ordering::Acquire)
    }

    /// Counts `requests` more requests for the name.
    pub(crate) fn add_uses(&self, requests: u64) {
        self.uses.fetch_add(requests, Ordering::Relaxed);
    }

    /// Requests for the name, without those that workers have not added yet.
    pub(crate) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Requests for the name since the last call.
    pub(crate) fn take_uses(&self) -> u64 {
        let uses = self.uses();
        uses.saturating_sub(self.uses_taken.swap(uses, Ordering::Relaxed))
    }

    /// Whether the caches should record this use: once in a while is enough to keep a hot entry from being evicted.
    pub(crate) fn is_due_for_touch(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.touched_ms.load(Ordering::Relaxed)) >= TOUCH_EVERY_MS
    }

    /// When the caches last recorded a use.
    pub(crate) fn last_touch(&self) -> u64 {
        self.touched_ms.load(Ordering::Relaxed)
    }

    /// Records that the caches record a use at `now_ms`.
    pub(crate) fn touched(&self, now_ms: u64) {
        self.touched_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// Before every time of the cache's clock, which starts at [`CLOCK_START_MS`].
const NEVER: u64 = 0;

/// Start of the cache's clock, so that a name checked at once is younger than "never".
pub(crate) const CLOCK_START_MS: u64 = 1 << 40;

const TOUCH_EVERY_MS: u64 = 50;

/// What the cache keeps for each entry besides key and value: hash table, LRU list, entry info, reference counts.
const CACHE_ENTRY_BYTES: usize = 320;
