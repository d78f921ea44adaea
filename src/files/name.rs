//! What is known of one name, and since when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::asset::Asset;
use super::version::Version;
use crate::config::policy::rules::PathPolicy;
use crate::files::cache_ref::CacheRef;
use crate::http::target::SitePath;

/// A name's last known outcome. Shared by the cache of names and the workers' own short cuts to it.
pub struct Name {
    pub(crate) path: SitePath<'static>,
    pub(crate) outcome: NameOutcome,
    /// What the site says of the path, whatever stands there.
    pub(crate) policy: Arc<PathPolicy>,
    /// Every change of the name is told by the kernel.
    pub(crate) is_told_of: bool,
    /// Of the settings under which it was looked up.
    pub(crate) generation: u64,
    /// How long the outcome is trusted after it was checked.
    trust_ms: u64,
    checked_ms: AtomicU64,
    touched_ms: AtomicU64,
    /// Requests that asked for it, and how many of them were there when somebody last took account.
    uses: AtomicU64,
    uses_taken: AtomicU64,
    is_purged: AtomicBool,
}

/// A moment at which a name was checked, or that it was doubted since.
#[derive(Clone, Copy)]
pub(crate) struct TrustState(u64);

impl TrustState {
    /// Whether somebody saw the name change since, or anything may have at `distrusted_until_ms`.
    pub(crate) fn is_doubted(self, distrusted_until_ms: u64) -> bool {
        self.0 < FIRST_MS || self.0 <= distrusted_until_ms
    }
}

/// What a name led to.
pub(crate) enum NameOutcome {
    File {
        version: Version,
        asset: CacheRef<Asset>,
    },
    Directory,
    Missing,
    Forbidden,
    /// No handle, memory or table entry was to be had: true of the moment only.
    Busy,
    Failed,
}

/// What a request gets for its name.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A regular file that may be read.
    File(Arc<Asset>),
    /// A directory: the caller decides what that means.
    Directory,
    /// Nothing, or nothing that is ever served: a fifo, a link that leads out.
    Missing,
    /// It exists and may not be read.
    Forbidden,
    /// Out of handles or memory for now.
    Busy,
    /// The disk or the file system failed; the log says how.
    Failed,
}

impl Name {
    pub(crate) fn new(
        path: SitePath<'static>,
        outcome: NameOutcome,
        policy: Arc<PathPolicy>,
        is_told_of: bool,
        generation: u64,
        checked_ms: u64,
        trust_ms: u64,
    ) -> Self {
        let checked_ms = if outcome.is_transient() { NEVER } else { checked_ms };
        let (checked_ms, touched_ms) = (AtomicU64::new(checked_ms), AtomicU64::new(checked_ms));
        Self {
            path,
            outcome,
            policy,
            is_told_of,
            generation,
            trust_ms,
            checked_ms,
            touched_ms,
            uses: AtomicU64::new(0),
            uses_taken: AtomicU64::new(0),
            is_purged: AtomicBool::new(false),
        }
    }

    /// The answer as it was last known, if its asset is still held by somebody.
    pub(crate) fn lookup(&self) -> Option<Lookup> {
        Some(match &self.outcome {
            NameOutcome::File { asset, .. } => Lookup::File(asset.get()?),
            NameOutcome::Directory => Lookup::Directory,
            NameOutcome::Missing => Lookup::Missing,
            NameOutcome::Forbidden => Lookup::Forbidden,
            NameOutcome::Busy => Lookup::Busy,
            NameOutcome::Failed => Lookup::Failed,
        })
    }

    /// Whether the outcome was checked so shortly before `now_ms` that it still holds, and after `distrusted_until_ms`
    /// (moments on the cache's own clock).
    pub(crate) fn is_trusted(&self, now_ms: u64, distrusted_until_ms: u64) -> bool {
        let since = now_ms.saturating_sub(self.trust_ms).max(distrusted_until_ms);
        self.checked_ms.load(Ordering::Acquire) > since
    }

    /// When the outcome was last checked.
    pub(crate) fn checked(&self) -> TrustState {
        TrustState(self.checked_ms.load(Ordering::Acquire))
    }

    /// The outcome, which was last checked at `before`, has been checked again, unless somebody saw it change meanwhile.
    pub(crate) fn confirm(&self, before: TrustState, now_ms: u64) {
        let _ = self.checked_ms.compare_exchange(before.0, now_ms, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Somebody saw the name change.
    pub(crate) fn distrust(&self) {
        // Another number each time, so that a check under way does not take this for what it knew before.
        let doubt = |checked_ms| Some(if checked_ms < FIRST_MS { checked_ms + 1 } else { NEVER });
        let _ = self.checked_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, doubt);
    }

    /// Nothing that is known of it holds any more, whatever a check says.
    pub(crate) fn purge(&self) {
        self.is_purged.store(true, Ordering::Release);
        self.distrust();
    }

    /// Whether it was purged. Only what is not trusted needs to be asked.
    pub(crate) fn is_purged(&self) -> bool {
        self.is_purged.load(Ordering::Acquire)
    }

    /// So many more requests have asked for it.
    pub(crate) fn used(&self, requests: u64) {
        self.uses.fetch_add(requests, Ordering::Relaxed);
    }

    /// How many requests have asked for it, but for those that workers have yet to tell of.
    pub(crate) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// How many requests have asked for it since this was last called.
    pub(crate) fn take_uses(&self) -> u64 {
        let uses = self.uses();
        uses.saturating_sub(self.uses_taken.swap(uses, Ordering::Relaxed))
    }

    /// When it was last checked, or a moment before the clock began.
    pub(crate) fn checked_at(&self) -> u64 {
        self.checked_ms.load(Ordering::Relaxed)
    }

    /// Whether the caches ought to hear of this use: once in a while is enough to keep a hot entry from the cold end.
    pub(crate) fn is_due_for_touch(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.touched_ms.load(Ordering::Relaxed)) >= TOUCH_EVERY_MS
    }

    /// When the caches last heard of a use.
    pub(crate) fn last_touch(&self) -> u64 {
        self.touched_ms.load(Ordering::Relaxed)
    }

    /// The caches hear of this use now.
    pub(crate) fn touched(&self, now_ms: u64) {
        self.touched_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl NameOutcome {
    /// As operators are told it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Directory => "directory",
            Self::Missing => "missing",
            Self::Forbidden => "forbidden",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Failed)
    }
}

/// Before every moment of the cache's clock, which starts at [`FIRST_MS`].
const NEVER: u64 = 0;

/// Where the cache's clock starts, so that a name checked at once is younger than "never".
pub(crate) const FIRST_MS: u64 = 1 << 40;

const TOUCH_EVERY_MS: u64 = 50;
