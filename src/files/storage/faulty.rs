//! A storage that fails on demand, for tests.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{OFlags, ResolveFlags, StatFs};
use rustix::io::Errno;

use super::{FileStat, Mapping, Storage, SystemStorage};

/// A storage whose calls fail, fall short, take time or hang as injected, and which records every call. Faults can be injected
/// and lifted at any time, while a server runs on it.
///
/// ```
/// use pagecast::files::storage::{Call, Faulty, InjectedFault, When};
/// use rustix::io::Errno;
///
/// let disk = Faulty::new();
/// disk.inject(When::every(Call::Pread), InjectedFault::Errno(Errno::IO)); // every pread fails
/// disk.inject(When::every(Call::Open).of("secret"), InjectedFault::Errno(Errno::ACCESS)); // by path
/// disk.inject(When::every(Call::Fstat).from(3).times(1), InjectedFault::Errno(Errno::STALE)); // the third fstat from now
/// disk.inject(When::every(Call::Populate).of("/dead/"), InjectedFault::Hang); // until it is lifted
/// disk.inject(When::every(Call::Fstat).of("/dead/"), InjectedFault::Device(7)); // as if it lay on another disk
/// disk.heal(); // lifts every fault: hanging calls go on
/// assert_eq!(disk.count(Call::Pread), 0);
/// ```
///
/// If several faults match a call, the one that was injected last applies.
pub struct Faulty {
    under: Arc<dyn Storage>,
    state: Mutex<State>,
    changed: Condvar,
}

/// A call of a [`Storage`]; `Fstat` covers `stat_cached`, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are the trait's methods")]
pub enum Call {
    Open,
    Fstat,
    Fstatfs,
    Pread,
    Probe,
    Map,
    Unmap,
    Populate,
    Advise,
    Sendfile,
}

/// A fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// The call fails.
    Errno(Errno),
    /// `pread`, `probe` and `sendfile` transfer at most this many bytes; 0 is the end of the file.
    Short(usize),
    /// The call is made after this time.
    Delay(Duration),
    /// The call is made when the fault is lifted.
    Hang,
    /// `fstat` reports this device (`st_dev`).
    Device(u64),
}

/// Selects the calls that a fault applies to.
#[derive(Clone, Debug)]
pub struct When {
    call: Call,
    part: String,
    skip: u64,
    times: u64,
}

/// One call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCall {
    /// Kind of the call.
    pub call: Call,
    /// Path of the file: as given to `open`, absolute for an open file.
    pub path: String,
    /// Requested bytes; empty for calls without a range.
    pub range: Range<u64>,
    /// Name of the calling thread.
    pub thread: String,
}

/// Identifies an injected fault, for lifting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultHandle(u64);

#[derive(Default)]
struct State {
    faults: Vec<(u64, When, InjectedFault)>,
    next_id: u64,
    counts: HashMap<Call, u64>,
    seen: VecDeque<RecordedCall>,
    hanging: usize,
    /// Paths of mapped files, by the address of the mapping.
    mapped: HashMap<usize, String>,
}

impl When {
    /// Every call of one kind.
    pub fn every(call: Call) -> Self {
        Self { call, part: String::new(), skip: 0, times: u64::MAX }
    }

    /// Only calls for files whose path contains `part`.
    pub fn of(self, part: &str) -> Self {
        Self { part: part.to_owned(), ..self }
    }

    /// Only from the `nth` such call on, counted from 1 and from now.
    pub fn from(self, nth: u64) -> Self {
        Self { skip: nth.saturating_sub(1), ..self }
    }

    /// At most `times` times.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }
}

impl Faulty {
    /// Over the real disk, without faults.
    pub fn new() -> Arc<Self> {
        Self::over(Arc::new(SystemStorage))
    }

