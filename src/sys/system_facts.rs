//! Limits of the system for the process, read once at start.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::activation::ActivationInfo;
use super::memory::{MemoryAmount, MemorySource, memory, number_in};

/// Limits of the system for the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SystemFacts {
    /// Soft limit on open files (`RLIMIT_NOFILE`), after it was raised.
    pub open_files: usize,
    /// Mappings of one process (`vm.max_map_count`).
    pub max_map_count: usize,
    /// Memory of the machine, or the limit of the process's control group.
    pub memory: MemoryAmount,
    /// Processors that the process may use.
    pub cpus: usize,
    /// Listening sockets for traffic that a service manager has handed over, which take the place of `listen`.
    pub inherited: usize,
}

/// Raises the soft limit on open files to the hard one, then reads the limits of the system. A limit that can't be read is
/// taken to be that of an ordinary system.
pub fn system_facts() -> SystemFacts {
    raise_open_files();
    SystemFacts {
        open_files: getrlimit(Resource::Nofile).current.map_or(OPEN_FILES_FALLBACK, saturated),
        max_map_count: number_in("/proc/sys/vm/max_map_count").map_or(MAX_MAP_COUNT_FALLBACK, saturated),
        memory: own_memory().unwrap_or(MEMORY_FALLBACK),
        cpus: available_parallelism().map_or(1, usize::from),
        // Invalid variables are refused when the sockets are taken.
        inherited: ActivationInfo::of_this_process().ok().flatten().map_or(0, |found| found.traffic()),
    }
}

/// If it can't be raised, the limits that are derived from it are smaller.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.or_else(|| number_in("/proc/sys/fs/nr_open"));
    if limit.current < most {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: limit.maximum });
    }
}

fn own_memory() -> Option<MemoryAmount> {
    // A kernel without control groups has no such file.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    memory(&fs::read_to_string("/proc/meminfo").ok()?, &groups, Path::new("/sys/fs/cgroup"))
}

fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

const OPEN_FILES_FALLBACK: usize = 1_024;
const MAX_MAP_COUNT_FALLBACK: usize = 65_530;
const MEMORY_FALLBACK: MemoryAmount = MemoryAmount { bytes: 1 << 30, source: MemorySource::Machine };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_those_of_a_living_system_with_its_limit_raised() {
        let facts = system_facts();
        assert!(facts.cpus >= 1 && facts.memory.bytes > 1 << 20 && facts.max_map_count > 0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(Some(facts.open_files), limit.current.map(saturated));
        if limit.maximum.is_some() {
            assert_eq!(limit.current, limit.maximum);
        }
    }
}
