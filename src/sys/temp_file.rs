//! Atomic creation of files: a temporary file that is renamed when it is complete.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{self, AtFlags, FlockOperation, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// A file under a hidden name in its final directory. Removed when dropped, unless it was persisted.
#[derive(Debug)]
pub(crate) struct TempFile<'a> {
    directory: BorrowedFd<'a>,
    name: String,
    pub(crate) file: File,
    is_persisted: bool,
}

impl<'a> TempFile<'a> {
    /// Creates an empty file in `directory` that only its owner can read. It is locked while the process lives; a file without
    /// a lock is a leftover.
    pub(crate) fn create(directory: BorrowedFd<'a>) -> io::Result<Self> {
        for _ in 0..CREATE_TRIES {
            let name = format!("{PREFIX}{}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match fs::openat(directory, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                // Of a process in another container, or of one that has ended.
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            let created = Self { directory, name, file, is_persisted: false };
            // Another process may have removed it as a leftover before it was locked.
            if lock(created.file.as_fd()).is_ok() && fs::fstat(&created.file)?.st_nlink > 0 {
                return Ok(created);
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "all temporary names exist"))
    }

    /// Copies mode, owner (if permitted) and modification time of `original`.
    pub(crate) fn copy_metadata_from(&self, original: &Stat) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(original.st_uid), Gid::from_raw(original.st_gid));
        // Only root may change the owner; otherwise it stays that of the process.
        let _ = fs::fchown(&self.file, Some(uid), Some(gid));
        fs::fchmod(&self.file, Mode::from_raw_mode(original.st_mode & 0o777))?;
        let changed = Timespec { tv_sec: original.st_mtime as _, tv_nsec: original.st_mtime_nsec as _ };
        Ok(fs::futimens(&self.file, &Timestamps { last_access: changed, last_modification: changed })?)
    }

    /// Renames the file to `name`, replacing an existing one, after its bytes are on disk.
    pub(crate) fn persist(mut self, name: &[u8]) -> io::Result<()> {
        self.file.sync_all()?;
        fs::renameat(self.directory, &self.name, self.directory, name)?;
        self.is_persisted = true;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(fs::fsync(fs::openat(self.directory, ".", flags, Mode::empty())?)?)
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if !self.is_persisted {
            let _ = fs::unlinkat(self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Whether a name is one of [`TempFile::create`].
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// Removes the temporary file `name` of `directory` if its process has ended.
pub(crate) fn remove_leftover(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let left: OwnedFd = fs::openat(directory, name, flags, Mode::empty())?;
    match lock(left.as_fd()) {
        Ok(()) => Ok(fs::unlinkat(directory, name, AtFlags::empty())?),
        Err(Errno::WOULDBLOCK) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn lock(file: BorrowedFd<'_>) -> Result<(), Errno> {
    match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        // A file system without locks. No other process is assumed to remove leftovers.
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(()),
        other => other,
    }
}

/// Begins with a dot: not served, unless all hidden files are.
const PREFIX: &str = ".pagecast-temporary.";
const CREATE_TRIES: u32 = 1_000;
static COUNTER: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn names(directory: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_that_is_not_persisted_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let mut temporary = TempFile::create(handle.as_fd()).unwrap();
        temporary.file.write_all(b"half").unwrap();
        assert!(names(dir.path()).iter().all(|name| is_temporary(name.as_bytes())));
        drop(temporary);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_persisted_file_has_the_mode_and_time_of_its_original() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, path) = (File::open(dir.path()).unwrap(), dir.path().join("a"));
        std::fs::write(&path, b"a").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let original = File::open(&path).unwrap();
        original.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(315_532_801, 7)).unwrap();
        let mut temporary = TempFile::create(handle.as_fd()).unwrap();
        temporary.file.write_all(b"whole").unwrap();
        temporary.copy_metadata_from(&fs::fstat(&original).unwrap()).unwrap();
        temporary.persist(b"b").unwrap();
        let kept = std::fs::metadata(dir.path().join("b")).unwrap();
        assert_eq!(kept.mode() & 0o7777, 0o640);
        assert_eq!((kept.mtime(), kept.mtime_nsec()), (315_532_801, 7));
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"whole");
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn only_leftovers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let handle = File::open(dir.path()).unwrap();
        let temporary = TempFile::create(handle.as_fd()).unwrap();
        let name = temporary.name.clone();
        remove_leftover(handle.as_fd(), name.as_bytes()).unwrap();
        assert_eq!(names(dir.path()), [name]);
        std::fs::write(dir.path().join(".pagecast-temporary.x"), b"left").unwrap();
        remove_leftover(handle.as_fd(), b".pagecast-temporary.x").unwrap();
        assert_eq!(names(dir.path()).len(), 1);
    }
}
