//! Lists every name below the document root.

use std::io;

use rayon::{ThreadPool, ThreadPoolBuilder};
use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use crate::cli::outcome::CommandOutput;
use crate::config::{Config, Dotfiles};
use crate::files::{FileStat, Root};
use crate::http::target::SitePath;
use crate::sys::temp_file::is_temporary;

/// The document root, its names, and the threads to work on them.
pub(crate) struct Tree {
    pub(crate) root: Root,
    pub(crate) items: Vec<TreeItem>,
    pub(crate) pool: ThreadPool,
}

impl Tree {
    /// Opens the document root and lists its names. `threads` is the size of the pool; `None` means one for each processor.
    ///
    /// # Errors
    /// What the command prints if the root can't be opened or threads can't be started.
    pub(crate) fn open(config: &Config, threads: Option<usize>) -> Result<Self, CommandOutput> {
        let path = config.site.root.as_path();
        let root = Root::open(path, config.site.symlinks)
            .map_err(|error| CommandOutput::failed(format_args!("{}: {error}", path.display())))?;
        // 0 means one for each processor.
        let pool = ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
        let pool =
            pool.map_err(|error| CommandOutput::failed(format_args!("cannot start threads: {error}")))?;
        let items = walk(&root, config.site.dotfiles);
        Ok(Self { root, items, pool })
    }
}

/// A name in the tree. Directories are left out unless they can't be listed.
#[derive(Debug)]
pub(crate) struct TreeItem {
    pub(crate) path: SitePath<'static>,
    pub(crate) kind: TreeItemKind,
}

/// Type of a file. Symbolic links are not followed.
#[derive(Debug)]
pub(crate) enum TreeItemKind {
    File {
        bytes: u64,
    },
    Symlink,
    /// A fifo, a socket, a device.
    Special,
    /// A temporary file of a compression that was killed or is under way.
    Temporary,
    /// A name without access to its metadata, or a directory that can't be listed.
    Closed(io::Error),
}

/// Lists all names below `root`, sorted by their bytes. With [`Dotfiles::Deny`] hidden names are left out with all that is below
/// them. Takes some hundred bytes of memory for each name.
fn walk(root: &Root, dotfiles: Dotfiles) -> Vec<TreeItem> {
    let mut items = Vec::new();
    let mut directories = vec![SitePath::root()];
    while let Some(directory) = directories.pop() {
        if let Err(error) = list(root, &directory, dotfiles, &mut items, &mut directories) {
            items.push(TreeItem { path: directory, kind: TreeItemKind::Closed(error) });
        }
    }
    items.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    items
}

/// Finds the item at `path`.
pub(crate) fn find<'a>(items: &'a [TreeItem], path: &[u8]) -> Option<&'a TreeItem> {
    let position = items.binary_search_by(|item| item.path.as_bytes().cmp(path)).ok()?;
    items.get(position)
}

fn list(
    root: &Root,
    directory: &SitePath<'_>,
    dotfiles: Dotfiles,
    items: &mut Vec<TreeItem>,
    directories: &mut Vec<SitePath<'static>>,
) -> io::Result<()> {
    let handle = root.open_directory(directory)?;
    for entry in fs::Dir::read_from(&handle)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let path = directory.entry(name);
        let kind = if matches!(name, b"." | b"..") {
            continue;
        } else if is_temporary(name) {
            TreeItemKind::Temporary
        } else if dotfiles == Dotfiles::Deny && path.is_hidden() {
            continue;
        } else {
            match fs::statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileStat::from(&stat)) {
                Ok(stat) => match stat.kind {
                    FileType::Directory => {
                        directories.push(path);
                        continue;
                    }
                    FileType::RegularFile => TreeItemKind::File { bytes: stat.version.size },
                    FileType::Symlink => TreeItemKind::Symlink,
                    _ => TreeItemKind::Special,
                },
                // It was removed after it was listed.
                Err(Errno::NOENT) => continue,
                Err(error) => TreeItemKind::Closed(error.into()),
            }
        };
        items.push(TreeItem { path, kind });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Symlinks;

    fn names(dotfiles: Dotfiles) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/c", ".git", ".well-known", "b/.hid"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        for name in ["z", "a", "b/c/d", "b/.e", ".git/config", ".well-known/x", "b/.hid/f", "b-c"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join(".pagecast-temporary.1-2"), "").unwrap();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let items = walk(&root, dotfiles);
        assert!(matches!(find(&items, b"link").unwrap().kind, TreeItemKind::Symlink));
        assert!(matches!(find(&items, b"b/c/d").unwrap().kind, TreeItemKind::File { bytes: 5 }));
        assert!(matches!(find(&items, b".pagecast-temporary.1-2").unwrap().kind, TreeItemKind::Temporary));
        assert!(find(&items, b"b").is_none());
        let names = items.iter().filter(|item| !matches!(item.kind, TreeItemKind::Temporary));
        names.map(|item| String::from_utf8(item.path.as_bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn names_are_sorted_and_hidden_ones_left_out() {
        assert_eq!(names(Dotfiles::Deny), [".well-known/x", "a", "b-c", "b/c/d", "link", "z"]);
    }

    #[test]
    fn hidden_names_are_listed_if_they_are_served() {
        assert_eq!(
            names(Dotfiles::Allow),
            [".git/config", ".well-known/x", "a", "b-c", "b/.e", "b/.hid/f", "b/c/d", "link", "z"]
        );
    }
}
