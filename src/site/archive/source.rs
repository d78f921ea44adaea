//! Reads a planned file, as long as it is still the planned version.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::plan::Planned;
use crate::files::faults::fault_of;
use crate::files::root::RootEntry;
use crate::files::storage::Storage;
use crate::files::version::FileStat;
use crate::files::{Fault, Files};
use crate::http::target::SitePath;

/// An open file of the plan, and the number of bytes read so far.
///
/// Decision: docs/decisions/024-broken-archives.md.
pub(super) struct PlannedFileReader {
    storage: Arc<dyn Storage>,
    file: OwnedFd,
    stat: FileStat,
    at: u64,
    path: SitePath<'static>,
    /// The digest that the checksum file states, and the hash of the bytes so far.
    check: Option<([u8; 32], Sha256)>,
}

impl PlannedFileReader {
    /// Opens the file if it is the planned version. Blocks.
    pub(super) fn open(files: &Files, planned: &Planned) -> io::Result<Self> {
        let stated = files.loader.stated_checksum(&planned.path);
        let check = match stated.map_err(|error| named(&planned.path, error))? {
            None => None,
            Some(Some(expected)) => Some((expected, Sha256::new())),
            Some(None) => return Err(mismatch(&planned.path)),
        };
        match files.loader.root.entry(&planned.path) {
            Ok(RootEntry::File { file, stat, .. }) if stat.version == planned.version => Ok(Self {
                storage: Arc::clone(&files.loader.root.storage),
                file,
                stat,
                at: 0,
                path: planned.path.clone(),
                check,
            }),
            Ok(_) => Err(changed(&planned.path)),
            Err(errno) => Err(named(&planned.path, errno)),
        }
    }

    /// Appends the next bytes, at most [`STEP`] of them; returns how many there were, 0 at the end. Blocks.
    ///
    /// The end is reached only if the file is still the planned version and, if files are verified, matches its checksum file: the
    /// appended bytes are then one version.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let left = self.stat.version.size - self.at;
        let length = usize::try_from(left).map_or(STEP, |left| left.min(STEP));
        if length == 0 {
            return self.finish().map(|()| 0);
        }
        let start = out.len();
        out.resize(start + length, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        let filled = self.storage.read_full(self.file.as_fd(), room, self.at);
        if filled.map_err(|error| named(&self.path, error))? < length {
            return Err(changed(&self.path));
        }
        if let Some((_, hasher)) = &mut self.check {
            hasher.update(room);
        }
        self.at += length as u64;
        Ok(length)
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.stat.has_same_bytes(&self.storage.fstat(self.file.as_fd())?) {
            return Err(changed(&self.path));
        }
        let Some((expected, hasher)) = self.check.take() else { return Ok(()) };
        if *hasher.finalize() == expected { Ok(()) } else { Err(mismatch(&self.path)) }
    }
}

/// Bytes of a file that are read at once.
pub(super) const STEP: usize = 128 * 1024;

/// A system error with the name of the file; `ResourceBusy` for a shortage that may pass.
fn named(path: &SitePath<'_>, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    let is_short = error.raw_os_error().is_some_and(|code| fault_of(code, Fault::Read).1);
    let kind = if is_short { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
    io::Error::new(kind, format!("/{path}: {error}"))
}

fn mismatch(path: &SitePath<'_>) -> io::Error {
    io::Error::other(format!("/{path} does not match its checksum"))
}

/// Reported like a stale handle: the planned version is gone.
fn changed(path: &SitePath<'_>) -> io::Error {
    let words = format!("/{path} changed while it was archived");
    io::Error::new(io::ErrorKind::StaleNetworkFileHandle, words)
}
