//! The plan of an archive: its entries, settled before the first byte.

use rustix::io::Errno;

use crate::config::Dotfiles;
use crate::files::directory::{self, DirectoryQuery, EntryKind};
use crate::files::root::Root;
use crate::files::version::Version;
use crate::http::target::SitePath;

/// The entries of an archive in their order: each directory before what is in it.
#[derive(Debug)]
pub(crate) struct ArchivePlan {
    entries: Vec<Planned>,
    /// Bytes of each path that are not part of the name in the archive.
    prefix: usize,
}

/// A file or a directory that goes into the archive.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) path: SitePath<'static>,
    pub(crate) kind: EntryKind,
    pub(crate) version: Version,
}

/// Bounds of one archive.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveLimits {
    /// Files and directories.
    pub entries: usize,
    /// Bytes of files.
    pub bytes: u64,
    /// Levels of directories: 1 is the directory alone with its files.
    pub depth: usize,
    /// Whether names with a leading dot are taken along.
    pub dotfiles: Dotfiles,
}

/// Why an archive is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanError {
    /// More files and directories than one archive may have.
    TooMany,
    /// More bytes than one archive may have.
    TooLarge,
    /// Directories within directories, deeper than they may be.
    TooDeep,
    /// A directory could not be read.
    Unreadable(Errno),
}

/// Which parts of a tree go into an archive.
#[derive(Clone, Copy)]
pub(crate) struct TreeFilter<'a> {
    /// False: only the name of the directory.
    pub(crate) is_listed: &'a dyn Fn(&SitePath<'_>) -> bool,
    /// False: nothing, for want of credentials.
    pub(crate) may_read: &'a (dyn Fn(&SitePath<'_>) -> bool + Send + Sync),
}

#[cfg(test)]
impl TreeFilter<'_> {
    pub(crate) fn all() -> Self {
        Self { is_listed: &|_| true, may_read: &|_| true }
    }
}

impl ArchivePlan {
    /// Walks the directory at `path`. Blocks.
    pub(crate) fn of(
        root: &Root,
        path: &SitePath<'_>,
        limits: &ArchiveLimits,
        shown: TreeFilter<'_>,
    ) -> Result<Self, PlanError> {
        let mut walk = Walk { root, limits, shown, entries: Vec::new(), bytes: 0 };
        let mut prefix = 0;
        if !path.is_root() {
            let stat = root.stat(path).map_err(PlanError::Unreadable)?;
            walk.add(path.clone().into_owned(), EntryKind::Directory, stat.version)?;
            prefix = path.as_bytes().len() - path.file_name().len();
        }
        walk.descend(path)?;
        Ok(Self { entries: walk.entries, prefix })
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Planned> {
        self.entries.get(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry's name in the archive; a directory's ends in a slash.
    pub(crate) fn name_of(&self, entry: &Planned) -> Vec<u8> {
        let name = entry.path.as_bytes().get(self.prefix..).unwrap_or_default();
        let slash: &[u8] = if entry.kind == EntryKind::Directory { b"/" } else { b"" };
        [name, slash].concat()
    }
}

struct Walk<'a> {
    root: &'a Root,
    limits: &'a ArchiveLimits,
    shown: TreeFilter<'a>,
    entries: Vec<Planned>,
    bytes: u64,
}

impl Walk<'_> {
    /// Depth first, without recursion: the depth of the tree must not decide about the thread's stack.
    fn descend(&mut self, path: &SitePath<'_>) -> Result<(), PlanError> {
        let mut levels = vec![self.read(path)?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.pop() else {
                levels.pop();
                continue;
            };
            let path = level.path.entry(&entry.name);
            match entry.kind {
                EntryKind::File => self.add(path, EntryKind::File, entry.version)?,
                // Its files are here under their own name, or lie outside what was asked for; and links can go in circles.
                EntryKind::Directory if entry.is_link => {}
                EntryKind::Directory if !(self.shown.is_listed)(&path) => {
                    self.add(path, EntryKind::Directory, entry.version)?
                }
                EntryKind::Directory => {
                    if levels.len() >= self.limits.depth {
                        return Err(PlanError::TooDeep);
                    }
                    match self.read(&path) {
                        Ok(next) => levels.push(next),
                        // It went away meanwhile, as it may.
                        Err(PlanError::Unreadable(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)) => continue,
                        Err(error) => return Err(error),
                    }
                    self.add(path, EntryKind::Directory, entry.version)?;
                }
            }
        }
        Ok(())
    }

    fn read(&self, path: &SitePath<'_>) -> Result<Level, PlanError> {
        let room = self.limits.entries.saturating_sub(self.entries.len());
        let wanted =
            DirectoryQuery { entries: room, dotfiles: self.limits.dotfiles, may_read: self.shown.may_read };
        let read = directory::read(self.root, path, wanted).map_err(PlanError::Unreadable)?;
        if read.is_truncated {
            return Err(PlanError::TooMany);
        }
        let mut entries = read.entries;
        entries.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        Ok(Level { path: path.clone().into_owned(), entries })
    }

    fn add(&mut self, path: SitePath<'static>, kind: EntryKind, version: Version) -> Result<(), PlanError> {
        if self.entries.len() >= self.limits.entries {
            return Err(PlanError::TooMany);
        }
        if kind == EntryKind::File {
            self.bytes = self.bytes.saturating_add(version.size);
            if self.bytes > self.limits.bytes {
                return Err(PlanError::TooLarge);
            }
        }
        self.entries.push(Planned { path, kind, version });
        Ok(())
    }
}

/// A directory whose entries are still to come, the next one last.
struct Level {
    path: SitePath<'static>,
    entries: Vec<directory::DirectoryEntry>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use crate::config::Symlinks;