    /// Over another storage: [`super::Slow`], for example, so that there are cold pages to populate.
    pub fn over(under: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { under, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Applies `fault` to the calls that match `when` from now on.
    pub fn inject(&self, when: When, fault: InjectedFault) -> FaultHandle {
        let mut state = self.state.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.faults.push((id, when, fault));
        FaultHandle(id)
    }

    /// Removes one fault; calls that hang because of it go on.
    pub fn lift(&self, injected: FaultHandle) {
        self.state.lock().faults.retain(|(id, ..)| *id != injected.0);
        self.changed.notify_all();
    }

    /// Removes all faults; hanging calls go on.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
        self.changed.notify_all();
    }

    /// Number of calls of one kind so far.
    pub fn count(&self, call: Call) -> u64 {
        self.state.lock().counts.get(&call).copied().unwrap_or(0)
    }

    /// Recent calls of one kind in order; the last 65,536 calls of all kinds are kept.
    pub fn seen(&self, call: Call) -> Vec<RecordedCall> {
        self.state.lock().seen.iter().filter(|seen| seen.call == call).cloned().collect()
    }

    /// Number of calls that hang now.
    pub fn hanging(&self) -> usize {
        self.state.lock().hanging
    }

    /// Waits until `count` calls hang at once; false if they don't within `patience`.
    pub fn wait_until_hanging(&self, count: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.hanging < count {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return state.hanging >= count;
            }
        }
        true
    }

    /// Records a call, waits if a fault says so, and returns the fault that is left to apply.
    fn before(&self, call: Call, path: &str, range: Range<u64>) -> Option<InjectedFault> {
        let mut state = self.state.lock();
        *state.counts.entry(call).or_default() += 1;
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        if state.seen.len() == SEEN_MAX {
            state.seen.pop_front();
        }
        state.seen.push_back(RecordedCall { call, path: path.to_owned(), range, thread });
        let (id, fault) = state.due(call, path)?;
        match fault {
            InjectedFault::Delay(delay) => {
                drop(state);
                std::thread::sleep(delay);
                None
            }
            InjectedFault::Hang => {
                state.hanging += 1;
                self.changed.notify_all();
                while state.faults.iter().any(|(known, ..)| *known == id) {
                    self.changed.wait(&mut state);
                }
                state.hanging -= 1;
                None
            }
            other => Some(other),
        }
    }

    /// As [`Self::before`], with an injected errno as the error.
    fn check(&self, call: Call, path: &str, range: Range<u64>) -> Result<Option<InjectedFault>, Errno> {
        match self.before(call, path, range) {
            Some(InjectedFault::Errno(errno)) => Err(errno),
            other => Ok(other),
        }
    }

    fn path_of(&self, mapping: &Mapping) -> String {
        self.state.lock().mapped.get(&mapping.address()).cloned().unwrap_or_default()
    }
}

impl State {
    /// The fault that applies to this call.
    fn due(&mut self, call: Call, path: &str) -> Option<(u64, InjectedFault)> {
        let mut due = None;
        for (id, when, fault) in self.faults.iter_mut().rev() {
            if when.call != call || !path.contains(&when.part) {
                continue;
            }
            if when.skip > 0 {
                when.skip -= 1;
            } else if when.times > 0 && due.is_none() {
                when.times -= 1;
                due = Some((*id, *fault));
            }
        }
        due
    }
}

impl Storage for Faulty {
    fn open(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        flags: OFlags,
        resolve: Option<ResolveFlags>,
    ) -> Result<OwnedFd, Errno> {
        self.check(Call::Open, &String::from_utf8_lossy(name), 0..0)?;
        self.under.open(directory, name, flags, resolve)
    }

    fn fstat(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        let fault = self.check(Call::Fstat, &path_of(file), 0..0)?;
        let stat = self.under.fstat(file)?;
        Ok(match fault {
            Some(InjectedFault::Device(device)) => stat.on_device(device),
            _ => stat,
        })
    }

    fn stat_cached(&self, file: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        let fault = self.check(Call::Fstat, &path_of(file), 0..0)?;
        let stat = self.under.stat_cached(file)?;
        Ok(match fault {
            Some(InjectedFault::Device(device)) => stat.on_device(device),
            _ => stat,
        })
    }

    fn fstatfs(&self, file: BorrowedFd<'_>) -> Result<StatFs, Errno> {
        self.check(Call::Fstatfs, &path_of(file), 0..0)?;
        self.under.fstatfs(file)
    }

    fn pread(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        let fault = self.check(Call::Pread, &path_of(file), bytes(at, buffer.len()))?;
        let room = room(fault, buffer.len());
        self.under.pread(file, buffer.get_mut(..room).unwrap_or_default(), at)
    }

    fn probe(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        let fault = self.check(Call::Probe, &path_of(file), bytes(at, buffer.len()))?;
        let room = room(fault, buffer.len());
        self.under.probe(file, buffer.get_mut(..room).unwrap_or_default(), at)
    }

