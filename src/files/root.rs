//! The document root. The only file in which a path reaches the operating system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use rustix::fs::{self, FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{FileStat, Storage, SystemStorage, resolve_symlinks};
use crate::config::Symlinks;
use crate::http::target::SitePath;

/// The document root: a directory handle from which every path is opened, and which no path can leave.
pub struct Root {
    /// The storage that every file of the root is read through.
    pub(crate) storage: Arc<dyn Storage>,
    path: PathBuf,
    opened: RwLock<Arc<OpenedRoot>>,
    is_pinned: bool,
    resolve: ResolveFlags,
    has_openat2: AtomicBool,
}

/// The directory that the root's path led to when it was last opened.
///
/// Decision: docs/decisions/014-replaced-document-root.md.
struct OpenedRoot {
    directory: OwnedFd,
    /// Absolute paths of the directory, as symbolic links spell them.
    absolute_paths: Vec<Vec<u8>>,
    /// Number of directories that the root was before.
    number: u64,
}

/// An entry of the file system, opened if it is a file.
#[derive(Debug)]
pub(crate) enum RootEntry {
    File {
        file: OwnedFd,
        stat: FileStat,
        /// True if the path contains no symbolic link.
        is_symlink_free: bool,
    },
    Directory,
    /// A FIFO, socket or device: never opened, never served.
    Special,
}