    const LIMITS: ArchiveLimits =
        ArchiveLimits { entries: 100, bytes: 1000, depth: 10, dotfiles: Dotfiles::Deny };

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/sub/deep")).unwrap();
        std::fs::create_dir(at("d/.git")).unwrap();
        for name in ["d/b", "d/a", "d/sub/c", "d/sub.txt", "top", "d/.git/config", "_redirects"] {
            std::fs::write(at(name), b"four").unwrap();
        }
        symlink("a", at("d/link")).unwrap();
        symlink("sub", at("d/dirlink")).unwrap();
        symlink("/etc/passwd", at("d/out")).unwrap();
        symlink("..", at("d/sub/circle")).unwrap();
        dir
    }

    fn plan(dir: &Path, path: &str, limits: ArchiveLimits) -> Result<ArchivePlan, PlanError> {
        let root = Root::open(dir, Symlinks::Inside).unwrap();
        ArchivePlan::of(&root, &SitePath::parse(path.as_bytes()).unwrap().path, &limits, TreeFilter::all())
    }

    fn names(plan: &ArchivePlan) -> Vec<String> {
        plan.entries.iter().map(|entry| String::from_utf8(plan.name_of(entry)).unwrap()).collect()
    }

    #[test]
    fn a_plan_is_what_a_listing_shows_in_the_order_of_names() {
        let dir = tree();
        let of_directory = plan(dir.path(), "/d", LIMITS).unwrap();
        let expected = ["d/", "d/a", "d/b", "d/link", "d/sub/", "d/sub/c", "d/sub/deep/", "d/sub.txt"];
        assert_eq!(names(&of_directory), expected);
        assert_eq!(names(&plan(dir.path(), "/d/sub", LIMITS).unwrap()), ["sub/", "sub/c", "sub/deep/"]);
        let of_root = names(&plan(dir.path(), "/", LIMITS).unwrap());
        assert_eq!(of_root, [&expected[..], &["top"]].concat());
    }

    #[test]
    fn what_exceeds_a_limit_has_no_plan() {
        let dir = tree();
        for (limits, expected) in [
            (ArchiveLimits { entries: 8, ..LIMITS }, None),
            (ArchiveLimits { entries: 7, ..LIMITS }, Some(PlanError::TooMany)),
            (ArchiveLimits { entries: 1, ..LIMITS }, Some(PlanError::TooMany)),
            (ArchiveLimits { bytes: 20, ..LIMITS }, None),
            (ArchiveLimits { bytes: 19, ..LIMITS }, Some(PlanError::TooLarge)),
            (ArchiveLimits { depth: 3, ..LIMITS }, None),
            (ArchiveLimits { depth: 2, ..LIMITS }, Some(PlanError::TooDeep)),
        ] {
            assert_eq!(plan(dir.path(), "/d", limits).err(), expected, "{limits:?}");
        }
        for (path, expected) in [("/none", Errno::NOENT), ("/top", Errno::NOTDIR)] {
            assert_eq!(plan(dir.path(), path, LIMITS).unwrap_err(), PlanError::Unreadable(expected));
        }
    }
}
