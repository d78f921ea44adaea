//! Absolute symbolic links that end inside the root.
//!
//! The kernel refuses them (`RESOLVE_BENEATH`), since to it an absolute name starts elsewhere. Here they are read, one at a
//! time and never followed, and one that spells the root's own path goes on from the root. Nothing outside is touched.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::storage::Storage;
use crate::http::target::SitePath;

/// The path without links that `path` leads to, where the root goes by `names` (absolute, without a trailing slash).
///
/// # Errors
/// EXDEV for what leads out, ELOOP for too many links, ENOENT and ENOTDIR as ever.
pub(crate) fn unfold(
    storage: &dyn Storage,
    root: BorrowedFd<'_>,
    names: &[Vec<u8>],
    path: &SitePath<'_>,
) -> Result<SitePath<'static>, Errno> {
    let mut ahead: Vec<Vec<u8>> = path.segments().rev().map(<[u8]>::to_vec).collect();
    let mut at = SitePath::root();
    let mut links = 0;
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
        let Some(target) = link_at(storage, root, &next)? else {
            at = next;
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let rest = match target.first() {
            Some(b'/') => {
                at = SitePath::root();
                within(&target, names).ok_or(Errno::XDEV)?
            }
            _ => &target,
        };
        ahead.extend(rest.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
    Ok(at)
}

/// What the link at `path` says; none where there is something else.
fn link_at(
    storage: &dyn Storage,
    root: BorrowedFd<'_>,
    path: &SitePath<'_>,
) -> Result<Option<Vec<u8>>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let seen = storage.open(root, path.as_bytes(), flags, Some(resolve))?;
    if FileType::from_raw_mode(storage.fstat(seen.as_fd())?.st_mode) != FileType::Symlink {
        return Ok(None);
    }
    Ok(Some(fs::readlinkat(&seen, "", Vec::new())?.into_bytes()))
}

/// What follows the root's name in `target`.
fn within<'a>(target: &'a [u8], names: &[Vec<u8>]) -> Option<&'a [u8]> {
    names.iter().find_map(|name| {
        let rest = target.strip_prefix(name.as_slice())?;
        (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
    })
}

/// As many links as the kernel follows.
const LINKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::storage::SystemStorage;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn absolute_links_are_followed_as_far_as_they_stay_inside() {
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
            let got = unfold(&SystemStorage, root.as_fd(), &names, &parsed);
            let got = got.map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap());
            assert_eq!(got, expected.map(str::to_owned), "{path}");
        }
    }
}
