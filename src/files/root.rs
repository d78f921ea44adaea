//! The directory that is served. The only place where a path reaches the operating system.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use rustix::fs::{self, FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::storage::{Storage, SystemStorage};
use crate::config::Symlinks;
use crate::files::symlinks::unfold;
use crate::http::target::SitePath;

/// The document root: a directory handle from which every name is opened, and which no name can leave.
pub struct Root {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    opened: RwLock<Arc<OpenedRoot>>,
    is_pinned: bool,
    resolve: ResolveFlags,
    has_openat2: AtomicBool,
}

/// The root's directory as it was last opened.
struct OpenedRoot {
    directory: OwnedFd,
    /// The absolute paths that it goes by, as links spell them.
    names: Vec<Vec<u8>>,
    /// How many were taken up before it.
    number: u64,
}

/// What stands at a path.
#[derive(Debug)]
pub(crate) enum RootEntry {
    File {
        file: OwnedFd,
        stat: Box<Stat>,
        /// No symbolic link stands on the way: the name is the file's own.
        is_plain: bool,
    },
    Directory,
    /// A fifo, a socket, a device: never opened, never served.
    Special,
}

impl Root {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// Whatever `open` says of a path that is missing, forbidden or not a directory.
    pub fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        Self::open_on(Arc::new(SystemStorage), path, symlinks)
    }

    /// The same on a storage of one's own, which whatever is served from the root then goes through.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(storage: Arc<dyn Storage>, path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        let directory = open_directory(&*storage, path)?;
        let opened = OpenedRoot { directory, names: names_of(path), number: 0 };
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if symlinks == Symlinks::Deny {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        let root = Self {
            storage,
            path: path.to_owned(),
            opened: RwLock::new(Arc::new(opened)),
            is_pinned: false,
            resolve,
            has_openat2: AtomicBool::new(true),
        };
        root.find_openat2();
        Ok(root)
    }

    /// The root as it is now, which stays the same directory whatever is swapped.
    pub(crate) fn pinned(&self) -> Self {
        Self {
            storage: Arc::clone(&self.storage),
            path: self.path.clone(),
            opened: RwLock::new(Arc::clone(&self.opened.read())),
            is_pinned: true,
            resolve: self.resolve,
            has_openat2: AtomicBool::new(self.has_openat2.load(Ordering::Relaxed)),
        }
    }

    /// Opens what stands at `path`. Blocks.
    ///
    /// The entry is looked at before it is opened for reading: opening a fifo lets its writer loose, and opening a
    /// device can do anything. What is served comes from the `fstat` of the handle that was opened last.
    pub(crate) fn entry(&self, path: &SitePath<'_>) -> Result<RootEntry, Errno> {
        match self.entry_at(path) {
            // A link leads out, or is absolute and leads in.
            Err(Errno::XDEV) => self.entry_at(&self.unfold(path)?).map(RootEntry::behind_a_link),
            other => other,
        }
    }

    fn unfold(&self, path: &SitePath<'_>) -> Result<SitePath<'static>, Errno> {
        let opened = Arc::clone(&self.opened.read());
        unfold(&*self.storage, opened.directory.as_fd(), &opened.names, path)
    }

    fn entry_at(&self, path: &SitePath<'_>) -> Result<RootEntry, Errno> {
        let plainly = self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS);
        let is_plain = !matches!(plainly, Err(Errno::LOOP));
        let seen = match plainly {
            Err(Errno::LOOP) => self.stat(self.resolve(path, OFlags::PATH, ResolveFlags::empty())?)?,
            opened => self.stat(opened?)?,
        };
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::Directory => return Ok(RootEntry::Directory),
            FileType::RegularFile => {}
            _ => return Ok(RootEntry::Special),
        }
        let file =
            self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, ResolveFlags::empty())?;
        let stat = self.storage.fstat(file.as_fd())?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(RootEntry::File { file, stat: Box::new(stat), is_plain }),
            FileType::Directory => Ok(RootEntry::Directory),
            _ => Ok(RootEntry::Special),
        }
    }

    /// What the kernel's own caches know of `path` now. Never waits for a disk: where the answer is not in memory it is
    /// `EAGAIN`.
    pub(crate) fn glance(&self, path: &SitePath<'_>) -> Result<Stat, Errno> {
        if !self.has_openat2.load(Ordering::Relaxed) {
            return Err(Errno::AGAIN);
        }
        self.stat(self.resolve(path, OFlags::PATH, ResolveFlags::CACHED)?)
    }

    /// A handle to the directory at `path`, for watching it, not for reading.
    pub(crate) fn directory(&self, path: &SitePath<'_>) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
    }

    /// A handle through which the names in the directory at `path` can be read. Blocks.
    pub(crate) fn open_directory(&self, path: &SitePath<'_>) -> Result<OwnedFd, Errno> {
        self.resolve_or_unfold(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// What stands at `path`, behind the links that may be followed, without opening it for reading. Blocks.
    pub(crate) fn look(&self, path: &SitePath<'_>) -> Result<Stat, Errno> {
        self.stat(self.resolve_or_unfold(path, OFlags::PATH)?)
    }

    /// The same where no link stands on the way; `ELOOP` where one does. Blocks.
    pub(crate) fn look_plainly(&self, path: &SitePath<'_>) -> Result<Stat, Errno> {
        self.stat(self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)?)
    }

    fn stat(&self, file: OwnedFd) -> Result<Stat, Errno> {
        self.storage.fstat(file.as_fd())
    }

    fn resolve_or_unfold(&self, path: &SitePath<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.resolve(path, flags, ResolveFlags::empty()) {
            Err(Errno::XDEV) => self.resolve(&self.unfold(path)?, flags, ResolveFlags::empty()),
            other => other,
        }
    }

    /// Whether the root can still be served from; a root that was removed and restored, or swapped for another, is
    /// taken up here, and the answer is then `Swapped`. Blocks.
    pub(crate) fn check(&self) -> RootState {
        if self.is_pinned {
            return RootState::Same;
        }
        let held = Arc::clone(&self.opened.read());
        let opened = open_directory(&*self.storage, &self.path);
        let fresh = match opened.and_then(|fd| Ok((self.storage.fstat(fd.as_fd())?, fd))) {
            Ok(found) => found,
            Err(error) => return RootState::Broken(error),
        };
        match self.storage.fstat(held.directory.as_fd()) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (fresh.0.st_dev, fresh.0.st_ino) => RootState::Same,
            _ => self.take_up(fresh.1, held.number),
        }
    }

    /// Takes up `directory` in place of number `before`, unless somebody else has taken up one since: theirs may be newer.
    fn take_up(&self, directory: OwnedFd, before: u64) -> RootState {
        let next = Arc::new(OpenedRoot { directory, names: names_of(&self.path), number: before + 1 });
        let mut opened = self.opened.write();
        if opened.number == before {
            *opened = next;
        }
        RootState::Swapped
    }

    /// How often the root was another directory than before.
    pub(crate) fn swaps(&self) -> u64 {
        self.opened.read().number
    }

    /// What `look` finds. Where that is nothing it looks again if the root is another directory by now: who publishes a
    /// release may remove the one before at once, long before the root is next checked. Blocks.
    pub(crate) fn look_twice<T>(&self, look: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        let before = self.swaps();
        let found = look();
        if !matches!(found, Err(errno) if leads_nowhere(errno)) {
            return found;
        }
        self.check();
        if self.swaps() == before { found } else { look() }
    }

    /// At most `count` names of the root's own directory, as it lists them. Blocks.
    pub(crate) fn some_names(&self, count: usize) -> Vec<Vec<u8>> {
        let opened = Arc::clone(&self.opened.read());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(listed) = self.storage.open(opened.directory.as_fd(), b".", flags, None) else {
            return Vec::new();
        };
        let Ok(entries) = fs::Dir::new(listed) else { return Vec::new() };
        let names = entries.map_while(Result::ok).map(|entry| entry.file_name().to_bytes().to_vec());
        names.filter(|name| !matches!(&**name, b"." | b"..")).take(count).collect()
    }

    /// What all that is served goes through.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Where the root is, for the log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn resolve(&self, path: &SitePath<'_>, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let opened = Arc::clone(&self.opened.read());
        let flags = flags | OFlags::CLOEXEC;
        if !self.has_openat2.load(Ordering::Relaxed) {
            return walk(&*self.storage, opened.directory.as_fd(), path, flags);
        }
        let name: &[u8] = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        let mut tries = 0;
        loop {
            match self.storage.open(opened.directory.as_fd(), name, flags, Some(self.resolve | more)) {
                // A rename somewhere raced with the walk; a cached look gets the same answer for another reason.
                Err(Errno::AGAIN) if !more.contains(ResolveFlags::CACHED) && tries < RENAME_TRIES => {
                    tries += 1
                }
                other => return other,
            }
        }
    }

    fn find_openat2(&self) {
        let opened = Arc::clone(&self.opened.read());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        if self.storage.open(opened.directory.as_fd(), b".", flags, Some(self.resolve)).is_err() {
            self.has_openat2.store(false, Ordering::Relaxed);
            log::warn!(
                "openat2 is not to be had here: names are walked one by one, and no symbolic link is followed"
            );
        }
    }
}