    fn map(&self, file: BorrowedFd<'_>, length: usize) -> io::Result<Mapping> {
        let path = path_of(file);
        self.check(Call::Map, &path, bytes(0, length))?;
        let mapping = self.under.map(file, length)?;
        self.state.lock().mapped.insert(mapping.address(), path);
        Ok(mapping)
    }

    fn unmap(&self, mapping: Mapping) {
        self.before(Call::Unmap, &self.path_of(&mapping), bytes(0, mapping.len()));
        self.state.lock().mapped.remove(&mapping.address());
        self.under.unmap(mapping);
    }

    fn populate(&self, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        self.check(Call::Populate, &self.path_of(mapping), bytes(range.start as u64, range.len()))?;
        self.under.populate(mapping, range)
    }

    fn trusts_page_table(&self, mapping: &Mapping, range: &Range<u64>) -> bool {
        self.under.trusts_page_table(mapping, range)
    }

    fn advise(&self, file: BorrowedFd<'_>, range: &Range<u64>) {
        self.before(Call::Advise, &path_of(file), range.clone());
        self.under.advise(file, range);
    }

    fn sendfile(
        &self,
        socket: BorrowedFd<'_>,
        file: BorrowedFd<'_>,
        at: &mut u64,
        length: usize,
    ) -> Result<usize, Errno> {
        let fault = self.check(Call::Sendfile, &path_of(file), bytes(*at, length))?;
        match room(fault, length) {
            0 => Ok(0),
            room => self.under.sendfile(socket, file, at, room),
        }
    }
}

fn bytes(at: u64, length: usize) -> Range<u64> {
    at..at.saturating_add(length as u64)
}

fn room(fault: Option<InjectedFault>, length: usize) -> usize {
    match fault {
        Some(InjectedFault::Short(most)) => length.min(most),
        _ => length,
    }
}

/// The path of an open file, from the kernel.
fn path_of(file: BorrowedFd<'_>) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

const SEEN_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn file() -> (tempfile::TempDir, std::fs::File) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("name"), b"0123456789").unwrap();
        let file = std::fs::File::open(dir.path().join("name")).unwrap();
        (dir, file)
    }

    #[test]
    fn a_fault_applies_to_the_calls_that_match_it() {
        let (_dir, file) = file();
        let disk = Faulty::new();
        let read = || disk.pread(file.as_fd(), &mut [0; 8], 0);
        let third = disk
            .inject(When::every(Call::Pread).of("/name").from(3).times(1), InjectedFault::Errno(Errno::IO));
        disk.inject(When::every(Call::Pread).of("other"), InjectedFault::Errno(Errno::NOMEM));
        assert_eq!([read(), read(), read(), read()], [Ok(8), Ok(8), Err(Errno::IO), Ok(8)]);
        assert!(disk.fstat(file.as_fd()).is_ok());
        disk.lift(third);
        disk.inject(When::every(Call::Pread), InjectedFault::Short(3));
        assert_eq!(read(), Ok(3));
        disk.heal();
        assert_eq!(read(), Ok(8));
        assert_eq!((disk.count(Call::Pread), disk.count(Call::Fstat)), (6, 1));
        let last = disk.seen(Call::Pread).pop().unwrap();
        assert!(last.path.ends_with("/name") && last.range == (0..8), "{last:?}");
    }

    #[test]
    fn a_file_can_appear_to_be_on_another_device() {
        let (_dir, file) = file();
        let disk = Faulty::new();
        disk.inject(When::every(Call::Fstat).of("/name"), InjectedFault::Device(4711));
        assert_eq!(disk.fstat(file.as_fd()).unwrap().version.device, 4711);
    }

    #[test]
    fn a_hanging_call_goes_on_when_its_fault_is_lifted() {
        let (_dir, file) = file();
        let disk = Faulty::new();
        let hang = disk.inject(When::every(Call::Fstat), InjectedFault::Hang);
        std::thread::scope(|scope| {
            let hung = scope.spawn(|| disk.fstat(file.as_fd()).is_ok());
            assert!(disk.wait_until_hanging(1, Duration::from_secs(20)));
            assert!(!hung.is_finished());
            disk.lift(hang);
            assert!(hung.join().unwrap());
        });
        assert_eq!(disk.hanging(), 0);
    }
}
