//! The plan of an archive: its entries, fixed before the first byte.

use rustix::io::Errno;

use crate::config::{DirectoriesGroup, Dotfiles};
use crate::files::Files;
use crate::files::directory::{self, Directory, DirectoryEntry, DirectoryQuery, EntryKind, ReadPermission};
use crate::files::version::Version;
use crate::http::target::SitePath;

/// The entries of an archive in their order: each directory before what is in it.
#[derive(Debug)]
pub(crate) struct ArchivePlan {
    pub(super) entries: Vec<Planned>,
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

/// Why an archive is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanError {
    /// More entries, bytes or levels than one archive may have.
    TooMany(&'static str),
    /// A directory could not be read.
    Unreadable(Errno),
}

impl ArchivePlan {
    /// Walks the directory at `path`. Left out is what `may_read` denies; of a directory that may not be listed only its name is
    /// included. Blocks.
    pub(crate) fn of(
        files: &Files,
        path: &SitePath<'_>,
        limits: &DirectoriesGroup,
        dotfiles: Dotfiles,
        may_read: &ReadPermission,
    ) -> Result<Self, PlanError> {
        let mut walk = Walk { files, limits, dotfiles, may_read, entries: Vec::new(), bytes: 0 };
        let mut prefix = 0;
        if !path.is_root() {
            let stat = files.loader.root.stat(path)?;
            walk.add(path.clone().into_owned(), EntryKind::Directory, stat.version)?;
            prefix = path.as_bytes().len() - path.file_name().len();
        }
        walk.descend(path)?;
        Ok(Self { entries: walk.entries, prefix })
    }

    /// Returns the entry's name in the archive; a directory's ends in a slash.
    pub(crate) fn name_of(&self, entry: &Planned) -> Vec<u8> {
        let name = entry.path.as_bytes().get(self.prefix..).unwrap_or_default();
        let slash: &[u8] = if entry.kind == EntryKind::Directory { b"/" } else { b"" };
        [name, slash].concat()
    }
}

struct Walk<'a> {
    files: &'a Files,
    limits: &'a DirectoriesGroup,
    dotfiles: Dotfiles,
    may_read: &'a ReadPermission,
    entries: Vec<Planned>,
    bytes: u64,
}

impl Walk<'_> {
    /// Walks depth first, without recursion: a deep tree must not exhaust the stack of the thread.
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
                // Its files are here under their own name or lie outside the requested directory, and links can form a cycle.
                EntryKind::Directory if entry.is_symlink => {}
                EntryKind::Directory if !self.files.loader.rules.policy(&path).listing() => {
                    self.add(path, EntryKind::Directory, entry.version)?
                }
                EntryKind::Directory => {
                    if levels.len() >= self.limits.archive_depth.as_usize() {
                        return Err(PlanError::TooMany("levels"));
                    }
                    match self.read(&path) {
                        Ok(next) => levels.push(next),
                        // It disappeared meanwhile.
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
        let entries = self.limits.archive_entries.as_usize().saturating_sub(self.entries.len());
        let query = DirectoryQuery { entries, dotfiles: self.dotfiles, may_read: &**self.may_read };
        let Directory { mut entries, is_truncated } = directory::read(&self.files.loader.root, path, query)?;
        if is_truncated {
            return Err(TOO_MANY_ENTRIES);
        }
        entries.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        Ok(Level { path: path.clone().into_owned(), entries })
    }

    fn add(&mut self, path: SitePath<'static>, kind: EntryKind, version: Version) -> Result<(), PlanError> {
        if self.entries.len() >= self.limits.archive_entries.as_usize() {
            return Err(TOO_MANY_ENTRIES);
        }
        if kind == EntryKind::File {
            self.bytes = self.bytes.saturating_add(version.size);
            if self.bytes > self.limits.archive_bytes.get() {
                return Err(PlanError::TooMany("bytes"));
            }
        }
        self.entries.push(Planned { path, kind, version });
        Ok(())
    }
}

/// A directory with its remaining entries, the next one last.
struct Level {
    path: SitePath<'static>,
    entries: Vec<DirectoryEntry>,
}

impl From<Errno> for PlanError {
    fn from(error: Errno) -> Self {
        Self::Unreadable(error)
    }
}

const TOO_MANY_ENTRIES: PlanError = PlanError::TooMany("entries");

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::Arc;

    use crate::config::{ByteCount, Config, Count, OnOff, Symlinks};
    use crate::files::policy::Rules;
    use crate::files::{FileSettings, Root};

    fn limits(entries: u64, bytes: u64, depth: u64) -> DirectoriesGroup {
        DirectoriesGroup {
            listing: OnOff::On,
            archive_entries: Count::of(entries),
            archive_bytes: ByteCount::bytes(bytes),
            archive_depth: Count::of(depth),
            ..DirectoriesGroup::default()
        }
    }

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

    fn plan(dir: &Path, path: &str, limits: DirectoriesGroup) -> Result<ArchivePlan, PlanError> {
        let root = Root::open(dir, Symlinks::Inside).unwrap();
        let config = Config { directories: limits.into(), ..Config::default() };
        let files = Files::new(root, &FileSettings::small(), Rules::new(&config)).unwrap();
        let (path, all) = (SitePath::parse(path.as_bytes()).unwrap().path, Arc::new(|_: &SitePath<'_>| true));
        ArchivePlan::of(&files, &path, &config.directories, Dotfiles::Deny, &(all as ReadPermission))
    }

    fn names(plan: &ArchivePlan) -> Vec<String> {
        plan.entries.iter().map(|entry| String::from_utf8(plan.name_of(entry)).unwrap()).collect()
    }

    #[test]
    fn a_plan_is_what_a_listing_shows_in_the_order_of_names() {
        let dir = tree();
        let of_directory = plan(dir.path(), "/d", limits(100, 1000, 10)).unwrap();
        let expected = ["d/", "d/a", "d/b", "d/link", "d/sub/", "d/sub/c", "d/sub/deep/", "d/sub.txt"];
        assert_eq!(names(&of_directory), expected);
        assert_eq!(
            names(&plan(dir.path(), "/d/sub", limits(100, 1000, 10)).unwrap()),
            ["sub/", "sub/c", "sub/deep/"]
        );
        let of_root = names(&plan(dir.path(), "/", limits(100, 1000, 10)).unwrap());
        assert_eq!(of_root, [&expected[..], &["top"]].concat());
    }

    #[test]
    fn what_exceeds_a_limit_has_no_plan() {
        let dir = tree();
        for (limits, expected) in [
            (limits(8, 1000, 10), None),
            (limits(7, 1000, 10), Some(TOO_MANY_ENTRIES)),
            (limits(1, 1000, 10), Some(TOO_MANY_ENTRIES)),
            (limits(100, 20, 10), None),
            (limits(100, 19, 10), Some(PlanError::TooMany("bytes"))),
            (limits(100, 1000, 3), None),
            (limits(100, 1000, 2), Some(PlanError::TooMany("levels"))),
        ] {
            let words = format!("{limits:?}");
            assert_eq!(plan(dir.path(), "/d", limits).err(), expected, "{words}");
        }
        for (path, expected) in [("/none", Errno::NOENT), ("/top", Errno::NOTDIR)] {
            assert_eq!(
                plan(dir.path(), path, limits(100, 1000, 10)).unwrap_err(),
                PlanError::Unreadable(expected)
            );
        }
    }
}