impl Root {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Those of `open` for a path that is missing, forbidden or not a directory.
    pub fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        Self::open_on(Arc::new(SystemStorage), path, symlinks)
    }

    /// Opens the directory at `path` through `storage`, which every file of the root is then read through.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(storage: Arc<dyn Storage>, path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        let directory = open_directory(&*storage, path)?;
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if symlinks == Symlinks::Deny {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let root = Self {
            storage,
            path: path.to_owned(),
            opened: RwLock::new(OpenedRoot::new(directory, path, 0)),
            is_pinned: false,
            resolve,
            has_openat2: AtomicBool::new(true),
        };
        root.detect_openat2();
        Ok(root)
    }

    /// A copy of the root that stays the same directory even if another one replaces it.
    pub(crate) fn pinned(&self) -> Self {
        Self {
            storage: Arc::clone(&self.storage),
            path: self.path.clone(),
            opened: RwLock::new(self.opened()),
            is_pinned: true,
            resolve: self.resolve,
            has_openat2: AtomicBool::new(self.has_openat2.load(Ordering::Relaxed)),
        }
    }

    /// Opens the entry at `path`. Blocks.
    ///
    /// The entry is checked before it is opened for reading: opening a FIFO wakes its writer, and opening a device can
    /// do anything. The metadata is from the `fstat` of the handle that is returned.
    pub(crate) fn entry(&self, path: &SitePath<'_>) -> Result<RootEntry, Errno> {
        match self.entry_at(path, true) {
            // A symbolic link leaves the root, or is absolute and ends inside it.
            Err(Errno::XDEV) => self.entry_at(&self.resolve_symlinks(path)?, false),
            other => other,
        }
    }

    fn resolve_symlinks(&self, path: &SitePath<'_>) -> Result<SitePath<'static>, Errno> {
        let opened = self.opened();
        resolve_symlinks(&*self.storage, opened.directory.as_fd(), &opened.absolute_paths, path)
    }

    /// The entry at `path`, which `is_original` if no symbolic link has led to it.
    fn entry_at(&self, path: &SitePath<'_>, is_original: bool) -> Result<RootEntry, Errno> {
        let opened = self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS);
        let is_symlink_free = is_original && !matches!(opened, Err(Errno::LOOP));
        let checked = match opened {
            Err(Errno::LOOP) => self.fstat(self.resolve(path, OFlags::PATH, ResolveFlags::empty())?)?,
            opened => self.fstat(opened?)?,
        };
        let mut kind = checked.kind;
        if kind == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = self.resolve(path, flags, ResolveFlags::empty())?;
            let stat = self.storage.fstat(file.as_fd())?;
            if stat.kind == FileType::RegularFile {
                return Ok(RootEntry::File { file, stat, is_symlink_free });
            }
            kind = stat.kind;
        }
        Ok(if kind == FileType::Directory { RootEntry::Directory } else { RootEntry::Special })
    }

    /// Metadata of the entry at `path` from the kernel's own caches. Never waits for a disk or a file server.
    ///
    /// # Errors
    /// EAGAIN if the caches can't tell; else those of openat2(2).
    pub(crate) fn stat_if_cached(&self, path: &SitePath<'_>) -> Result<FileStat, Errno> {
        if !self.has_openat2.load(Ordering::Relaxed) {
            return Err(Errno::AGAIN);
        }
        self.storage.stat_cached(self.resolve(path, OFlags::PATH, ResolveFlags::CACHED)?.as_fd())
    }

    /// A handle to the directory at `path`, for watching it, not for reading.
    pub(crate) fn directory(&self, path: &SitePath<'_>) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
    }

    /// A handle for reading the names in the directory at `path`. Blocks.
    pub(crate) fn open_directory(&self, path: &SitePath<'_>) -> Result<OwnedFd, Errno> {
        self.resolve_through_symlinks(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Metadata of the entry at `path`, behind the symbolic links that may be followed, without opening it for reading.
    /// Blocks.
    pub(crate) fn stat(&self, path: &SitePath<'_>) -> Result<FileStat, Errno> {
        self.fstat(self.resolve_through_symlinks(path, OFlags::PATH)?)
    }

    /// As [`Self::stat`]; ELOOP if the path contains a symbolic link. Blocks.
    pub(crate) fn stat_without_symlinks(&self, path: &SitePath<'_>) -> Result<FileStat, Errno> {
        self.fstat(self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)?)
    }

    fn fstat(&self, file: OwnedFd) -> Result<FileStat, Errno> {
        self.storage.fstat(file.as_fd())
    }

    fn resolve_through_symlinks(&self, path: &SitePath<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.resolve(path, flags, ResolveFlags::empty()) {
            Err(Errno::XDEV) => self.resolve(&self.resolve_symlinks(path)?, flags, ResolveFlags::empty()),
            other => other,
        }
    }

    /// Checks whether the root can still be served. If another directory has replaced it, that is served from then on, and
    /// the result is `Swapped`. Blocks.
    pub(crate) fn check(&self) -> RootState {
        if self.is_pinned {
            return RootState::Same;
        }
        let current = self.opened();
        let opened = open_directory(&*self.storage, &self.path);
        let (fresh, directory) = match opened.and_then(|fd| Ok((self.storage.fstat(fd.as_fd())?, fd))) {
            Ok(found) => found,
            Err(error) => return RootState::Broken(error),
        };
        let served = self.storage.fstat(current.directory.as_fd());
        if served.is_ok_and(|stat| stat.version.is_same_file(&fresh.version)) {
            return RootState::Same;
        }
        let next = OpenedRoot::new(directory, &self.path, current.number + 1);
        let mut opened = self.opened.write();
        // Another thread may have replaced it since, and its directory may be newer.
        if opened.number == current.number {
            *opened = next;
        }
        RootState::Swapped
    }

    /// Number of times that another directory has replaced the root.
    pub(crate) fn swaps(&self) -> u64 {
        self.opened.read().number
    }

    /// Runs `lookup`, and once more if it finds nothing and another directory has replaced the root: a release may be
    /// published and the one before removed long before the root is next checked. Blocks.
    pub(crate) fn retry_after_root_swap<T>(&self, lookup: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        let before = self.swaps();
        let found = lookup();
        if !matches!(found, Err(errno) if is_missing(errno)) {
            return found;
        }
        self.check();
        if self.swaps() == before { found } else { lookup() }
    }

    /// The first `count` names of the root directory, in the order of the file system. Blocks.
    pub(crate) fn first_names(&self, count: usize) -> Vec<Vec<u8>> {
        let opened = self.opened();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(listed) = self.storage.open(opened.directory.as_fd(), b".", flags, None) else {
            return Vec::new();
        };
        let Ok(entries) = fs::Dir::new(listed) else { return Vec::new() };
        let names = entries.map_while(Result::ok).map(|entry| entry.file_name().to_bytes().to_vec());
        names.filter(|name| !matches!(&**name, b"." | b"..")).take(count).collect()
    }

    /// The root's path, for the log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn resolve(&self, path: &SitePath<'_>, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let opened = self.opened();
        let flags = flags | OFlags::CLOEXEC;
        if !self.has_openat2.load(Ordering::Relaxed) {
            return walk(&*self.storage, opened.directory.as_fd(), path, flags);
        }
        let name: &[u8] = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        let mut tries = 0;
        loop {
            match self.storage.open(opened.directory.as_fd(), name, flags, Some(self.resolve | more)) {
                // A rename raced with the path walk; with CACHED the same error means something else.
                Err(Errno::AGAIN) if !more.contains(ResolveFlags::CACHED) && tries < RENAME_TRIES => {
                    tries += 1
                }
                other => return other,
            }
        }
    }

    fn opened(&self) -> Arc<OpenedRoot> {
        Arc::clone(&self.opened.read())
    }

    fn detect_openat2(&self) {
        let opened = self.opened();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        if self.storage.open(opened.directory.as_fd(), b".", flags, Some(self.resolve)).is_err() {
            self.has_openat2.store(false, Ordering::Relaxed);
            log::warn!(
                "openat2 is not available: paths are walked component by component, and symbolic links are not followed"
            );
        }
    }
}

impl OpenedRoot {
    fn new(directory: OwnedFd, path: &Path, number: u64) -> Arc<Self> {
        Arc::new(Self { directory, absolute_paths: absolute_paths_of(path), number })
    }
}

