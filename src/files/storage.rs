//! Every call that may touch a disk, as a trait: a test or a benchmark can put a slow, dying or faulty disk beneath an ordinary
//! server.
//!
//! [`SystemStorage`] makes the calls of the operating system. Two test doubles wrap another storage and can be stacked:
//! `Slow` has a page cache and a speed of its own, `Faulty` fails, hangs and records calls. They are compiled for tests and
//! with the feature `test-doubles` only.

#[cfg(any(test, feature = "test-doubles"))]
mod faulty;
#[cfg(any(test, feature = "test-doubles"))]
mod slow;

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Advice, AtFlags, Mode, OFlags, ResolveFlags, StatFs, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

#[cfg(any(test, feature = "test-doubles"))]
pub use self::faulty::{Call, Faulty, InjectedFault, RecordedCall, When};
#[cfg(any(test, feature = "test-doubles"))]
pub use self::slow::Slow;
pub use super::version::FileStat;
pub use crate::sys::kernel::Mapping;

/// Disk calls of the server. Each is made by default as [`SystemStorage`] makes it: an implementation overrides only what
/// differs.
///
/// Calls come from many threads at once. Those marked as made by workers must not wait for a disk or a file server.
pub trait Storage: Send + Sync {
    /// Opens `name`, relative to `directory`: by `openat2` if `resolve` is given, else by `openat`.
    ///
    /// A worker makes this call with `ResolveFlags::CACHED` only, which returns EAGAIN instead of waiting.
    ///
    /// # Errors
    /// Those of openat2(2).
    fn open(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
        resolve: Option<ResolveFlags>,
    ) -> Result<OwnedFd, Errno> {
        match resolve {
            Some(resolve) => rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve),
            None => rustix::fs::openat(directory, name, flags, Mode::empty()),
        }
    }

    /// Metadata of an open file. May wait for a file server.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn fstat(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        rustix::fs::fstat(file).map(|stat| FileStat::from(&stat))
    }

    /// Metadata of an open file as the kernel has it in memory (`AT_STATX_DONT_SYNC`): on a network file system it may be out
    /// of date. A worker makes this call.
    ///
    /// # Errors
    /// Those of statx(2).
    fn stat_cached(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        match rustix::fs::statx(file, c"", flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => Ok(FileStat::from(&stat)),
            // Kernels before 4.11, and seccomp filters older than the call.
            Err(Errno::NOSYS | Errno::PERM) => self.fstat(file),
            Err(error) => Err(error),
        }
    }

    /// The file system that an open file is on.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    fn fstatfs(&self, file: BorrowedFd<'_>) -> Result<StatFs, Errno> {
        rustix::fs::fstatfs(file)
    }

    /// Reads from byte `at` on; 0 is the end of the file.
    ///
    /// # Errors
    /// Those of pread(2).
    fn pread(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        rustix::io::pread(file, buffer, at)
    }

    /// Reads from byte `at` on what is in memory (`preadv2` with `RWF_NOWAIT`). A worker makes this call.
    ///
    /// # Errors
    /// EAGAIN if the byte at `at` is not in memory, EOPNOTSUPP if the file system can't say.
    fn probe(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        let mut vectors = [io::IoSliceMut::new(buffer)];
        rustix::io::preadv2(file, &mut vectors, at, ReadWriteFlags::NOWAIT)
    }

    /// Maps the first `length` bytes of a file; `length` is not 0.
    ///
    /// # Errors
    /// Those of mmap(2).
    fn map(&self, file: BorrowedFd<'_>, length: usize) -> io::Result<Mapping> {
        Mapping::of(file, length)
    }

    /// Unmaps a mapping.
    fn unmap(&self, mapping: Mapping) {
        drop(mapping);
    }

    /// Reads the pages of `range` of a mapping into memory and enters them into the page table. A worker makes this call
    /// only for pages that are in memory; files of network file systems are never mapped.
    ///
    /// # Errors
    /// Those of madvise(2) with `MADV_POPULATE_READ`: EFAULT if the file is shorter by now.
    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        mapping.populate(range)
    }

    /// Whether the page table is right about `range` of a mapping. False only for a simulated page cache. A worker makes this
    /// call.
    fn trusts_page_table(&self, _mapping: &Mapping, _range: &Range<u64>) -> bool {
        true
    }

    /// Announces that `range` of a file will be read soon. Only a hint: errors are ignored.
    fn advise(&self, file: BorrowedFd<'_>, range: &Range<u64>) {
        if let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            let _ = rustix::fs::fadvise(file, range.start, Some(length), Advice::WillNeed);
        }
    }

    /// Sends at most `length` bytes of a file from `*at` on to a socket and moves `*at` past them; 0 is the end of the file. A
    /// worker makes this call, for pages that it knows to be in memory.
    ///
    /// # Errors
    /// Those of sendfile(2): EAGAIN from a full socket, EIO from the disk.
    fn sendfile(
        &self,
        socket: BorrowedFd<'_>,
        file: BorrowedFd<'_>,
        at: &mut u64,
        length: usize,
    ) -> Result<usize, Errno> {
        rustix::fs::sendfile(socket, file, Some(at), length)
    }
}

/// The operating system's own calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemStorage;

impl Storage for SystemStorage {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn statx_and_fstat_describe_the_same_version() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"four").unwrap();
        for path in [dir.path().join("a"), dir.path().to_owned(), "/proc/self/status".into()] {
            let file = std::fs::File::open(&path).unwrap();
            let cached = SystemStorage.stat_cached(file.as_fd()).unwrap();
            let asked = SystemStorage.fstat(file.as_fd()).unwrap();
            assert_eq!(
                (cached.version, cached.kind, cached.hard_links),
                (asked.version, asked.kind, asked.hard_links),
                "{}",
                path.display()
            );
        }
    }
}
