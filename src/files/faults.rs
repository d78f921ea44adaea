//! What went wrong with files: counted always, told now and then.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A file could not be opened or looked at.
    Open,
    /// A file may not be read by this process.
    Denied,
    /// A file's bytes could not be read to the heap, or for a checksum.
    Read,
    /// A directory could not be read.
    Directory,
    /// A window could not be read from the disk.
    Populate,
    /// The disk failed while the kernel sent from a file.
    Send,
    /// A file could not be mapped, and is sent without.
    Map,
    /// A file changed while it was sent, so that its response was cut.
    Changed,
    /// No handle came free in time, or the system had none.
    NoHandle,
    /// The system had no descriptor for a new connection.
    Accept,
}

/// How often each kind of fault occurred since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

/// Counts faults, and has the log hear of a file's fault once in a minute, and of few files in a minute: a dying disk under
/// ten thousand requests a second writes a handful of lines, and then one with how many it did not write.
#[derive(Default)]
pub(crate) struct Faults {
    counts: [AtomicU64; Fault::ALL.len()],
    told: Mutex<RecentFaults>,
    hasher: foldhash::fast::RandomState,
}

/// What the log was told within the last minute.
#[derive(Default)]
struct RecentFaults {
    /// When the log last heard of a fault of something.
    when: HashMap<u64, Instant>,
    minutes: [Minute; Fault::ALL.len()],
}

/// What the log was told of one kind of fault since the minute began.
#[derive(Clone, Copy, Default)]
struct Minute {
    began: Option<Instant>,
    lines: u32,
    untold: u64,
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

    /// Its name among gauges.
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

    /// How loudly the log hears of it: what the server can go on with is a warning.
    fn level(self) -> Level {
        match self {
            Self::Open | Self::Read | Self::Directory | Self::Populate | Self::Send => Level::Error,
            Self::Denied | Self::Map | Self::Changed | Self::NoHandle | Self::Accept => Level::Warn,
        }
    }
}

impl Faults {
    /// Counts a fault of `what`, usually a path, and logs `words` unless the log has heard of it within the last minute.
    pub(crate) fn tell(&self, fault: Fault, what: impl Hash, words: fmt::Arguments<'_>) {
        self.counts[fault as usize].fetch_add(1, Ordering::Relaxed);
        let hash = self.hasher.hash_one((fault, what));
        if self.told.lock().is_news(fault, hash, Instant::now()) {
            log::log!(fault.level(), "{words}");
        }
    }

    /// Logs how many faults the log did not hear of in minutes that are over. Once a second is often enough.
    pub(crate) fn sum_up(&self, now: Instant) {
        let sums = self.told.lock().sums(now);
        for (fault, untold) in sums {
            log::log!(
                fault.level(),
                "{untold} more faults of the kind \"{}\" in the last minute",
                fault.name()
            );
        }
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        FaultCounts(self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl FaultCounts {
    /// How often `fault` occurred.
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
    fn is_news(&mut self, fault: Fault, hash: u64, now: Instant) -> bool {
        let is_recent = |then: &Instant| now.saturating_duration_since(*then) < MINUTE;
        let minute = &mut self.minutes[fault as usize];
        if !minute.began.as_ref().is_some_and(is_recent) {
            // What was not told of the minute before stays to be summed up.
            *minute = Minute { began: Some(now), lines: 0, untold: minute.untold };
            self.when.retain(|_, then| is_recent(then));
        }
        if minute.lines >= LINES_IN_MINUTE || self.when.get(&hash).is_some_and(is_recent) {
            minute.untold += 1;
            return false;
        }
        minute.lines += 1;
        // A few for each kind and minute: what is older was let go above.
        self.when.insert(hash, now);
        true
    }

    fn sums(&mut self, now: Instant) -> Vec<(Fault, u64)> {
        let mut sums = Vec::new();
        for fault in Fault::ALL {
            let minute = &mut self.minutes[fault as usize];
            let is_over = minute.summed_up_before(now);
            if is_over && minute.untold > 0 {
                sums.push((fault, std::mem::take(&mut minute.untold)));
            }
        }
        sums
    }
}

impl Minute {
    fn summed_up_before(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= MINUTE)
    }
}

/// The kind of an error of the system, `usual` where its code says no more, and whether it is true of the moment only.
pub(crate) fn fault_of(code: i32, usual: Fault) -> (Fault, bool) {
    match code {
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN => (Fault::NoHandle, true),
        libc::EACCES | libc::EPERM => (Fault::Denied, false),
        _ => (usual, false),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Lines of one kind in a minute.
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
                faults.tell(fault, "a", format_args!("a"));
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
    fn a_fault_of_a_file_is_news_once_in_a_minute() {
        let (mut told, start) = (RecentFaults::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(told.is_news(Fault::Open, 1, start));
        assert!(!told.is_news(Fault::Open, 1, after(1)));
        assert!(told.is_news(Fault::Open, 2, after(30)));
        assert!(told.is_news(Fault::Read, 1 << 8, after(30)), "another kind has minutes of its own");
        assert!(!told.is_news(Fault::Open, 2, after(61)), "its minute is its own");
        assert!(told.is_news(Fault::Open, 1, after(61)));
    }

    #[test]
    fn many_files_bring_few_lines_little_memory_and_a_sum() {
        let (mut told, start) = (RecentFaults::default(), Instant::now());
        let lines = (0..10_000).filter(|&hash| told.is_news(Fault::Open, hash, start)).count();
        assert_eq!(lines, LINES_IN_MINUTE as usize);
        assert!(told.when.len() <= lines);
        assert_eq!(told.sums(start + Duration::from_secs(59)), []);
        assert_eq!(told.sums(start + MINUTE), [(Fault::Open, 10_000 - u64::from(LINES_IN_MINUTE))]);
        assert_eq!(told.sums(start + MINUTE), []);
        let later = start + 2 * MINUTE;
        assert!((0..20_000).filter(|&hash| told.is_news(Fault::Open, hash, later)).count() == lines);
        assert!(told.when.len() <= lines, "what is older is forgotten");
    }
}
