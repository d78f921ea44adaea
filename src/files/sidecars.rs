//! What lies beside a file and goes with it: compressed sidecars, and its checksum.

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::root::{Root, leads_nowhere};
use super::version::{Version, links_of};
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// Versions of the files beside a file, by what their names add to its name. Part of the file's entry in the cache, so that
/// no request looks for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sidecars {
    seen: Box<[(&'static str, Option<Version>)]>,
    /// One of them is a link, has another name, or could not be looked at: there may be another one without an event in its
    /// directory.
    may_change_untold: bool,
}

impl Sidecars {
    /// Looks at what lies beside `path`. Blocks. A sidecar that can't be looked at counts as absent, since the file can do
    /// without; `tell` hears of it.
    ///
    /// # Errors
    /// Where nothing can be known of the checksum, so that nobody takes for absent what is there.
    pub(crate) fn look(
        root: &Root,
        path: &SitePath<'_>,
        with_checksum: bool,
        tell: &dyn Fn(&SitePath<'_>, Errno),
    ) -> Result<Self, Errno> {
        let codings = Encoding::ALL.into_iter().filter(|_| !is_sidecar(path)).map(Encoding::suffix);
        let checksum = (with_checksum && !path.as_bytes().ends_with(CHECKSUM.as_bytes())).then_some(CHECKSUM);
        let mut may_change_untold = false;
        let mut look = |suffix: &'static str| {
            let beside = path.suffixed(suffix);
            let (version, is_plain) = match version_at(root, &beside) {
                Ok(seen) => seen,
                Err(errno) if suffix == CHECKSUM => return Err(errno),
                Err(errno) => {
                    tell(&beside, errno);
                    (None, false)
                }
            };
            may_change_untold |= !is_plain;
            Ok((suffix, version))
        };
        let seen = codings.chain(checksum).map(&mut look).collect::<Result<_, Errno>>()?;
        Ok(Self { seen, may_change_untold })
    }

    /// Whether something beside the file can change without an event in its directory.
    pub(crate) fn may_change_untold(&self) -> bool {
        self.may_change_untold
    }

    /// The version of the sidecar in `coding`.
    pub(crate) fn sidecar(&self, coding: Encoding) -> Option<Version> {
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
        let is_same = |(suffix, version): &(&str, Option<Version>)| {
            if version.is_none() && is_told_of {
                return true;
            }
            match root.glance(&path.suffixed(suffix)) {
                Ok(stat) => version_of_file(&stat) == *version,
                Err(errno) => version.is_none() && leads_nowhere(errno),
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
    let suffixes = Encoding::ALL.into_iter().map(Encoding::suffix).chain([CHECKSUM]);
    suffixes.into_iter().find_map(|suffix| path.without_suffix(suffix))
}

/// A sidecar has no sidecars of its own.
fn is_sidecar(path: &SitePath<'_>) -> bool {
    Encoding::ALL.into_iter().any(|coding| path.as_bytes().ends_with(coding.suffix().as_bytes()))
}

/// The version of a regular file, and whether the name is the file's own and only one.
fn version_at(root: &Root, path: &SitePath<'_>) -> Result<(Option<Version>, bool), Errno> {
    let plainly = root.look_plainly(path);
    let is_plain = !matches!(plainly, Err(Errno::LOOP));
    match if is_plain { plainly } else { root.look(path) } {
        Ok(stat) => {
            let version = version_of_file(&stat);
            Ok((version, is_plain && (version.is_none() || links_of(&stat) == 1)))
        }
        Err(errno) if leads_nowhere(errno) => Ok((None, is_plain)),
        Err(errno) => Err(errno),
    }
}

fn version_of_file(stat: &Stat) -> Option<Version> {
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| Version::of(stat))
}

/// What the name of a checksum adds to the name of its file.
pub(crate) const CHECKSUM: &str = ".sha256";
