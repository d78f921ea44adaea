//! Sidecars of a file: its compressed encodings (`.br`, `.zst`, `.gz`) and its checksum (`.sha256`).

use rustix::io::Errno;

use super::{Root, Version, is_missing};
use crate::http::{encoding::Encoding, target::SitePath};

/// Versions of a file's sidecars, by suffix. Part of the cached asset, so that no request looks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sidecars {
    versions: Box<[(&'static str, Option<Version>)]>,
    /// A sidecar is a symbolic link, has another hard link, or could not be read: it can change without an inotify event.
    pub(super) may_change_unwatched: bool,
}

impl Sidecars {
    /// Looks up the sidecars of the file at `path`. Blocks. An encoding that can't be read counts as absent, since the file can
    /// be served without; `report` gets the error.
    ///
    /// # Errors
    /// Those of the lookup of the checksum: an existing one must not count as absent.
    pub(crate) fn look_up(
        root: &Root,
        path: &SitePath<'_>,
        with_checksum: bool,
        report: impl Fn(&SitePath<'_>, Errno) -> bool,
    ) -> Result<Self, Errno> {
        let encodings = Encoding::ALL.into_iter().filter(|_| !is_sidecar(path)).map(Encoding::suffix);
        let checksum = (with_checksum && !path.as_bytes().ends_with(CHECKSUM.as_bytes())).then_some(CHECKSUM);
        let mut may_change_unwatched = false;
        let mut look_up = |suffix: &'static str| {
            let sidecar = path.suffixed(suffix);
            let (version, is_watchable) = match version_at(root, &sidecar) {
                Ok(found) => found,
                Err(errno) if suffix == CHECKSUM => return Err(errno),
                Err(errno) => {
                    report(&sidecar, errno);
                    (None, false)
                }
            };
            may_change_unwatched |= !is_watchable;
            Ok((suffix, version))
        };
        let versions = encodings.chain(checksum).map(&mut look_up).collect::<Result<_, Errno>>()?;
        Ok(Self { versions, may_change_unwatched })
    }

    /// Version of the sidecar in `encoding`.
    pub(crate) fn encoded(&self, encoding: Encoding) -> Option<Version> {
        self.version(encoding.suffix())
    }

    /// Whether the file may have encoded sidecars: a sidecar has none itself.
    pub(crate) fn may_be_encoded(&self) -> bool {
        self.versions.iter().any(|(suffix, _)| *suffix != CHECKSUM)
    }

    /// Version of the checksum; `None` without one, or if checksums are not verified.
    pub(crate) fn checksum(&self) -> Option<Version> {
        self.version(CHECKSUM)
    }

    /// Whether the kernel confirms, from its caches alone, that no sidecar of `path` has changed. Absent sidecars are not looked
    /// up if the directory `is_watched`: inotify would have reported a new one.
    pub(crate) fn is_unchanged(&self, root: &Root, path: &SitePath<'_>, is_watched: bool) -> bool {
        let is_same = |(suffix, version): &(&str, Option<Version>)| {
            if version.is_none() && is_watched {
                return true;
            }
            match root.stat_if_cached(&path.suffixed(suffix)) {
                Ok(stat) => stat.file_version() == *version,
                Err(errno) => version.is_none() && is_missing(errno),
            }
        };
        self.versions.iter().all(is_same)
    }

    fn version(&self, suffix: &str) -> Option<Version> {
        self.versions.iter().find(|(known, _)| *known == suffix)?.1
    }
}

/// The file that `path` would be a sidecar of, by its suffix.
pub(crate) fn original(path: &SitePath<'_>) -> Option<SitePath<'static>> {
    let suffixes = Encoding::ALL.into_iter().map(Encoding::suffix).chain([CHECKSUM]);
    suffixes.into_iter().find_map(|suffix| path.without_suffix(suffix))
}

/// A sidecar has no sidecars of its own.
fn is_sidecar(path: &SitePath<'_>) -> bool {
    Encoding::ALL.into_iter().any(|encoding| path.as_bytes().ends_with(encoding.suffix().as_bytes()))
}

/// Version of the regular file at `path`, and whether inotify reports every change of it: it is no symbolic link, and has no
/// other hard link.
fn version_at(root: &Root, path: &SitePath<'_>) -> Result<(Option<Version>, bool), Errno> {
    let stat = root.stat_without_symlinks(path);
    let is_symlink_free = !matches!(stat, Err(Errno::LOOP));
    match if is_symlink_free { stat } else { root.stat(path) } {
        Ok(stat) => {
            let version = stat.file_version();
            Ok((version, is_symlink_free && (version.is_none() || stat.hard_links == 1)))
        }
        Err(errno) if is_missing(errno) => Ok((None, is_symlink_free)),
        Err(errno) => Err(errno),
    }
}

/// Suffix of a checksum's name.
pub(crate) const CHECKSUM: &str = ".sha256";
