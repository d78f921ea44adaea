//! The bytes of a planned file, as long as it is what it was.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::fstat;

use super::STEP;
use super::plan::Planned;
use crate::files::fill::fill;
use crate::files::root::{Entry, Root};
use crate::files::version::{Version, links_of};
use crate::http::target::SitePath;

/// An open file of the plan, and how much of it has been read.
pub(super) struct Source {
    file: OwnedFd,
    version: Version,
    links: u64,
    at: u64,
    path: SitePath<'static>,
}

impl Source {
    /// Opens the file, if it is the version that was planned. Blocks.
    pub(super) fn open(root: &Root, planned: &Planned) -> io::Result<Self> {
        match root.entry(&planned.path) {
            Ok(Entry::File { file, stat, .. }) if Version::of(&stat) == planned.version => Ok(Self {
                file,
                version: planned.version,
                links: links_of(&stat),
                at: 0,
                path: planned.path.clone(),
            }),
            Ok(_) => Err(changed(&planned.path)),
            Err(error) => Err(io::Error::other(format!("/{}: {error}", planned.path))),
        }
    }

    /// Appends the next bytes, at most [`STEP`] of them; returns how many there were, 0 at the end. Blocks.
    ///
    /// The end is reached only by a file that is still the version that was planned: what was appended is then one version.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let left = self.version.size() - self.at;
        let length = usize::try_from(left).map_or(STEP, |left| left.min(STEP));
        if length == 0 {
            return if self.is_unchanged()? { Ok(0) } else { Err(changed(&self.path)) };
        }
        let start = out.len();
        out.resize(start + length, 0);
        let room = out.get_mut(start..).unwrap_or_default();
        if fill(self.file.as_fd(), room, self.at)? < length {
            return Err(changed(&self.path));
        }
        self.at += length as u64;
        Ok(length)
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        Ok(self.version.still_is(self.links, &fstat(&self.file)?))
    }
}

fn changed(path: &SitePath<'_>) -> io::Error {
    io::Error::other(format!("/{path} changed while it was archived"))
}
