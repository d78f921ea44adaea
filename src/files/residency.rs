//! Which pages of a file are in memory. A window is sent only when its pages are known to be.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::asset::Asset;
use super::handle_pool::Handle;
use super::storage::Storage;
use super::window::WINDOW;
use crate::sys::kernel::{Mapping, PAGE};

/// What the kernel says of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    Resident,
    Cold,
}

/// The page table of this process, as `/proc/self/pagemap` shows it.
///
/// A page that stands in it is in memory for certain, whoever owns the file: the cheapest true answer there is, and the page
/// stays until the kernel runs short. A page that does not stand in it may be in memory all the same.
pub(crate) struct PageTable {
    map: Option<OwnedFd>,
}

impl PageTable {
    /// Opens the page map; where that can't be, no page is ever said to be there.
    pub(crate) fn open() -> Self {
        let is_known_size = rustix::param::page_size() == PAGE;
        let open =
            || rustix::fs::open("/proc/self/pagemap", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        Self { map: is_known_size.then(open).flatten() }
    }

    /// Whether all pages of `range`, at most a window, are in the table.
    pub(crate) fn has(&self, storage: &dyn Storage, mapping: &Mapping, range: &Range<u64>) -> bool {
        let Some(map) = self.map.as_ref().filter(|_| storage.heeds_page_table(mapping, range)) else {
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

/// Asks the kernel whether `range` of the open file is in the page cache, without waiting for a disk.
///
/// `preadv2(RWF_NOWAIT)` into `scratch` is the only question that the kernel answers truly to everybody: `mincore` and
/// `cachestat` keep the state of other users' files to themselves. Where the file system can't answer, the window
/// counts as cold.
pub(crate) fn probe(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    range: Range<u64>,
    scratch: &mut [u8],
) -> Residency {
    let mut at = range.start;
    while at < range.end {
        let room = usize::try_from(range.end - at).map_or(scratch.len(), |left| left.min(scratch.len()));
        match storage.probe(file, &mut scratch[..room], at) {
            // The file ends sooner than it did: sending will find that out.
            Ok(0) => return Residency::Resident,
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Residency::Cold,
            Err(error) => {
                if UNANSWERED.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::warn!(
                        "the file system does not say which pages are in memory ({error}): \
                         every window is read off the worker before it is sent"
                    );
                }
                return Residency::Cold;
            }
        }
    }
    Residency::Resident
}

/// Probes that the file system could not answer, since the start of the process. The first is logged.
pub(crate) fn unanswered() -> u64 {
    UNANSWERED.load(Ordering::Relaxed)
}

/// Reads `range` of the asset from the disk into the page cache, and tells the disk of what comes `next`. Blocks.
///
/// # Errors
/// What the disk says; EFAULT where the file no longer reaches so far.
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
        Some(handle) => read_through(storage, handle.fd(), range),
        None => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}

fn read_through(storage: &dyn Storage, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
    let mut scratch = vec![0_u8; SCRATCH];
    let mut at = range.start;
    while at < range.end {
        let room = usize::try_from(range.end - at).map_or(SCRATCH, |left| left.min(SCRATCH));
        match storage.pread(file, &mut scratch[..room], at) {
            Ok(0) => break,
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Which windows were found resident a moment ago, so that hot ones are not asked about at every request. One a worker.
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
        Self { slots: vec![Slot::default(); MEMO_SLOTS].into_boxed_slice() }
    }

    pub(crate) fn knows(&self, asset: u64, window: u64, now_ms: u64) -> bool {
        let slot = self.slots[index(asset, window)];
        slot.asset == asset && slot.window == window && now_ms < slot.until_ms
    }

    pub(crate) fn note(&mut self, asset: u64, window: u64, now_ms: u64) {
        self.slots[index(asset, window)] = Slot { asset, window, until_ms: now_ms + MEMO_MS };
    }
}

fn index(asset: u64, window: u64) -> usize {
    let hash = (asset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ window).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash >> 48) as usize % MEMO_SLOTS
}

/// Bytes of an entry of the page map.
const ENTRY: usize = 8;

/// Pages of a window that does not start at a page's start.
const ENTRIES_MAX: usize = WINDOW as usize / PAGE + 1;

static UNANSWERED: AtomicU64 = AtomicU64::new(0);

/// Room for a probe or a read: small enough to stay in the core's own cache.
pub(crate) const SCRATCH: usize = 64 * 1024;

const MEMO_SLOTS: usize = 4096;

/// How long a window is taken to stay in memory after it was seen there.
pub(crate) const MEMO_MS: u64 = 500;

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
        assert_eq!(probe(&SystemStorage, file.as_fd(), 0..300_000, &mut scratch), Residency::Resident);
    }

    #[test]
    fn the_page_table_has_what_was_populated_and_nothing_else() {
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
    fn a_memo_knows_only_what_it_was_told_and_only_for_a_while() {
        let mut memo = RecentlyResident::new();
        memo.note(7, 3, 1000);
        assert!(memo.knows(7, 3, 1000));
        assert!(memo.knows(7, 3, 1000 + MEMO_MS - 1));
        assert!(!memo.knows(7, 3, 1000 + MEMO_MS));
        assert!(!memo.knows(7, 4, 1000));
        assert!(!memo.knows(8, 3, 1000));
    }
}
