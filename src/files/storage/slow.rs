//! A slow storage with a small page cache, for tests and benchmarks.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashlink::LinkedHashSet;
use parking_lot::Mutex;
use rustix::fs::{OFlags, ResolveFlags, StatFs};
use rustix::io::Errno;

use super::{FileStat, Mapping, Storage, SystemStorage};
use crate::files::window::WINDOW;

/// A storage whose files are cold until they are read through it; each read of cold pages takes a configured time.
///
/// Its page cache is separate from the kernel's: units of 256 KiB, evicted least recently used first. So every machine
/// reproduces what a slow disk does to a server, whatever the real page cache holds.
///
/// ```
/// use std::time::Duration;
/// use pagecast::files::storage::Slow;
///
/// let slow = Slow::new(Duration::from_millis(2), 64 << 20);
/// assert_eq!(slow.reads(), 0);
/// slow.set_delay(Duration::from_secs(1)); // at any time, from any thread
/// slow.forget(); // everything is cold again
/// ```
pub struct Slow {
    under: Arc<dyn Storage>,
    delay_us: AtomicU64,
    memory: Mutex<Memory>,
    reads: AtomicU64,
    read_windows: AtomicU64,
    cold_sends: AtomicU64,
}

/// A file, by device and inode.
type Identity = (u64, u64);

struct Memory {
    room: usize,
    /// The least recently used in front.
    warm: LinkedHashSet<(Identity, u64)>,
    /// By the address of the mapping.
    mapped: HashMap<usize, Identity>,
}

impl Slow {
    /// Over the real disk: a read of cold pages takes `delay`, and `memory` bytes stay warm.
    pub fn new(delay: Duration, memory: u64) -> Arc<Self> {
        Self::over(Arc::new(SystemStorage), delay, memory)
    }

    /// Over another storage.
    pub fn over(under: Arc<dyn Storage>, delay: Duration, memory: u64) -> Arc<Self> {
        let room = usize::try_from(memory.div_ceil(WINDOW)).unwrap_or(usize::MAX);
        let memory = Memory { room: room.max(1), warm: LinkedHashSet::new(), mapped: HashMap::new() };
        let slow = Self {
            under,
            delay_us: AtomicU64::new(0),
            memory: Mutex::new(memory),
            reads: AtomicU64::new(0),
            read_windows: AtomicU64::new(0),
            cold_sends: AtomicU64::new(0),
        };
        slow.set_delay(delay);
        Arc::new(slow)
    }

    /// Sets how long a read of cold pages takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Empties the page cache.
    pub fn forget(&self) {
        self.memory.lock().warm.clear();
    }

    /// Number of reads of cold pages so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Cold bytes read so far, in whole units of 256 KiB.
    pub fn read_bytes(&self) -> u64 {
        self.read_windows.load(Ordering::Relaxed) * WINDOW
    }

    /// Number of times that cold pages were sent, so that a worker waited for the disk: a server should never do that.
    pub fn cold_sends(&self) -> u64 {
        self.cold_sends.load(Ordering::Relaxed)
    }

    /// Waits for the disk if pages of `range` are cold, and warms them; returns whether it waited.
    fn read(&self, file: Identity, range: &Range<u64>) -> bool {
        let cold = self.memory.lock().cold(file, range);
        if cold.is_empty() {
            return false;
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_windows.fetch_add(cold.len() as u64, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(self.delay_us.load(Ordering::Relaxed)));
        self.memory.lock().warm(file, cold);
        true
    }

    fn identity(&self, file: BorrowedFd<'_>) -> Result<Identity, Errno> {
        let version = self.under.fstat(file)?.version;
        Ok((version.device, version.inode))
    }

    fn identity_of(&self, mapping: &Mapping) -> Identity {
        self.memory.lock().mapped.get(&mapping.address()).copied().unwrap_or_default()
    }
}

impl Memory {
    /// The cold windows of `range`; marks the others as used.
    fn cold(&mut self, file: Identity, range: &Range<u64>) -> Vec<u64> {
        let windows = range.start / WINDOW..range.end.div_ceil(WINDOW);
        windows.filter(|window| !self.warm.to_back(&(file, *window))).collect()
    }

