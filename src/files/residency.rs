//! Which pages of a file are in memory. A window is sent only if its pages are known to be.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Asset, Handle, Storage, WINDOW};
use crate::sys::kernel::{Mapping, PAGE};

/// The page table of this process, as `/proc/self/pagemap` shows it.
///
/// A page with an entry is in memory for certain, whoever owns the file, and stays until the kernel runs short: the cheapest
/// reliable answer. A page without an entry may be in memory nevertheless.
pub(crate) struct PageTable {
    map: Option<OwnedFd>,
}

impl PageTable {
    /// Opens the page map; if that fails, no page ever counts as in the table.
    pub(crate) fn open() -> Self {
        let is_known_size = rustix::param::page_size() == PAGE;
        let open =
            || rustix::fs::open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        Self { map: is_known_size.then(open).flatten() }
    }

    /// Whether all pages of `range`, at most a window, are in the table.
    pub(crate) fn has(&self, storage: &dyn Storage, mapping: &Mapping, range: &Range<u64>) -> bool {
        let Some(map) = self.map.as_ref().filter(|_| storage.trusts_page_table(mapping, range)) else {
            return false;
        };
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
            return false;
        };
        let first = mapping.page_number(start);
        let count = mapping.page_number(end.saturating_sub(1)) + 1 - first;
        let mut entries = [0_u8; ENTRIES_MAX * ENTRY];
        let Some(entries) = entries.get_mut(..count * ENTRY) else { return false };
        let read = rustix::io::pread(map, &mut *entries, (first * ENTRY) as u64);
        // Bit 63 of an entry, in the machine's byte order.
        let is_present =
            |entry: &[u8]| entry.try_into().is_ok_and(|bytes| u64::from_ne_bytes(bytes) >> 63 == 1);
        read.is_ok_and(|length| length == entries.len()) && entries.chunks_exact(ENTRY).all(is_present)
    }
}

/// Whether `range` of the open file is in the page cache, as the kernel says, without waiting for a disk.
///
/// `preadv2(RWF_NOWAIT)` into `scratch` is the only call that tells every user the truth: `mincore` and `cachestat` hide the
/// state of other users' files. If the file system can't answer, the window counts as cold.
///
/// Decision: docs/decisions/006-residency-check.md.
pub(crate) fn probe(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    range: Range<u64>,
    scratch: &mut [u8],
) -> bool {
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).map_or(scratch.len(), |left| left.min(scratch.len()));
        match storage.probe(file, &mut scratch[..length], at) {
            // The file is shorter than it was: sending will find that out.
            Ok(0) => return true,
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            Err(error) => {
                if UNANSWERED.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::warn!(
                        "the file system can't tell which pages are in memory ({error}): \
                         every window is read off the worker before it is sent"
                    );
                }
                return false;
            }
        }
    }
    true
}

/// Reads `range` of the asset from the disk into the page cache, and announces `next` to the disk. Blocks.
///
/// # Errors
/// Those of the disk; EFAULT if the file is shorter by now.
pub(crate) fn populate(
    storage: &dyn Storage,
    asset: &Asset,
    handle: Option<&Arc<Handle>>,
    range: Range<u64>,
    next: Range<u64>,
) -> io::Result<()> {
    if let Some(handle) = handle {
        storage.advise(handle.fd(), &range);
        storage.advise(handle.fd(), &next);
    }
    if let Some(mapping) = asset.mapping() {
        let start = usize::try_from(range.start).map_err(io::Error::other)?;
        let end = usize::try_from(range.end).map_err(io::Error::other)?.min(mapping.len());
        match storage.populate(mapping, start..end) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => return done,
        }
    }
    match handle {
        Some(handle) => storage.read_chunks(handle.fd(), range, SCRATCH, |_| {}).map(drop),
        None => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}

/// Windows that were found in memory a moment ago, so that hot ones are not probed for every request. One for each worker.
pub(crate) struct RecentlyResident {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    asset: u64,
    window: u64,
    until_ms: u64,
}

impl RecentlyResident {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Slot::default(); RECENT_SLOTS].into_boxed_slice() }
    }

    pub(crate) fn contains(&self, asset: u64, window: u64, now_ms: u64) -> bool {
        let slot = self.slots[index(asset, window)];
        slot.asset == asset && slot.window == window && now_ms < slot.until_ms
    }

    pub(crate) fn insert(&mut self, asset: u64, window: u64, now_ms: u64) {
        self.slots[index(asset, window)] = Slot { asset, window, until_ms: now_ms + RECENT_MS };
    }
}

fn index(asset: u64, window: u64) -> usize {
    let hash = (asset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ window).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash >> 48) as usize % RECENT_SLOTS
}

/// Bytes of an entry of the page map.
const ENTRY: usize = 8;

/// Pages of a window that does not begin at a page boundary.
const ENTRIES_MAX: usize = WINDOW as usize / PAGE + 1;

/// Number of probes that the file system could not answer since the start of the process. The first is logged.
pub(crate) static UNANSWERED: AtomicU64 = AtomicU64::new(0);

/// Bytes of the buffer of a probe or a read: few enough to stay in the core's own cache.
pub(crate) const SCRATCH: usize = 64 * 1024;

const RECENT_SLOTS: usize = 4096;

/// Time for which a window counts as in memory after it was found there.
pub(crate) const RECENT_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::storage::SystemStorage;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_just_written_is_resident() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[1; 300_000]).unwrap();
        let mut scratch = vec![0; SCRATCH];
        assert!(probe(&SystemStorage, file.as_fd(), 0..300_000, &mut scratch));
    }

    #[test]
    fn the_page_table_has_populated_pages_and_no_others() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &vec![1; 3_000_000]).unwrap();
        let mapping = Mapping::of(file.as_fd(), 3_000_000).unwrap();
        let table = PageTable::open();
        assert!(!table.has(&SystemStorage, &mapping, &(0..100_000)));
        mapping.populate(0..100_000).unwrap();
        assert!(table.has(&SystemStorage, &mapping, &(0..100_000)));
        assert!(table.has(&SystemStorage, &mapping, &(5_000..6_000)));
        assert!(!table.has(&SystemStorage, &mapping, &(2_000_000..2_200_000)));
    }

    #[test]
    fn a_resident_window_is_remembered_for_a_while() {
        let mut recent = RecentlyResident::new();
        recent.insert(7, 3, 1000);
        assert!(recent.contains(7, 3, 1000));
        assert!(recent.contains(7, 3, 1000 + RECENT_MS - 1));
        assert!(!recent.contains(7, 3, 1000 + RECENT_MS));
        assert!(!recent.contains(7, 4, 1000));
        assert!(!recent.contains(8, 3, 1000));
    }
}
