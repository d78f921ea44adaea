//! Faults of files and of the disk: each is counted, few are logged.

use std::fmt;
use std::hash::Hash;
use std::io;
use std::time::Instant;

use log::Level;

use crate::http::named_enum::named_enum;
use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::counter::CounterArray;

named_enum! {
    /// A kind of fault, with its name in metrics and logs.
    #[derive(Hash)]
    pub enum Fault {
        /// A file could not be opened, or its metadata not read.
        Open => "open",
        /// This process may not read a file.
        Denied => "denied",
        /// A file could not be read to the heap, or for a digest.
        Read => "read",
        /// A directory could not be read.
        Directory => "directory",
        /// A window could not be read from the disk.
        Populate => "populate",
        /// The disk failed while the kernel sent from a file.
        Send => "send",
        /// A file could not be mapped, and is sent without a mapping.
        Map => "map",
        /// A file changed while it was sent, so that its response was cut off.
        Changed => "changed",
        /// No handle became free in time, or the system had none.
        NoHandle => "no_handle",
        /// The system had no descriptor for a new connection.
        Accept => "accept",
    }
}

/// Counts faults and logs them: a fault of one file once a minute, and at most 100 lines per kind and minute. A dying disk
/// under ten thousand requests a second writes these lines, then one with the number of suppressed ones.
///
/// Decision: docs/decisions/035-fault-logging.md.
pub(crate) struct Faults {
    pub(crate) counts: CounterArray<{ Fault::ALL.len() }>,
    throttles: [LogThrottle; Fault::ALL.len()],
}

impl Fault {
    /// Log level: faults that the server works around are warnings.
    fn level(self) -> Level {
        match self {
            Self::Open | Self::Read | Self::Directory | Self::Populate | Self::Send => Level::Error,
            Self::Denied | Self::Map | Self::Changed | Self::NoHandle | Self::Accept => Level::Warn,
        }
    }
}

impl Faults {
    /// Counts a fault of `subject`, usually a path, and logs `message` unless a line about it was logged within the last minute.
    pub(crate) fn report(&self, fault: Fault, subject: impl Hash, message: fmt::Arguments<'_>) {
        self.counts[fault as usize].add_shared(1);
        if self.throttles[fault as usize].admits(subject, Instant::now()) {
            log::log!(fault.level(), "{message}");
        }
    }

    /// Logs the number of suppressed lines of minutes that are over. To be called once a second.
    pub(crate) fn report_suppressed(&self, now: Instant) {
        for (fault, throttle) in Fault::ALL.into_iter().zip(&self.throttles) {
            let suppressed = throttle.take_suppressed(now);
            if suppressed > 0 {
                let kind = fault.name();
                log::log!(
                    fault.level(),
                    "{suppressed} more faults of the kind \"{kind}\" in the last minute"
                );
            }
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            counts: Default::default(),
            throttles: std::array::from_fn(|_| LogThrottle::per_minute(LINES_PER_MINUTE)),
        }
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

/// Most lines of one kind in a minute.
const LINES_PER_MINUTE: usize = 100;

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
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(faults.counts[fault as usize].get(), index as u64 + 1, "{}", fault.name());
        }
        let names: std::collections::HashSet<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
