//! File systems whose pages may go away with a server elsewhere.

use std::os::fd::BorrowedFd;

use super::storage::Storage;

/// Whether the file lives on a network or user-space file system: such files are read, not mapped.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    reason = "the field's type differs between architectures"
)]
pub(crate) fn is_remote(storage: &dyn Storage, file: BorrowedFd<'_>) -> bool {
    storage.fstatfs(file).is_ok_and(|stat| REMOTE.contains(&(stat.f_type as u32)))
}

/// Whether changes of the file are sure to be told by inotify: not where other machines or layers can make them.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_sign_loss,
    reason = "the field's type differs between architectures"
)]
pub(crate) fn tells_changes(storage: &dyn Storage, file: BorrowedFd<'_>) -> bool {
    storage.fstatfs(file).is_ok_and(|stat| {
        let magic = stat.f_type as u32;
        !REMOTE.contains(&magic) && magic != OVERLAY
    })
}

const OVERLAY: u32 = 0x794c_7630;

/// The magic numbers of statfs(2): NFS, SMB, CIFS, SMB2, FUSE, 9p, Ceph, AFS, Coda.
const REMOTE: [u32; 9] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
];
