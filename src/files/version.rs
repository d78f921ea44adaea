//! Versions of files: what length, ETag and Last-Modified all come from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat, Statx, makedev};

use crate::http::{date::HttpDate, encoding::Encoding, entity_tag::EntityTag};

/// One state of one file, from a single `fstat` or `statx` of an open handle.
///
/// Equal versions are taken for the same bytes: every write moves mtime or ctime, and ctime cannot be set back.
///
/// Decision: docs/decisions/017-file-versions.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Device on which the file lies (`st_dev`).
    pub(crate) device: u64,
    pub(super) inode: u64,
    /// Length in bytes.
    pub(crate) size: u64,
    pub(crate) mtime: Timestamp,
    ctime: Timestamp,
}

/// Time of the file system's clock: seconds since the epoch, which may be negative, and the nanoseconds beyond them.
type Timestamp = (i64, u32);

/// Metadata of an open file, from one system call.
#[derive(Clone, Copy, Debug)]
pub struct FileStat {
    pub(crate) version: Version,
    pub(crate) kind: FileType,
    /// Number of directory entries that name the file.
    pub(crate) hard_links: u64,
}

#[allow(clippy::unnecessary_cast, reason = "the fields' widths differ between architectures")]
impl From<&Stat> for FileStat {
    fn from(stat: &Stat) -> Self {
        Self {
            version: Version {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
                ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            },
            kind: FileType::from_raw_mode(stat.st_mode),
            hard_links: stat.st_nlink as u64,
        }
    }
}

impl From<&Statx> for FileStat {
    fn from(stat: &Statx) -> Self {
        let (mtime, ctime) = (stat.stx_mtime, stat.stx_ctime);
        Self {
            version: Version {
                device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                size: stat.stx_size,
                mtime: (mtime.tv_sec, mtime.tv_nsec),
                ctime: (ctime.tv_sec, ctime.tv_nsec),
            },
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            hard_links: stat.stx_nlink.into(),
        }
    }
}

impl FileStat {
    /// The version of a regular file; `None` for everything else.
    pub(crate) fn file_version(&self) -> Option<Version> {
        (self.kind == FileType::RegularFile).then_some(self.version)
    }

    /// Whether `later`, from the same handle, describes the same bytes.
    ///
    /// Unlinking a file or renaming another over it moves ctime and the number of links, and leaves the bytes of an
    /// open handle alone; ctime that moves by itself may hide a write whose mtime was set back.
    pub(crate) fn has_same_bytes(&self, later: &Self) -> bool {
        let (before, now) = (self.version, later.version);
        let is_same = now.size == before.size && now.mtime == before.mtime;
        is_same && (now.ctime == before.ctime || later.hard_links != self.hard_links)
    }

    /// The same metadata as of a file on `device`.
    #[cfg(any(test, feature = "test-doubles"))]
    pub(super) fn on_device(self, device: u64) -> Self {
        Self { version: Version { device, ..self.version }, ..self }
    }
}

impl Version {
    /// Time of the last change of the bytes, for `Last-Modified`; `None` outside the years that a date can express, and
    /// up to 1980: build systems that want equal trees on every machine set such times, and they date nothing. A time
    /// after `now` becomes `now`: no response may name a date beyond its own (RFC 9110 §8.8.2.1).
    pub fn modified_before(&self, now: SystemTime) -> Option<HttpDate> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        let seconds = self.mtime.0.min(now);
        HttpDate::from_unix_seconds(seconds).filter(|_| SENTINELS_TO < seconds)
    }

    /// Whether `date` is the file's own mtime, and not a time in its stead, which could be the date of two versions.
    pub(crate) fn is_of(&self, date: HttpDate) -> bool {
        i64::try_from(date.unix_seconds()) == Ok(self.mtime.0)
    }

    /// A strong entity-tag (RFC 9110 §8.8.3); `encoding` is the one that the file's bytes are in, `None` for identity.
    pub fn entity_tag(&self, encoding: Option<Encoding>) -> EntityTag<'static> {
        let identity = mix(mix(mix(self.device) ^ self.inode) ^ nanoseconds_of(self.ctime));
        EntityTag::strong_hex([self.size, nanoseconds_of(self.mtime), identity], encoding)
    }

    /// Whether the mtime is before that of `other`.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        self.mtime < other.mtime
    }

    /// Whether both are versions of one file.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether the file was written so shortly before `now` that a second write could have left the same timestamps
    /// (their grain is a tick of the kernel's clock). A little after `now` is just before it by another machine's clock;
    /// long after, the clock was set back since, and a second write would leave other timestamps.
    pub(crate) fn is_racy(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return true };
        let changed = Duration::from_nanos(nanoseconds_of(self.ctime));
        now.saturating_sub(changed) < RACY_WITHIN && changed.saturating_sub(now) < CLOCKS_APART
    }
}

