//! Checksums of versions: computed once, off the workers, and remembered.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use moka::sync::Cache;
use sha2::{Digest as _, Sha256, Sha512};

use super::fill::fill;
use super::version::Version;
use crate::http::digest::Algorithm;

/// A checksum's bytes.
pub(crate) type Digest = Arc<[u8]>;

/// Checksums by version. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct Digests {
    known: Cache<(Version, Algorithm), Digest, foldhash::fast::RandomState>,
}

/// Checksums of one asset, as they become known.
#[derive(Default)]
pub(crate) struct KnownDigests {
    sha256: OnceLock<Digest>,
    sha512: OnceLock<Digest>,
    /// Whether the file is what its checksum beside it says, once that is known.
    pub(crate) is_verified: OnceLock<bool>,
}

impl Digests {
    /// Remembers `count` checksums.
    pub(crate) fn new(count: u64) -> Self {
        let known =
            Cache::builder().max_capacity(count).build_with_hasher(foldhash::fast::RandomState::default());
        Self { known }
    }

    pub(crate) fn get(&self, version: &Version, algorithm: Algorithm) -> Option<Digest> {
        self.known.get(&(*version, algorithm))
    }

    pub(crate) fn put(&self, version: &Version, algorithm: Algorithm, digest: Digest) {
        self.known.insert((*version, algorithm), digest);
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
        self.known.try_get_with((*version, algorithm), compute)
    }

    /// Checksums that are remembered.
    pub(crate) fn count(&self) -> u64 {
        self.known.entry_count()
    }

    pub(crate) fn tidy(&self) {
        self.known.run_pending_tasks();
    }
}

impl KnownDigests {
    pub(crate) fn get(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.slot(algorithm).get()
    }

    pub(crate) fn set(&self, algorithm: Algorithm, digest: Digest) {
        // Whoever was first has set the same.
        let _ = self.slot(algorithm).set(digest);
    }

    fn slot(&self, algorithm: Algorithm) -> &OnceLock<Digest> {
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
pub(crate) fn digest_file(algorithm: Algorithm, file: BorrowedFd<'_>, length: u64) -> io::Result<Digest> {
    match algorithm {
        Algorithm::Sha256 => hash(Sha256::new(), file, length),
        Algorithm::Sha512 => hash(Sha512::new(), file, length),
    }
}

fn hash(mut hasher: impl sha2::Digest, file: BorrowedFd<'_>, length: u64) -> io::Result<Digest> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < length {
        let room = usize::try_from(length - at).map_or(BUFFER, |left| left.min(BUFFER));
        let read = fill(file, &mut buffer[..room], at)?;
        if read < room {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
    Ok(hasher.finalize().as_slice().into())
}

const BUFFER: usize = 256 * 1024;
