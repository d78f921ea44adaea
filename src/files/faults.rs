//! Faults of files: always counted, and logged at a limited rate.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A file could not be opened, or its metadata not read.
    Open,
    /// This process may not read a file.
    Denied,
    /// A file could not be read to the heap, or for a digest.
    Read,
    /// A directory could not be read.
    Directory,
    /// A window could not be read from the disk.
    Populate,
    /// The disk failed while the kernel sent from a file.
    Send,
    /// A file could not be mapped, and is sent without a mapping.
    Map,
    /// A file changed while it was sent, so that its response was cut off.
    Changed,
    /// No handle came free in time, or the system had none.
    NoHandle,
    /// The system had no descriptor for a new connection.
    Accept,
}

/// Number of faults of each kind since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

/// Counts faults, and logs the fault of a file once a minute, and of few files a minute: a dying disk under ten thousand requests
/// per second writes a handful of lines, and then one with the number of those left out.
#[derive(Default)]
pub(crate) struct Faults {
    counts: [AtomicU64; Fault::ALL.len()],
    recent: Mutex<RecentFaults>,
    hasher: foldhash::fast::RandomState,
}

/// The log lines of the last minute.
#[derive(Default)]
struct RecentFaults {
    /// When a fault of a subject was last logged.
    logged: HashMap<u64, Instant>,
    minutes: [Minute; Fault::ALL.len()],
}

/// The log lines of one kind of fault since the minute began.
#[derive(Clone, Copy, Default)]
struct Minute {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Denied,
        Self::Read,
        Self::Directory,
        Self::Populate,
        Self::Send,
        Self::Map,
        Self::Changed,
        Self::NoHandle,
        Self::Accept,
    ];

    /// Name of the kind in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Denied => "denied",
            Self::Read => "read",
            Self::Directory => "directory",
            Self::Populate => "populate",
            Self::Send => "send",
            Self::Map => "map",
            Self::Changed => "changed",
            Self::NoHandle => "no_handle",
            Self::Accept => "accept",
        }
    }

    /// Log level: faults that the server works around are warnings.
    fn level(self) -> Level {
        match self {
            Self::Open | Self::Read | Self::Directory | Self::Populate | Self::Send => Level::Error,
            Self::Denied | Self::Map | Self::Changed | Self::NoHandle | Self::Accept => Level::Warn,
        }
    }
}

impl Faults {
    /// Counts a fault of `subject`, usually a path, and logs `message` unless the same was logged within the last minute.
    pub(crate) fn report(&self, fault: Fault, subject: impl Hash, message: fmt::Arguments<'_>) {
        self.counts[fault as usize].fetch_add(1, Ordering::Relaxed);
        let hash = self.hasher.hash_one((fault, subject));
        if self.recent.lock().is_first(fault, hash, Instant::now()) {
            log::log!(fault.level(), "{message}");
        }
    }

    /// Logs the number of suppressed lines of minutes that are over. Call it about once a second.
    pub(crate) fn log_suppressed(&self, now: Instant) {
        let suppressed = self.recent.lock().take_suppressed(now);
        for (fault, count) in suppressed {
            log::log!(
                fault.level(),
                "{count} more faults of the kind \"{}\" in the last minute",
                fault.name()
            );
        }
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        FaultCounts(self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl FaultCounts {
    /// Number of faults of the kind.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }
}

/// An object of counts by name.
impl serde::Serialize for FaultCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Fault::ALL.map(|fault| (fault.name(), self.of(fault))))
    }
}

impl RecentFaults {
    fn is_first(&mut self, fault: Fault, hash: u64, now: Instant) -> bool {
        let is_recent = |then: &Instant| now.saturating_duration_since(*then) < MINUTE;
        let minute = &mut self.minutes[fault as usize];
        if !minute.began.as_ref().is_some_and(is_recent) {
            // Lines suppressed in the minute before are still to be counted in the log.
            *minute = Minute { began: Some(now), lines: 0, suppressed: minute.suppressed };
            self.logged.retain(|_, then| is_recent(then));
        }
        if minute.lines >= LINES_IN_MINUTE || self.logged.get(&hash).is_some_and(is_recent) {
            minute.suppressed += 1;
            return false;
        }
        minute.lines += 1;
        // A few for each kind and minute: older ones were removed above.
        self.logged.insert(hash, now);
        true
    }

    /// The number of suppressed lines of each kind whose minute is over, if there were any.
    fn take_suppressed(&mut self, now: Instant) -> Vec<(Fault, u64)> {
        let is_over = |began: Instant| now.saturating_duration_since(began) >= MINUTE;
        let minutes = Fault::ALL.into_iter().zip(&mut self.minutes);
        let over = minutes.filter(|(_, minute)| minute.suppressed > 0 && minute.began.is_some_and(is_over));
        over.map(|(fault, minute)| (fault, std::mem::take(&mut minute.suppressed))).collect()
    }
}

/// The kind of a system error, `usual` if its code says no more, and whether it is a shortage that may pass soon.
pub(crate) fn fault_of(code: i32, usual: Fault) -> (Fault, bool) {
    match code {
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN => (Fault::NoHandle, true),
        libc::EACCES | libc::EPERM => (Fault::Denied, false),
        _ => (usual, false),
    }
}

/// Whether an error means that the process or the system is out of handles or memory, which may pass soon.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| fault_of(code, Fault::Open).1)
}

const MINUTE: Duration = Duration::from_secs(60);

/// Most lines of one kind in a minute.
const LINES_IN_MINUTE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_count_and_name() {
        let faults = Faults::default();
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
            for _ in 0..=index {
                faults.report(fault, "a", format_args!("a"));
            }
        }
        let counts = faults.counts();
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(counts.of(fault), index as u64 + 1, "{}", fault.name());
        }
        let shown = serde_json::to_value(counts).unwrap();
        assert_eq!(shown.as_object().unwrap().len(), Fault::ALL.len());
        assert_eq!(shown["no_handle"], 9);
    }

    #[test]
    fn a_fault_of_a_file_is_logged_once_a_minute() {
        let (mut recent, start) = (RecentFaults::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(recent.is_first(Fault::Open, 1, start));
        assert!(!recent.is_first(Fault::Open, 1, after(1)));
        assert!(recent.is_first(Fault::Open, 2, after(30)));
        assert!(recent.is_first(Fault::Read, 1 << 8, after(30)), "another kind has minutes of its own");
        assert!(!recent.is_first(Fault::Open, 2, after(61)), "its minute is its own");
        assert!(recent.is_first(Fault::Open, 1, after(61)));
    }

    #[test]
    fn faults_of_many_files_give_few_lines_little_memory_and_a_count() {
        let (mut recent, start) = (RecentFaults::default(), Instant::now());
        let lines = (0..10_000).filter(|&hash| recent.is_first(Fault::Open, hash, start)).count();
        assert_eq!(lines, LINES_IN_MINUTE as usize);
        assert!(recent.logged.len() <= lines);
        assert_eq!(recent.take_suppressed(start + Duration::from_secs(59)), []);
        assert_eq!(recent.take_suppressed(start + MINUTE), [(Fault::Open, 10_000 - u64::from(LINES_IN_MINUTE))]);
        assert_eq!(recent.take_suppressed(start + MINUTE), []);
        let later = start + 2 * MINUTE;
        assert!((0..20_000).filter(|&hash| recent.is_first(Fault::Open, hash, later)).count() == lines);
        assert!(recent.logged.len() <= lines, "older ones are removed");
    }
}
