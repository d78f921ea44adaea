//! Checksums of versions: computed once, off the workers, and remembered.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::storage::Storage;
use super::version::Version;
use crate::files::counters::{CacheCounters, CacheCounts};
use crate::files::read_exact::fill;
use crate::http::digest::Algorithm;

/// A checksum's bytes.
pub(crate) type Digest = Arc<[u8]>;

/// Checksums by version. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct Digests {
    known: Cache<(Version, Algorithm), Digest, foldhash::fast::RandomState>,
    tally: Arc<CacheCounters>,
}

/// Checksums of one asset, as they become known.
#[derive(Default)]
pub(crate) struct KnownDigests {
    sha256: DigestSlot,
    sha512: DigestSlot,
    /// Whether the file is what its checksum beside it says, once that is known.
    pub(crate) is_verified: OnceLock<bool>,
    /// The turn to find that out: others wait for whoever has it.
    pub(crate) verifying: tokio::sync::Mutex<()>,
}

/// A place for one checksum.
#[derive(Default)]
struct DigestSlot {
    digest: OnceLock<Digest>,
    is_being_computed: AtomicBool,
    has_failed: AtomicBool,
    computed: Notify,
}

impl Digests {
    /// Remembers `count` checksums.
    pub(crate) fn new(count: u64) -> Self {
        let tally = Arc::<CacheCounters>::default();
        let evicted = Arc::clone(&tally);
        let known = Cache::builder()
            .max_capacity(count)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, _, cause| {
                if cause.was_evicted() {
                    evicted.evicted();
                }
            });
        Self { known: known.build_with_hasher(foldhash::fast::RandomState::default()), tally }
    }

    pub(crate) fn get(&self, version: &Version, algorithm: Algorithm) -> Option<Digest> {
        let digest = self.known.get(&(*version, algorithm));
        if digest.is_some() {
            self.tally.hit();
        }
        digest
    }

    pub(crate) fn put(&self, version: &Version, algorithm: Algorithm, digest: Digest) {
        self.known.insert((*version, algorithm), digest);
    }

    /// Forgets the checksums of a version.
    pub(crate) fn forget(&self, version: &Version) {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            self.known.invalidate(&(*version, algorithm));
        }
    }

    /// The checksum as it is remembered, or as `compute` finds it: once, however many ask. Blocks.
    ///
    /// # Errors
    /// Those of `compute`, which are not remembered.
    pub(crate) fn get_or_compute(
        &self,
        version: &Version,
        algorithm: Algorithm,
        compute: impl FnOnce() -> io::Result<Digest>,
    ) -> Result<Digest, Arc<io::Error>> {
        let mut is_hit = true;
        let digest = self.known.try_get_with((*version, algorithm), || {
            is_hit = false;
            compute()
        });
        if is_hit {
            self.tally.hit()
        } else {
            self.tally.miss()
        }
        digest
    }

    /// Checksums that are remembered.
    pub(crate) fn count(&self) -> u64 {
        self.known.entry_count()
    }

    /// What became of them.
    pub(crate) fn counts(&self) -> CacheCounts {
        self.tally.counts(self.known.entry_count())
    }

    pub(crate) fn tidy(&self) {
        self.known.run_pending_tasks();
    }
}

impl KnownDigests {
    pub(crate) fn get(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.slot(algorithm).digest.get()
    }

    pub(crate) fn set(&self, algorithm: Algorithm, digest: Digest) {
        // Whoever was first has set the same.
        let _ = self.slot(algorithm).digest.set(digest);
    }

    /// Whether the caller is the one to compute the checksum now.
    pub(crate) fn begin(&self, algorithm: Algorithm) -> bool {
        !self.slot(algorithm).is_being_computed.swap(true, Ordering::AcqRel)
    }

    /// Notes whether it was the disk that failed the computing which is to end.
    pub(crate) fn fail(&self, algorithm: Algorithm, has_failed: bool) {
        self.slot(algorithm).has_failed.store(has_failed, Ordering::Release);
    }

    /// Whether the disk failed the last computing.
    pub(crate) fn has_failed(&self, algorithm: Algorithm) -> bool {
        self.slot(algorithm).has_failed.load(Ordering::Acquire)
    }

    /// The computing has ended, with a checksum or without.
    pub(crate) fn end(&self, algorithm: Algorithm) {
        let slot = self.slot(algorithm);
        slot.is_being_computed.store(false, Ordering::Release);
        slot.computed.notify_waiters();
    }

    /// The next end of a computing.
    pub(crate) fn computed(&self, algorithm: Algorithm) -> Notified<'_> {
        self.slot(algorithm).computed.notified()
    }

    fn slot(&self, algorithm: Algorithm) -> &DigestSlot {
        match algorithm {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Sha512 => &self.sha512,
        }
    }
}

/// The checksum of bytes in memory.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Sha256::digest(bytes).as_slice().into(),
        Algorithm::Sha512 => Sha512::digest(bytes).as_slice().into(),
    }
}

/// The checksum of the first `length` bytes of a file, read into memory of our own. Blocks.
///
/// # Errors
/// What the disk says, or that the file is shorter.
pub(crate) fn digest_file(
    storage: &dyn Storage,
    algorithm: Algorithm,
    file: BorrowedFd<'_>,
    length: u64,
) -> io::Result<Digest> {
    match algorithm {
        Algorithm::Sha256 => hash(Sha256::new(), storage, file, length),
        Algorithm::Sha512 => hash(Sha512::new(), storage, file, length),
    }
}

fn hash(
    mut hasher: impl sha2::Digest,
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    length: u64,
) -> io::Result<Digest> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < length {
        let room = usize::try_from(length - at).map_or(BUFFER, |left| left.min(BUFFER));
        let read = fill(storage, file, &mut buffer[..room], at)?;
        if read < room {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
    Ok(hasher.finalize().as_slice().into())
}

const BUFFER: usize = 256 * 1024;
