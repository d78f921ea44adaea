//! File systems that are treated with care: network, user-space and overlay file systems.

use std::os::fd::BorrowedFd;

use super::Storage;

/// Kind of the file system that a file is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystemKind {
    /// On a disk of this machine.
    Local,
    /// Layers may change without an inotify event.
    Overlay,
    /// Network or user-space, or unknown: its pages may go away with a server elsewhere, and metadata in memory may be out of
    /// date. Files are read, not mapped, and checked off the workers only.
    Remote,
}

impl FileSystemKind {
    /// The kind of the file system of an open file. Blocks.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the field's type differs between architectures"
    )]
    pub(crate) fn of(storage: &dyn Storage, file: BorrowedFd<'_>) -> Self {
        match storage.fstatfs(file).map(|stat| stat.f_type as u32) {
            Ok(OVERLAY) => Self::Overlay,
            Ok(magic) if !REMOTE.contains(&magic) => Self::Local,
            _ => Self::Remote,
        }
    }
}

const OVERLAY: u32 = 0x794c_7630;

/// The magic numbers of statfs(2): NFS, SMB, CIFS, SMB2, FUSE, 9p, Ceph, AFS, Coda.
const REMOTE: [u32; 9] =
    [0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997, 0x00c36400, 0x5346414f, 0x73757245];
