//! Absolute symbolic links that end inside the root.
//!
//! The kernel refuses them (`RESOLVE_BENEATH`), since an absolute path starts outside the root. Here symbolic links are read one
//! at a time and never followed; one that begins with the root's own path continues from the root. Nothing outside is touched.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Storage;
use crate::http::target::SitePath;

/// Resolves the symbolic links of `path`. `root_paths` are the root's absolute paths, without a trailing slash.
///
/// # Errors
/// EXDEV if the path leaves the root, ELOOP for too many symbolic links, ENOENT and ENOTDIR as usual.
///
/// Decision: docs/decisions/012-absolute-symlinks.md.
pub(crate) fn resolve_symlinks(
    storage: &dyn Storage,
    root: BorrowedFd<'_>,
    root_paths: &[Vec<u8>],
    path: &SitePath<'_>,
) -> Result<SitePath<'static>, Errno> {
    let mut ahead: Vec<Vec<u8>> = path.segments().rev().map(<[u8]>::to_vec).collect();
    let mut at = SitePath::root();
    let mut symlinks = 0;
    while let Some(segment) = ahead.pop() {
        match &*segment {
            b"" | b"." => continue,
            b".." if at.is_root() => return Err(Errno::XDEV),
            b".." => {
                at = at.parent();
                continue;
            }
            _ => {}
        }
        let next = at.entry(&segment);
        let Some(target) = symlink_target(storage, root, &next)? else {
            at = next;
            continue;
        };
        symlinks += 1;
        if symlinks > SYMLINKS_MAX {
            return Err(Errno::LOOP);
        }
        let rest = match target.first() {
            Some(b'/') => {
                at = SitePath::root();
                strip_root(&target, root_paths).ok_or(Errno::XDEV)?
            }
            _ => &target,
        };
        ahead.extend(rest.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
    Ok(at)
}

/// Target of the symbolic link at `path`; `None` for any other entry.
fn symlink_target(
    storage: &dyn Storage,
    root: BorrowedFd<'_>,
    path: &SitePath<'_>,
) -> Result<Option<Vec<u8>>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let entry = storage.open(root, path.as_bytes(), flags, Some(resolve))?;
    if storage.fstat(entry.as_fd())?.kind != FileType::Symlink {
        return Ok(None);
    }
    Ok(Some(fs::readlinkat(&entry, "", Vec::new())?.into_bytes()))
}

/// `target` without the root's path in front; `None` if it does not begin with it.
fn strip_root<'a>(target: &'a [u8], root_paths: &[Vec<u8>]) -> Option<&'a [u8]> {
    root_paths.iter().find_map(|root| {
        let rest = target.strip_prefix(root.as_slice())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    })
}

/// As many symbolic links as the kernel follows.
const SYMLINKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::storage::SystemStorage;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn absolute_symlinks_are_followed_if_they_end_inside_the_root() {
        let parent = tempfile::tempdir().unwrap();
        let here = parent.path().join("root");
        std::fs::create_dir_all(here.join("d")).unwrap();
        std::fs::write(here.join("d/a"), b"a").unwrap();
        std::fs::write(parent.path().join("secret"), b"s").unwrap();
        std::fs::create_dir(parent.path().join("rootless")).unwrap();
        for (name, target) in [
            ("in", here.join("d/a")),
            ("dir", here.join("d")),
            ("twice", here.join("dir/a")),
            ("round", here.join("d/../d/./a")),
            ("self", here.clone()),
            ("relative", "d/../in".into()),
            ("out", parent.path().join("secret")),
            ("climbs", here.join("../secret")),
            ("sibling", parent.path().join("rootless")),
            ("loop", here.join("loop")),
            ("none", here.join("none-such")),
        ] {
            symlink(target, here.join(name)).unwrap();
        }
        let root = std::fs::File::open(&here).unwrap();
        let names = [here.as_os_str().as_bytes().to_vec()];
        for (path, expected) in [
            ("/in", Ok("d/a")),
            ("/dir/a", Ok("d/a")),
            ("/twice", Ok("d/a")),
            ("/round", Ok("d/a")),
            ("/self/d/a", Ok("d/a")),
            ("/relative", Ok("d/a")),
            ("/d/a", Ok("d/a")),
            ("/out", Err(Errno::XDEV)),
            ("/climbs", Err(Errno::XDEV)),
            ("/sibling", Err(Errno::XDEV)),
            ("/loop", Err(Errno::LOOP)),
            ("/none", Err(Errno::NOENT)),
            ("/in/x", Err(Errno::NOTDIR)),
        ] {
            let parsed = SitePath::parse(path.as_bytes()).unwrap().path;
            let got = resolve_symlinks(&SystemStorage, root.as_fd(), &names, &parsed);
            let got = got.map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap());
            assert_eq!(got, expected.map(str::to_owned), "{path}");
        }
    }
}
