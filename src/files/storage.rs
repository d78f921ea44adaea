//! The seam between the server and the disk: every call that may touch one, so that a test or a benchmark can put a slow, a
//! dying or a faulty disk beneath an ordinary server.
//!
//! [`SystemStorage`] is the real one. [`Slow`] has a memory and a speed of its own; [`Faulty`] fails, hangs and counts as it is
//! told. Each wraps another, so that they can be stacked.

mod faulty;
mod slow;

use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Advice, Mode, OFlags, ResolveFlags, Stat, StatFs};
use rustix::io::{Errno, ReadWriteFlags};

pub use self::faulty::{Call, Faulty, InjectedFault, RecordedCall, When};
pub use self::slow::Slow;
pub use crate::sys::kernel::Mapping;

/// What the server asks of the disk. Every call is made by default as [`SystemStorage`] makes it: a storage of one's own states
/// only what differs.
///
/// Calls come from many threads at once. Those that a worker makes are said to: they must not wait for a disk.
pub trait Storage: Send + Sync {
    /// Opens `name`, relative to `directory`: by `openat2` where `resolve` is given, else by `openat`.
    ///
    /// A worker makes this call with `ResolveFlags::CACHED` alone, which answers EAGAIN where it would have to wait.
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

    /// What an open file is now. A worker makes this call.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn fstat(&self, file: BorrowedFd<'_>) -> Result<Stat, Errno> {
        rustix::fs::fstat(file)
    }

    /// On what kind of file system an open file lies.
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
    /// EAGAIN where the byte at `at` is not in memory, EOPNOTSUPP where that can't be said.
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

    /// Takes a mapping down.
    fn unmap(&self, mapping: Mapping) {
        drop(mapping);
    }

    /// Reads the pages of `range` of a mapping into memory and enters them into the page table. A worker makes this call
    /// only for pages that are in memory.
    ///
    /// # Errors
    /// Those of madvise(2) with `MADV_POPULATE_READ`: EFAULT where the file no longer reaches so far.
    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        mapping.populate(range)
    }

    /// Whether what the page table says of `range` of a mapping is to be believed. Only a memory that is made up says no. A
    /// worker makes this call.
    fn heeds_page_table(&self, _mapping: &Mapping, _range: &Range<u64>) -> bool {
        true
    }

    /// Says that `range` of a file will be read soon. Only a hint: what comes of it is not told.
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

/// The disk as the operating system gives it: plain calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemStorage;

impl Storage for SystemStorage {}