fn nanoseconds_of((seconds, nanoseconds): Timestamp) -> u64 {
    seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(u64::from(nanoseconds))
}

/// The finalizer of splitmix64: every bit of the input affects every bit of the output.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 1980-01-01T00:00:00Z, the first time that a zip archive can express, in Unix seconds.
const SENTINELS_TO: i64 = 315_532_800;

/// Two ticks of a 100 Hz kernel, and as much again for a clock read on another core.
pub(crate) const RACY_WITHIN: Duration = Duration::from_millis(40);

/// Clocks of machines that share files differ by less.
///
/// Decision: docs/decisions/009-clocks.md.
const CLOCKS_APART: Duration = Duration::from_secs(60);

#[cfg(test)]
impl Version {
    /// A version for tests of what is made of one.
    pub(crate) fn sample(size: u64, seconds: i64) -> Self {
        let mtime = (seconds, 500);
        Self { device: 1, inode: 2, size, mtime, ctime: mtime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn stat_of(file: &std::fs::File) -> FileStat {
        FileStat::from(&rustix::fs::fstat(file.as_fd()).unwrap())
    }

    #[test]
    fn a_file_unlinked_under_way_is_still_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"x").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let before = stat_of(&file);
        std::thread::sleep(Duration::from_millis(20));
        std::fs::remove_file(&path).unwrap();
        assert!(before.has_same_bytes(&stat_of(&file)));
    }

    #[test]
    fn a_write_whose_mtime_was_set_back_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"x").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let before = stat_of(&file);
        let mtime = file.metadata().unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, b"y").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
        assert!(!before.has_same_bytes(&stat_of(&file)));
    }

    #[test]
    fn a_file_just_written_is_racy_and_an_old_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"x").unwrap();
        let version = stat_of(&std::fs::File::open(&path).unwrap()).version;
        assert!(version.is_racy(SystemTime::now()));
        assert!(!version.is_racy(SystemTime::now() + Duration::from_secs(1)));
    }

    #[test]
    fn times_that_build_systems_set_date_nothing() {
        let at = |seconds| Version {
            device: 1,
            inode: 2,
            size: 3,
            mtime: (seconds, 0),
            ctime: (1_700_000_000, 0),
        };
        for (seconds, is_dated) in
            [(-1, false), (0, false), (1, false), (315_532_800, false), (315_532_801, true)]
        {
            assert_eq!(at(seconds).modified_before(SystemTime::now()).is_some(), is_dated, "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_file_racy_for_long_and_dates_nothing_in_the_future() {
        let written: u64 = 1_700_000_000;
        let version = Version::sample(3, written.cast_signed());
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        for (now, is_racy, is_own) in [
            (written + 3600, false, true),
            (written, true, true),
            (written - 1, true, false),
            (written - 59, true, false),
            (written - 61, false, false),
            (written - 3600, false, false),
        ] {
            assert_eq!(version.is_racy(at(now)), is_racy, "{now}");
            let date = version.modified_before(at(now)).unwrap();
            assert_eq!(date.unix_seconds(), now.min(written), "{now}");
            assert_eq!(version.is_of(date), is_own, "{now}");
        }
    }

    #[test]
    fn entity_tags_are_quoted_and_differ_when_only_ctime_differs() {
        let at = |ctime| Version { device: 1, inode: 2, size: 3, mtime: (4, 5), ctime: (ctime, 0) };
        let (one, other) = (at(6).entity_tag(None), at(7).entity_tag(None));
        assert!(!one.strong_eq(&other));
        assert!(one.strong_eq(&at(6).entity_tag(None)) && !one.is_weak());
    }
}
