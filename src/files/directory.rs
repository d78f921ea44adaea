//! Directories as they are listed: only entries that this server would serve.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{self, Access, AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::{FileStat, Root, Version};
use crate::config::Dotfiles;
use crate::http::{redirects::REDIRECTS_FILE, target::SitePath};

/// The entries of a directory, in no order.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) entries: Vec<DirectoryEntry>,
    /// The directory has more entries than the query allows.
    pub(crate) is_truncated: bool,
}

/// A file or directory that this server would serve.
#[derive(Debug, Clone)]
pub(crate) struct DirectoryEntry {
    /// The entry's name: bytes without a slash.
    pub(crate) name: Box<[u8]>,
    pub(crate) kind: EntryKind,
    /// The entry is a symbolic link; kind and version are those of its target.
    pub(crate) is_symlink: bool,
    pub(crate) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    File,
}

/// Which entries of a directory are read.
#[derive(Clone, Copy)]
pub(crate) struct DirectoryQuery<'a> {
    /// Most entries that are returned.
    pub(crate) entries: usize,
    /// Whether names with a leading dot are shown.
    pub(crate) dotfiles: Dotfiles,
    /// Whether the client may read a path; other entries are left out.
    pub(crate) may_read: &'a (dyn Fn(&SitePath<'_>) -> bool + Send + Sync),
}