impl RootEntry {
    fn behind_a_link(self) -> Self {
        match self {
            Self::File { file, stat, .. } => Self::File { file, stat, is_plain: false },
            other => other,
        }
    }
}

/// Whether an error says that nothing that could be served stands at a path, and not that it can't be known.
pub(crate) fn leads_nowhere(errno: Errno) -> bool {
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

/// What became of the root since it was opened.
#[derive(Debug)]
pub(crate) enum RootState {
    Same,
    Swapped,
    Broken(io::Error),
}

/// What an absolute link into the root may begin with: its path as it was given, and without links of its own.
fn names_of(path: &Path) -> Vec<Vec<u8>> {
    let given = path.is_absolute().then(|| path.to_owned());
    let names = given.into_iter().chain(std::fs::canonicalize(path));
    let without_slash = |name: PathBuf| {
        let bytes = name.into_os_string().into_vec();
        bytes.strip_suffix(b"/").unwrap_or(&bytes).to_vec()
    };
    names.map(without_slash).collect()
}

fn open_directory(storage: &dyn Storage, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(storage.open(fs::CWD, path.as_os_str().as_bytes(), flags, None)?)
}

/// Without `openat2`: one component at a time, following nothing.
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
        let is_link = FileType::from_raw_mode(storage.fstat(last.as_fd())?.st_mode) == FileType::Symlink;
        return if is_link { Err(Errno::LOOP) } else { Ok(last) };
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
    fn links_are_followed_inside_and_never_outside() {
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
    fn links_that_are_denied_are_not_followed_at_all() {
        let (dir, _outside) = site();
        let root = Root::open(dir.path(), Symlinks::Deny).unwrap();
        for (name, expected) in
            [("/d/a", true), ("/in", false), ("/absolute", false), ("/dirlink/a", false), ("/out", false)]
        {
            assert_eq!(opens(&root, name), expected, "{name}");
        }
    }

    #[test]
    fn without_openat2_plain_names_open_and_links_do_not() {
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
    fn names_of_the_root_are_listed_up_to_a_bound() {
        let (dir, _outside) = site();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        assert_eq!(root.some_names(2).len(), 2);
        let all = root.some_names(100);
        assert!(all.contains(&b"d".to_vec()) && !all.contains(&b".".to_vec()), "{all:?}");
    }

    #[test]
    fn a_root_that_is_removed_is_broken_and_one_that_is_restored_is_taken_up() {
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