/// Whether an error means that a path has nothing that could be served, and not that the disk failed to tell.
pub(crate) fn is_missing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::XDEV
            | Errno::NXIO
            | Errno::NODEV
            | Errno::INVAL
            | Errno::ILSEQ
    )
}

/// Result of a check of the root.
#[derive(Debug)]
pub(crate) enum RootState {
    Same,
    Swapped,
    Broken(io::Error),
}

/// Prefixes of absolute symbolic links into the root: its path as configured, and with symbolic links resolved.
fn absolute_paths_of(path: &Path) -> Vec<Vec<u8>> {
    let given = path.is_absolute().then(|| path.to_owned());
    let paths = given.into_iter().chain(std::fs::canonicalize(path));
    let without_slash = |path: PathBuf| {
        let bytes = path.into_os_string().into_vec();
        bytes.strip_suffix(b"/").unwrap_or(&bytes).to_vec()
    };
    paths.map(without_slash).collect()
}

fn open_directory(storage: &dyn Storage, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(storage.open(fs::CWD, path.as_os_str().as_bytes(), flags, None)?)
}

/// Path walk without `openat2`: one component at a time, following no symbolic link.
fn walk(
    storage: &dyn Storage,
    root: BorrowedFd<'_>,
    path: &SitePath<'_>,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = storage.open(root, b".", step, None)?;
    let mut segments = path.segments().peekable();
    while let Some(segment) = segments.next() {
        if segments.peek().is_some() {
            at = storage.open(at.as_fd(), segment, step, None)?;
            continue;
        }
        let last = storage.open(at.as_fd(), segment, flags | OFlags::NOFOLLOW, None)?;
        let is_symlink = storage.fstat(last.as_fd())?.kind == FileType::Symlink;
        return if is_symlink { Err(Errno::LOOP) } else { Ok(last) };
    }
    storage.open(at.as_fd(), b".", flags, None)
}

const RENAME_TRIES: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn site() -> (tempfile::TempDir, tempfile::TempDir) {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a"), b"a").unwrap();
        symlink("d/a", dir.path().join("in")).unwrap();
        symlink("d", dir.path().join("dirlink")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("out")).unwrap();
        symlink("/proc/self/root", dir.path().join("magic")).unwrap();
        symlink(dir.path().join("d/a"), dir.path().join("absolute")).unwrap();
        (dir, outside)
    }

    fn path(text: &str) -> SitePath<'static> {
        SitePath::parse(text.as_bytes()).unwrap().path.into_owned()
    }

    fn opens(root: &Root, text: &str) -> bool {
        matches!(root.entry(&path(text)), Ok(RootEntry::File { .. }))
    }

    #[test]
    fn symlinks_are_followed_inside_the_root_and_never_outside() {
        let (dir, _outside) = site();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        for (name, expected) in [
            ("/d/a", true),
            ("/in", true),
            ("/dirlink/a", true),
            ("/out", false),
            ("/magic/etc/passwd", false),
        ] {
            assert_eq!(opens(&root, name), expected, "{name}");
        }
    }

    #[test]
    fn denied_symlinks_are_not_followed() {
        let (dir, _outside) = site();
        let root = Root::open(dir.path(), Symlinks::Deny).unwrap();
        for (name, expected) in
            [("/d/a", true), ("/in", false), ("/absolute", false), ("/dirlink/a", false), ("/out", false)]
        {
            assert_eq!(opens(&root, name), expected, "{name}");
        }
    }

    #[test]
    fn without_openat2_paths_open_and_symlinks_do_not() {
        let (dir, _outside) = site();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        root.has_openat2.store(false, Ordering::Relaxed);
        for (name, expected) in [
            ("/d/a", true),
            ("/in", false),
            ("/dirlink/a", false),
            ("/out", false),
            ("/magic/etc/passwd", false),
        ] {
            assert_eq!(opens(&root, name), expected, "{name}");
        }
        assert!(matches!(root.entry(&path("/")), Ok(RootEntry::Directory)));
        assert!(matches!(root.entry(&path("/d")), Ok(RootEntry::Directory)));
    }

    #[test]
    fn the_first_names_of_the_root_are_listed_up_to_a_bound() {
        let (dir, _outside) = site();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        assert_eq!(root.first_names(2).len(), 2);
        let all = root.first_names(100);
        assert!(all.contains(&b"d".to_vec()) && !all.contains(&b".".to_vec()), "{all:?}");
    }

    #[test]
    fn a_removed_root_is_broken_and_a_restored_one_is_served() {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("root");
        std::fs::create_dir(&at).unwrap();
        let root = Root::open(&at, Symlinks::Inside).unwrap();
        assert!(matches!(root.check(), RootState::Same));
        std::fs::remove_dir(&at).unwrap();
        assert!(matches!(root.check(), RootState::Broken(_)));
        std::fs::create_dir(&at).unwrap();
        std::fs::write(at.join("a"), b"a").unwrap();
        assert!(matches!(root.check(), RootState::Swapped));
        assert!(opens(&root, "/a"));
    }
}
