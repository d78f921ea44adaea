//! What is computed of a whole file, away from the workers: checksums and compressed forms. All of it reads with `pread` into
//! memory of its own, never through a mapping.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::asset::Asset;
use super::digests::{Digest, digest_file, digest_of};
use super::load::Loader;
use super::root::{RootEntry, leads_nowhere};
use super::storage::Storage;
use super::version::{RACY_WITHIN, Version};
use crate::files::read_exact::fill;
use crate::files::sidecars::CHECKSUM;
use crate::http::checksum_file::expected_in;
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;
use crate::sys::compress::encode;

impl Loader {
    /// The checksum of an asset's bytes. Blocks.
    ///
    /// # Errors
    /// What the disk says; ESTALE where the file has changed, EMFILE where no handle is to be had.
    pub(crate) fn digest(&self, asset: &Asset, algorithm: Algorithm) -> io::Result<Digest> {
        let digest = match asset.heap_body() {
            Some(bytes) => digest_of(algorithm, &bytes),
            None => {
                let compute = || {
                    self.read_still(asset, |file| {
                        digest_file(self.storage(), algorithm, file, asset.length())
                    })
                };
                let computed = self.tags.digests.get_or_compute(&asset.version, algorithm, compute);
                computed.map_err(|error| copy_of(&error))?
            }
        };
        asset.digests.set(algorithm, Arc::clone(&digest));
        Ok(digest)
    }

    /// Whether the asset is what the checksum beside it says. Blocks.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub(crate) fn verify(&self, asset: &Asset) -> io::Result<bool> {
        let Some(expected) = self.expected_digest(asset)? else {
            log::error!("/{}{CHECKSUM} holds no checksum of its file: the file is not served", asset.path);
            return Ok(false);
        };
        let is_right = *self.digest(asset, Algorithm::Sha256)? == expected;
        if !is_right {
            log::error!("/{} does not match its checksum: it is not served", asset.path);
        }
        Ok(is_right)
    }

    /// The asset's compressed form; none where it would be no shorter, or too long to keep. Blocks.
    ///
    /// # Errors
    /// As [`Self::digest`].
    pub(crate) fn compress(&self, asset: &Asset, coding: Encoding) -> io::Result<Option<Arc<Asset>>> {
        let coded = match asset.heap_body() {
            Some(bytes) => encode(coding, &bytes)?,
            None => encode(
                coding,
                &self.read_still(asset, |file| read_whole(self.storage(), file, asset.length()))?,
            )?,
        };
        let length = coded.len() as u64;
        let is_worth_it = length < asset.length() && length <= self.sizes.form_bytes;
        log::debug!(
            "/{}: {} bytes are {length} in {}{}",
            asset.path,
            asset.length(),
            coding.token(),
            if is_worth_it { "" } else { ", which is not kept" }
        );
        Ok(is_worth_it.then(|| self.made_form(asset, coding, &coded)))
    }

    /// What `read` finds in the asset's file, if that is the same version before and after.
    fn read_still<T>(
        &self,
        asset: &Asset,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        if asset.version.is_racy(SystemTime::now()) {
            // A second write could still leave the same timestamps.
            std::thread::sleep(RACY_WITHIN);
        }
        let _permit = self.handles.permit_now().ok_or(Errno::MFILE)?;
        let (file, _) = self.reopen(asset)?;
        let found = read(file.as_fd())?;
        let after = Version::of(&self.storage().fstat(file.as_fd())?);
        if after == asset.version { Ok(found) } else { Err(Errno::STALE.into()) }
    }

    fn expected_digest(&self, asset: &Asset) -> io::Result<Option<[u8; 32]>> {
        if asset.beside.checksum().is_some_and(|version| version.is_racy(SystemTime::now())) {
            // The verdict will stand for as long as the checksum has this version.
            std::thread::sleep(RACY_WITHIN);
        }
        let _permit = self.handles.permit_now().ok_or(Errno::MFILE)?;
        match self.root.entry(&asset.path.suffixed(CHECKSUM))? {
            RootEntry::File { file, stat, .. } if Some(Version::of(&stat)) == asset.beside.checksum() => {
                checksum_in(self.storage(), file.as_fd(), &stat, &asset.path)
            }
            _ => Err(Errno::STALE.into()),
        }
    }

    /// What the checksum beside `path` says, where checksums are heeded and there is one; `Some(None)` where it says
    /// nothing of its file. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn checksum_beside(&self, path: &SitePath<'_>) -> io::Result<Option<Option<[u8; 32]>>> {
        if !self.heeds_checksums {
            return Ok(None);
        }
        match self.root.entry(&path.suffixed(CHECKSUM)) {
            Ok(RootEntry::File { file, stat, .. }) => {
                checksum_in(self.storage(), file.as_fd(), &stat, path).map(Some)
            }
            Ok(_) => Ok(None),
            Err(errno) if leads_nowhere(errno) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a file of checksums says of the file at `path`.
fn checksum_in(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    stat: &Stat,
    path: &SitePath<'_>,
) -> io::Result<Option<[u8; 32]>> {
    let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if length > CHECKSUM_BYTES_MAX {
        return Ok(None);
    }
    let text = read_whole(storage, file, length)?;
    Ok(expected_in(&text, path.file_name()))
}

/// An error that others hear of as well.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

fn read_whole(storage: &dyn Storage, file: BorrowedFd<'_>, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    if fill(storage, file, &mut bytes, 0)? < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// A longer file holds no checksum of one file.
const CHECKSUM_BYTES_MAX: u64 = 64 * 1024;
