//! Digests of file versions: computed once, off the workers, and cached.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};
use tokio::sync::Notify;

use super::{CacheCounters, CacheCounts, Storage, Version};
use crate::http::digest::Algorithm;

/// Bytes of a digest.
pub(crate) type Digest = Arc<[u8]>;

/// Cache of digests by version. Clones share it.
#[derive(Clone)]
pub(crate) struct Digests {
    known: Cache<(Version, Algorithm), Digest, foldhash::fast::RandomState>,
    counters: Arc<CacheCounters>,
}

/// Digests of one asset, as they become known.
#[derive(Default)]
pub(crate) struct KnownDigests {
    slots: [DigestSlot; Algorithm::ALL.len()],
    /// Whether the file matches its checksum sidecar, once that is known.
    pub(crate) is_verified: OnceLock<bool>,
    /// Held by the request that verifies; others wait for it.
    pub(crate) verifying: tokio::sync::Mutex<()>,
}

/// One digest of an asset.
#[derive(Default)]
pub(crate) struct DigestSlot {
    pub(super) digest: OnceLock<Digest>,
    is_being_computed: AtomicBool,
    /// The disk failed the last computation.
    pub(super) has_failed: AtomicBool,
    /// Notifies at each end of a computation.
    pub(super) computed: Notify,
}

impl Digests {
    /// Holds at most `count` digests.
    pub(crate) fn new(count: u64) -> Self {
        let counters = Arc::<CacheCounters>::default();
        let known = Cache::builder()
            .max_capacity(count)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(counters.listener());
        Self { known: known.build_with_hasher(foldhash::fast::RandomState::default()), counters }
    }

    pub(crate) fn get(&self, version: &Version, algorithm: Algorithm) -> Option<Digest> {
        self.known.get(&(*version, algorithm)).inspect(|_| self.counters.hit())
    }

    pub(crate) fn put(&self, version: &Version, algorithm: Algorithm, digest: Digest) {
        self.known.insert((*version, algorithm), digest);
    }

    /// Removes the digests of a version.
    pub(crate) fn remove(&self, version: &Version) {
        for algorithm in Algorithm::ALL {
            self.known.invalidate(&(*version, algorithm));
        }
    }

    /// The cached digest, or the result of `compute`, which concurrent calls share. Blocks.
    ///
    /// # Errors
    /// Those of `compute`, which are not cached.
    pub(crate) fn get_or_compute(
        &self,
        version: &Version,
        algorithm: Algorithm,
        compute: impl FnOnce() -> io::Result<Digest>,
    ) -> Result<Digest, Arc<io::Error>> {
        let mut is_hit = true;
        let digest = self.known.try_get_with((*version, algorithm), || {
            is_hit = false;
            self.counters.miss();
            compute()
        });
        if is_hit {
            self.counters.hit();
        }
        digest
    }

    pub(crate) fn counts(&self) -> CacheCounts {
        self.counters.counts(self.known.entry_count())
    }

    /// Applies pending evictions.
    pub(crate) fn maintain(&self) {
        self.known.run_pending_tasks();
    }
}

impl KnownDigests {
    pub(crate) fn get(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.slot(algorithm).digest.get()
    }

    pub(crate) fn set(&self, algorithm: Algorithm, digest: Digest) {
        // If another thread was first, it has set the same.
        let _ = self.slot(algorithm).digest.set(digest);
    }

    pub(crate) fn slot(&self, algorithm: Algorithm) -> &DigestSlot {
        &self.slots[algorithm as usize]
    }
}

impl DigestSlot {
    /// Claims the computation for the caller; false if another task has it.
    pub(crate) fn begin(&self) -> bool {
        !self.is_being_computed.swap(true, Ordering::AcqRel)
    }

    /// Ends the computation, with a digest or without.
    pub(crate) fn end(&self) {
        self.is_being_computed.store(false, Ordering::Release);
        self.computed.notify_waiters();
    }
}

/// Digest of bytes in memory.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = hasher(algorithm);
    hasher.update(bytes);
    hasher.finalize().into()
}

/// Digest of the first `length` bytes of a file, read into a buffer. Blocks.
///
/// # Errors
/// Those of the disk; `UnexpectedEof` if the file is shorter.
pub(crate) fn digest_file(
    storage: &dyn Storage,
    algorithm: Algorithm,
    file: BorrowedFd<'_>,
    length: u64,
) -> io::Result<Digest> {
    let mut hasher = hasher(algorithm);
    if storage.read_chunks(file, 0..length, BUFFER, |bytes| hasher.update(bytes))? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(hasher.finalize().into())
}

fn hasher(algorithm: Algorithm) -> Box<dyn DynDigest> {
    match algorithm {
        Algorithm::Sha256 => Box::new(Sha256::default()),
        Algorithm::Sha512 => Box::new(Sha512::default()),
    }
}

const BUFFER: usize = 256 * 1024;
