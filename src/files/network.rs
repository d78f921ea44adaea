//! File systems that are treated with care: network, user-space and overlay file systems.

use std::os::fd::BorrowedFd;

use super::Storage;

/// Kind of the file system that a file is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystemKind {
    /// On a disk or in the memory of this machine.
    Local,
    /// Layers may change without an inotify event.
    Overlay,
    /// Network, cluster or user-space, or unknown: its pages may go away with a server elsewhere, and metadata in memory may be
    /// out of date. Files are read, not mapped, and checked off the workers only. Always safe, and slower than the others.
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
        storage.fstatfs(file).map_or(Self::Remote, |stat| Self::of_magic(stat.f_type as u32))
    }

    fn of_magic(magic: u32) -> Self {
        match magic {
            OVERLAY => Self::Overlay,
            _ if LOCAL.contains(&magic) => Self::Local,
            _ => Self::Remote,
        }
    }
}

const OVERLAY: u32 = 0x794c_7630;

/// The magic numbers of statfs(2). File systems that are not listed may be on another machine.
const LOCAL: [u32; 21] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0xf2f5_2010, // F2FS
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
    0x28cd_3d45, // cramfs
    0x9660,      // ISO 9660
    0x1501_3346, // UDF
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS
    0x4244,      // HFS
    0x482b,      // HFS+
];

#[cfg(test)]
mod tests {
    use super::FileSystemKind::{Local, Overlay, Remote};
    use super::*;

    #[test]
    fn file_systems_are_remote_unless_they_are_known_to_be_local() {
        for (name, magic, expected) in [
            ("ext4", 0xef53, Local),
            ("XFS", 0x5846_5342, Local),
            ("Btrfs", 0x9123_683e, Local),
            ("ZFS", 0x2fc1_2fc1, Local),
            ("tmpfs", 0x0102_1994, Local),
            ("OverlayFS", 0x794c_7630, Overlay),
            ("NFS", 0x6969, Remote),
            ("SMB", 0x517b, Remote),
            ("CIFS", 0xff53_4d42, Remote),
            ("SMB2", 0xfe53_4d42, Remote),
            ("FUSE", 0x6573_5546, Remote),
            ("9p", 0x0102_1997, Remote),
            ("Ceph", 0x00c3_6400, Remote),
            ("OpenAFS", 0x5346_414f, Remote),
            ("kAFS", 0x6b41_4653, Remote),
            ("Coda", 0x7375_7245, Remote),
            ("Lustre", 0x0bd0_0bd0, Remote),
            ("GPFS", 0x4750_4653, Remote),
            ("BeeGFS", 0x1983_0326, Remote),
            ("OCFS2", 0x7461_636f, Remote),
            ("GFS2", 0x0116_1970, Remote),
            ("vboxsf", 0x786f_4256, Remote),
            ("unknown", 0x1234_5678, Remote),
        ] {
            assert_eq!(FileSystemKind::of_magic(magic), expected, "{name}");
        }
    }
}