    fn warm(&mut self, file: Identity, windows: Vec<u64>) {
        for window in windows {
            self.warm.insert((file, window));
        }
        while self.warm.len() > self.room {
            self.warm.pop_front();
        }
    }
}

impl Storage for Slow {
    fn open(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
        resolve: Option<ResolveFlags>,
    ) -> Result<OwnedFd, Errno> {
        self.under.open(directory, name, flags, resolve)
    }

    fn fstat(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        self.under.fstat(file)
    }

    fn stat_cached(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        self.under.stat_cached(file)
    }

    fn fstatfs(&self, file: BorrowedFd<'_>) -> Result<StatFs, Errno> {
        self.under.fstatfs(file)
    }

    fn pread(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        self.read(self.identity(file)?, &(at..at + buffer.len() as u64));
        self.under.pread(file, buffer, at)
    }

    fn probe(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        let identity = self.identity(file)?;
        let is_cold = !self.memory.lock().cold(identity, &(at..at + buffer.len() as u64)).is_empty();
        if is_cold { Err(Errno::AGAIN) } else { self.under.probe(file, buffer, at) }
    }

    fn map(&self, file: BorrowedFd<'_>, length: usize) -> io::Result<Mapping> {
        let identity = self.identity(file)?;
        let mapping = self.under.map(file, length)?;
        self.memory.lock().mapped.insert(mapping.address(), identity);
        Ok(mapping)
    }

    fn unmap(&self, mapping: Mapping) {
        self.memory.lock().mapped.remove(&mapping.address());
        self.under.unmap(mapping);
    }

    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.read(self.identity_of(mapping), &(range.start as u64..range.end as u64));
        self.under.populate(mapping, range)
    }

    fn trusts_page_table(&self, mapping: &Mapping, range: &Range<u64>) -> bool {
        let identity = self.identity_of(mapping);
        let is_warm = self.memory.lock().cold(identity, range).is_empty();
        is_warm && self.under.trusts_page_table(mapping, range)
    }

    fn advise(&self, file: BorrowedFd<'_>, range: &Range<u64>) {
        self.under.advise(file, range);
    }

    fn sendfile(
        &self,
        socket: BorrowedFd<'_>,
        file: BorrowedFd<'_>,
        at: &mut u64,
        length: usize,
    ) -> Result<usize, Errno> {
        let range = *at..at.saturating_add(length as u64);
        if self.read(self.identity(file)?, &range) {
            self.cold_sends.fetch_add(1, Ordering::Relaxed);
        }
        self.under.sendfile(socket, file, at, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn pages_that_were_read_stay_warm_until_they_are_evicted() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * WINDOW).unwrap();
        let slow = Slow::new(Duration::ZERO, 2 * WINDOW);
        let is_warm = |window: u64| slow.probe(file.as_fd(), &mut [0; 8], window * WINDOW).is_ok();
        let read = |window: u64| slow.pread(file.as_fd(), &mut [0; 8], window * WINDOW).unwrap();
        assert!(!is_warm(0));
        read(0);
        read(1);
        assert!(is_warm(0) && is_warm(1) && slow.reads() == 2);
        read(2);
        assert!(!is_warm(0) && is_warm(1) && is_warm(2));
        read(2);
        assert_eq!((slow.reads(), slow.read_bytes()), (3, 3 * WINDOW));
        slow.forget();
        assert!(!is_warm(2));
    }

    #[test]
    fn a_mapping_is_as_cold_as_its_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * WINDOW).unwrap();
        let slow = Slow::new(Duration::ZERO, 64 * WINDOW);
        let mapping = slow.map(file.as_fd(), 2 * 262_144).unwrap();
        assert!(!slow.trusts_page_table(&mapping, &(0..10)));
        slow.populate(&mapping, 0..10).unwrap();
        assert!(slow.trusts_page_table(&mapping, &(0..WINDOW)));
        assert!(!slow.trusts_page_table(&mapping, &(0..WINDOW + 1)));
        assert!(slow.probe(file.as_fd(), &mut [0; 8], 0).is_ok());
        slow.unmap(mapping);
    }
}
