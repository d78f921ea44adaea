//! Finds the files of the document root that globs match.

use crate::files::directory::{DirectoryQuery, EntryKind, read};
use crate::files::recency::FileParts;
use crate::files::warming::HotFile;
use crate::http::path_glob::PathGlobs;
use crate::http::target::SitePath;
use crate::lifecycle::warmup::warmer::WarmupTarget;

/// Files that match.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) hot: Vec<HotFile>,
    /// There are more than the maximum, or more names than are looked at.
    pub(crate) is_truncated: bool,
    /// Number of directories that could not be read.
    pub(crate) closed: u64,
}

/// Finds at most `max` files that one of `globs` matches. Blocks.
///
/// Skips files that no request can get: hidden names, and symbolic links out of the root. Symbolic links to directories are not
/// followed, so that the walk ends; the files are found under their own names.
pub(crate) fn matches(target: &WarmupTarget, globs: &PathGlobs, max: usize) -> Matches {
    let dotfiles = target.dotfiles;
    let mut found = Matches::default();
    let mut left = NAMES_MAX;
    let mut directories = vec![SitePath::root()];
    while let Some(path) = directories.pop() {
        let query = DirectoryQuery { entries: left, dotfiles, may_read: &|_| true };
        let Ok(directory) = read(&target.files.loader.root, &path, query) else {
            found.closed += 1;
            continue;
        };
        found.is_truncated |= directory.is_truncated;
        left -= directory.entries.len();
        for entry in directory.entries {
            let at = path.entry(&entry.name);
            match entry.kind {
                EntryKind::Directory if !entry.is_symlink => directories.push(at),
                EntryKind::File if globs.matches(at.as_bytes()) => {
                    if found.hot.len() >= max {
                        found.is_truncated = true;
                        return found;
                    }
                    let length = entry.version.size;
                    found.hot.push(HotFile { path: at, encoding: None, length, parts: FileParts::ALL });
                }
                EntryKind::Directory | EntryKind::File => {}
            }
        }
    }
    found
}

/// Most names that are looked at.
const NAMES_MAX: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dotfiles, Symlinks};
    use crate::files::policy::Rules;
    use crate::files::{FileSettings, Files, Root};
    use std::os::unix::fs::symlink;

    fn found(globs: &[&str], max: usize) -> (Vec<String>, bool) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/x.js", "a/b/y.js", "z.css", ".git/config.js", "a/.hid.js", "_redirects"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        symlink("..", dir.path().join("a/loop")).unwrap();
        symlink("a/x.js", dir.path().join("link.js")).unwrap();
        symlink("/etc/passwd", dir.path().join("out.js")).unwrap();
        let root = Root::open(dir.path(), Symlinks::Inside).unwrap();
        let files = Files::new(root, &FileSettings::small(), Rules::new(&Config::default())).unwrap();
        let globs = PathGlobs::new(globs.iter().map(|&glob| glob.to_owned()).collect()).unwrap();
        let matches = matches(&WarmupTarget { files, dotfiles: Dotfiles::Deny }, &globs, max);
        assert_eq!(matches.closed, 0);
        let mut paths: Vec<_> = matches.hot.iter().map(|hot| hot.path.to_string()).collect();
        paths.sort();
        (paths, matches.is_truncated)
    }

    #[test]
    fn every_file_that_can_be_requested_is_found_once() {
        let all = ["a/b/y.js", "a/x.js", "link.js", "z.css"].map(str::to_owned).to_vec();
        assert_eq!(found(&["**"], 100), (all, false));
        assert_eq!(found(&["/a/*.js", "*.css"], 100).0, ["a/x.js", "z.css"]);
        assert_eq!(found(&["/nothing/**"], 100), (vec![], false));
    }

    #[test]
    fn no_more_files_are_found_than_the_maximum() {
        let (paths, is_truncated) = found(&["**"], 2);
        assert_eq!((paths.len(), is_truncated), (2, true));
    }
}