/// Whether the client may read a path, by the access rules.
pub(crate) type ReadPermission = Arc<dyn Fn(&SitePath<'_>) -> bool + Send + Sync>;

/// Reads the directory at `path`. Blocks.
///
/// Left out is everything that a request could not get: hidden names, special files, symbolic links that leave the root or are
/// broken, files that this process or the client may not read, and the root's own file of redirects. So is an entry that
/// disappears meanwhile.
///
/// # Errors
/// Those of opening and reading the directory.
pub(crate) fn read(root: &Root, path: &SitePath<'_>, query: DirectoryQuery<'_>) -> Result<Directory, Errno> {
    let handle = root.open_directory(path)?;
    let mut directory = Directory::default();
    for listed in Dir::read_from(&handle)? {
        let listed = listed?;
        let name = listed.file_name().to_bytes();
        if !is_shown(name, path, query.dotfiles) || !(query.may_read)(&path.entry(name)) {
            continue;
        }
        let entry = match entry(root, handle.as_fd(), path, name) {
            Ok(Some(entry)) => entry,
            Err(failed @ (Errno::IO | Errno::NOMEM | Errno::MFILE | Errno::NFILE)) => return Err(failed),
            // Gone, special, forbidden or outside the root.
            Ok(None) | Err(_) => continue,
        };
        if directory.entries.len() == query.entries {
            directory.is_truncated = true;
            break;
        }
        directory.entries.push(entry);
    }
    Ok(directory)
}

fn is_shown(name: &[u8], path: &SitePath<'_>, dotfiles: Dotfiles) -> bool {
    match name {
        b"." | b".." => false,
        b".well-known" if path.is_root() => true,
        [b'.', ..] => dotfiles != Dotfiles::Deny,
        _ if name == REDIRECTS_FILE.as_bytes() => !path.is_root(),
        _ => true,
    }
}

/// The entry `name` of the open directory; `None` for a special file.
fn entry(
    root: &Root,
    directory: BorrowedFd<'_>,
    path: &SitePath<'_>,
    name: &[u8],
) -> Result<Option<DirectoryEntry>, Errno> {
    // Relative to the open directory: the path is not walked again for an entry that is no symbolic link.
    let own = FileStat::from(&fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?);
    let is_symlink = own.kind == FileType::Symlink;
    let stat = if is_symlink { root.stat(&path.entry(name))? } else { own };
    let (kind, access) = match stat.kind {
        FileType::RegularFile => (EntryKind::File, Access::READ_OK),
        FileType::Directory => (EntryKind::Directory, Access::READ_OK | Access::EXEC_OK),
        _ => return Ok(None),
    };
    fs::accessat(directory, name, access, AtFlags::EACCESS)?;
    Ok(Some(DirectoryEntry { name: name.into(), kind, is_symlink, version: stat.version }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use crate::config::Symlinks;

    const ALL: DirectoryQuery<'_> =
        DirectoryQuery { entries: 1000, dotfiles: Dotfiles::Deny, may_read: &|_| true };

    fn path(text: &str) -> SitePath<'static> {
        SitePath::parse(text.as_bytes()).unwrap().path.into_owned()
    }

    fn read_in(dir: &Path, text: &str, query: DirectoryQuery) -> Directory {
        let root = Root::open(dir, Symlinks::Inside).unwrap();
        read(&root, &path(text), query).unwrap()
    }

    fn names(directory: &Directory) -> Vec<String> {
        let mut names: Vec<_> =
            directory.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_and_directories_are_listed_as_they_would_be_served() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("a"), b"four").unwrap();
        std::fs::write(dir.path().join("é"), b"").unwrap();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\n")), b"").unwrap();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let directory = read(&root, &SitePath::root(), ALL).unwrap();
        let entries: BTreeMap<_, _> = directory.entries.iter().map(|entry| (&*entry.name, entry)).collect();
        assert_eq!(entries.len(), 4);
        assert!(!directory.is_truncated);
        assert!(entries.contains_key(&b"\xff\n"[..]));
        assert_eq!(entries[&b"d"[..]].kind, EntryKind::Directory);
        let file = entries[&b"a"[..]];
        let Ok(super::super::root::RootEntry::File { stat, .. }) = root.entry(&path("/a")) else {
            panic!("a is a file")
        };
        assert_eq!((file.kind, file.version, file.is_symlink), (EntryKind::File, stat.version, false));
        assert_eq!(file.version.size, 4);
    }

    #[test]
    fn entries_that_a_request_could_not_get_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"s").unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at(".well-known")).unwrap();
        std::fs::create_dir_all(at("sub/.well-known")).unwrap();
        std::fs::create_dir(at(".git")).unwrap();
        for name in [".htpasswd", "_redirects", "sub/_redirects", "sub/kept"] {
            std::fs::write(at(name), b"x").unwrap();
        }
        symlink(outside.path().join("secret"), at("out")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("socket", at("to-socket")).unwrap();
        assert_eq!(names(&read_in(dir.path(), "/", ALL)), [".well-known", "sub"]);
        assert_eq!(names(&read_in(dir.path(), "/sub", ALL)), ["_redirects", "kept"]);
        let with_dots = DirectoryQuery { dotfiles: Dotfiles::Allow, ..ALL };
        assert_eq!(names(&read_in(dir.path(), "/", with_dots)), [".git", ".htpasswd", ".well-known", "sub"]);
    }

    #[test]
    fn symlinks_inside_the_root_are_listed_as_their_targets_unless_denied() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a"), b"four").unwrap();
        symlink("d/a", dir.path().join("file")).unwrap();
        symlink("d", dir.path().join("directory")).unwrap();
        symlink(dir.path().join("d/a"), dir.path().join("absolute")).unwrap();
        let shown = read_in(dir.path(), "/", ALL);
        let of = |name: &str| {
            let entry = shown.entries.iter().find(|entry| &*entry.name == name.as_bytes()).unwrap();
            (entry.kind, entry.is_symlink, entry.version.size == 4)
        };
        assert_eq!(of("file"), (EntryKind::File, true, true));
        assert_eq!(of("absolute"), (EntryKind::File, true, true));
        assert_eq!((of("directory").0, of("directory").1), (EntryKind::Directory, true));
        assert_eq!(names(&read_in(dir.path(), "/directory", ALL)), ["a"]);
        let root = Root::open(dir.path(), Symlinks::Deny).unwrap();
        assert_eq!(names(&read(&root, &SitePath::root(), ALL).unwrap()), ["d"]);
    }

    #[test]
    fn entries_beyond_the_bound_are_left_out_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..5 {
            std::fs::write(dir.path().join(index.to_string()), b"").unwrap();
        }
        for (bound, length, is_truncated) in [(4, 4, true), (5, 5, false), (6, 5, false)] {
            let directory = read_in(dir.path(), "/", DirectoryQuery { entries: bound, ..ALL });
            assert_eq!((directory.entries.len(), directory.is_truncated), (length, is_truncated), "{bound}");
        }
    }

    #[test]
    fn a_missing_directory_and_a_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"").unwrap();
        symlink("/", dir.path().join("out")).unwrap();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        for (name, expected) in [("/a", Errno::NOTDIR), ("/none", Errno::NOENT), ("/out", Errno::XDEV)] {
            assert_eq!(read(&root, &path(name), ALL).unwrap_err(), expected, "{name}");
        }
    }

    #[test]
    fn unreadable_files_are_left_out() {
        use std::os::unix::fs::PermissionsExt;
        if rustix::process::geteuid().is_root() {
            return; // Nothing is forbidden to root.
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "forbidden"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let mode = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(dir.path().join("forbidden"), mode).unwrap();
        assert_eq!(names(&read_in(dir.path(), "/", ALL)), ["a"]);
    }
}
