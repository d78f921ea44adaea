//! What lies beside a file and goes with it: compressed sidecars, and its checksum.

use rustix::fs::FileType;
use rustix::io::Errno;

use super::root::Root;
use super::version::Version;
use crate::http::encoding::Coding;
use crate::http::target::SitePath;

/// Versions of the files beside a file, by what their names add to its name. Part of the file's entry in the cache, so that
/// no request looks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    seen: Box<[(&'static str, Option<Version>)]>,
}

impl Beside {
    /// Looks at what lies beside `path`. Blocks.
    pub(crate) fn look(root: &Root, path: &SitePath<'_>, with_checksum: bool) -> Self {
        let codings = Coding::ALL.into_iter().filter(|_| !is_sidecar(path)).map(Coding::suffix);
        let checksum = (with_checksum && !path.as_bytes().ends_with(CHECKSUM.as_bytes())).then_some(CHECKSUM);
        let version = |suffix: &'static str| (suffix, version_at(root, &path.suffixed(suffix)));
        Self { seen: codings.chain(checksum).map(version).collect() }
    }

    /// The version of the sidecar in `coding`.
    pub(crate) fn sidecar(&self, coding: Coding) -> Option<Version> {
        self.version(coding.suffix())
    }

    /// Whether the file is one that may have sidecars.
    pub(crate) fn may_have_sidecars(&self) -> bool {
        self.seen.iter().any(|(suffix, _)| *suffix != CHECKSUM)
    }

    /// The version of the checksum, where checksums are heeded.
    pub(crate) fn checksum(&self) -> Option<Version> {
        self.version(CHECKSUM)
    }

    /// Whether the kernel confirms, from memory alone, that nothing beside `path` has changed. What `is_told_of` need not be
    /// looked for where it was absent: its coming would have been told.
    pub(crate) fn is_unchanged(&self, root: &Root, path: &SitePath<'_>, is_told_of: bool) -> bool {
        let is_same = |(suffix, version): &(&str, Option<Version>)| match version {
            None if is_told_of => true,
            None => matches!(root.glance(&path.suffixed(suffix)), Err(Errno::NOENT | Errno::NOTDIR)),
            Some(version) => {
                root.glance(&path.suffixed(suffix)).is_ok_and(|stat| Version::of(&stat) == *version)
            }
        };
        self.seen.iter().all(is_same)
    }

    fn version(&self, suffix: &str) -> Option<Version> {
        self.seen.iter().find(|(known, _)| *known == suffix)?.1
    }
}

/// The file beside which `path` would lie, if its name says that it lies beside one.
pub(crate) fn original(path: &SitePath<'_>) -> Option<SitePath<'static>> {
    let suffixes = Coding::ALL.into_iter().map(Coding::suffix).chain([CHECKSUM]);
    suffixes.into_iter().find_map(|suffix| path.without_suffix(suffix))
}

/// A sidecar has no sidecars of its own.
fn is_sidecar(path: &SitePath<'_>) -> bool {
    Coding::ALL.into_iter().any(|coding| path.as_bytes().ends_with(coding.suffix().as_bytes()))
}

fn version_at(root: &Root, path: &SitePath<'_>) -> Option<Version> {
    let stat = root.look(path).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Version::of(&stat))
}

/// What the name of a checksum adds to the name of its file.
pub(crate) const CHECKSUM: &str = ".sha256";
