//! Work on whole files, off the workers: digests, verification and encoding. Bytes are read with `pread` into a buffer, never
//! through a mapping.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::io::Errno;

use super::{
    Asset, CHECKSUM, Digest, Loader, RACY_WITHIN, RootEntry, Version, digest_file, digest_of, is_missing,
};
use crate::http::{checksum_file::expected_in, digest::Algorithm, encoding::Encoding, target::SitePath};
use crate::sys::compress::encode;

impl Loader {
    /// Computes the digest of an asset's bytes. Blocks.
    ///
    /// # Errors
    /// Those of the disk; ESTALE if the file has changed, EMFILE if no handle is available.
    pub(crate) fn digest(&self, asset: &Asset, algorithm: Algorithm) -> io::Result<Digest> {
        let digest = match asset.heap_body() {
            Some(bytes) => digest_of(algorithm, &bytes),
            None => {
                let compute = || {
                    self.read_version(asset, |file| {
                        digest_file(self.storage(), algorithm, file, asset.length)
                    })
                };
                let computed = self.tags.digests.get_or_compute(&asset.version, algorithm, compute);
                computed.map_err(|error| copy_of(&error))?
            }
        };
        asset.digests.set(algorithm, Arc::clone(&digest));
        Ok(digest)
    }

    /// Whether the asset matches its checksum sidecar. Blocks.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub(crate) fn verify(&self, asset: &Asset) -> io::Result<bool> {
        let Some(expected) = self.expected_digest(asset)? else {
            log::error!("/{}{CHECKSUM} has no checksum of its file: the file is not served", asset.path);
            return Ok(false);
        };
        let matches = *self.digest(asset, Algorithm::Sha256)? == expected;
        if !matches {
            log::error!("/{} does not match its checksum: it is not served", asset.path);
        }
        Ok(matches)
    }

    /// Encodes an asset; `None` if the variant is no shorter, or too long to keep. Blocks.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub(crate) fn encoded(&self, asset: &Asset, encoding: Encoding) -> io::Result<Option<Arc<Asset>>> {
        let bytes = match asset.heap_body() {
            Some(bytes) => encode(encoding, &bytes)?,
            None => {
                let read = |file: BorrowedFd<'_>| self.storage().read_whole(file, asset.length);
                encode(encoding, &self.read_version(asset, read)?)?
            }
        };
        let length = bytes.len() as u64;
        let is_kept = length < asset.length && length <= self.settings.variant_bytes();
        log::debug!(
            "/{}: {} bytes are {length} in {}{}",
            asset.path,
            asset.length,
            encoding.name(),
            if is_kept { "" } else { ", which is not kept" }
        );
        Ok(is_kept.then(|| self.encoded_variant(asset, encoding, &bytes)))
    }

    /// The SHA-256 that the checksum sidecar of `path` states; `None` without one, or if checksums are not verified, `Some(None)` if
    /// the sidecar does not mention its file. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn stated_checksum(&self, path: &SitePath<'_>) -> io::Result<Option<Option<[u8; 32]>>> {
        if !self.settings.verifies() {
            return Ok(None);
        }
        Ok(self.checksum_of(path)?.map(|(_, stated)| stated))
    }

    /// The version of the checksum sidecar of `path`, and the SHA-256 that it states.
    fn checksum_of(&self, path: &SitePath<'_>) -> io::Result<Option<(Version, Option<[u8; 32]>)>> {
        let (file, version) = match self.root.entry(&path.suffixed(CHECKSUM)) {
            Ok(RootEntry::File { file, stat, .. }) => (file, stat.version),
            Ok(_) => return Ok(None),
            Err(errno) if is_missing(errno) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if version.size > CHECKSUM_BYTES_MAX {
            return Ok(Some((version, None)));
        }
        let text = self.storage().read_whole(file.as_fd(), version.size)?;
        Ok(Some((version, expected_in(&text, path.file_name()))))
    }

    /// Result of `read` for the asset's file, if that is the same version before and after.
    fn read_version<T>(
        &self,
        asset: &Asset,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        if asset.version.is_racy(SystemTime::now()) {
            // A second write could still leave the same timestamps.
            std::thread::sleep(RACY_WITHIN);
        }
        let _permit = self.handles.try_permit().ok_or(Errno::MFILE)?;
        let file = match self.open_with_retry(&asset.path)? {
            RootEntry::File { file, stat, .. } if stat.version == asset.version => file,
            _ => return Err(Errno::STALE.into()),
        };
        let result = read(file.as_fd())?;
        let after = self.storage().fstat(file.as_fd())?.version;
        if after == asset.version { Ok(result) } else { Err(Errno::STALE.into()) }
    }

    fn expected_digest(&self, asset: &Asset) -> io::Result<Option<[u8; 32]>> {
        if asset.sidecars.checksum().is_some_and(|version| version.is_racy(SystemTime::now())) {
            // The verdict stays for as long as the checksum has this version.
            std::thread::sleep(RACY_WITHIN);
        }
        let _permit = self.handles.try_permit().ok_or(Errno::MFILE)?;
        match self.checksum_of(&asset.path)? {
            Some((version, stated)) if Some(version) == asset.sidecars.checksum() => Ok(stated),
            _ => Err(Errno::STALE.into()),
        }
    }
}

/// A copy of an error that several tasks get.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// A longer file is not taken for a checksum of one file.
const CHECKSUM_BYTES_MAX: u64 = 64 * 1024;
