//! Memory, CPU time and open files of this process, as the kernel reports them.

use std::fs::{read_dir, read_to_string};

use rustix::process::{Resource, getrlimit};

/// Memory in bytes, and threads. Mapped pages of files are shared with other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    /// Resident memory, all kinds together.
    pub(crate) resident_bytes: u64,
    /// Private memory: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    /// Mapped pages of files: of the site and of the program.
    pub(crate) file_bytes: u64,
    /// Shared memory.
    pub(crate) shared_bytes: u64,
    pub(crate) threads: u64,
    /// Virtual memory.
    pub(crate) virtual_bytes: u64,
}

/// CPU time, start time and open files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ProcessUsage {
    /// CPU time of all threads, in user space and in the kernel.
    pub(crate) cpu_seconds: f64,
    /// Start time in seconds since 1970.
    pub(crate) started_seconds: f64,
    pub(crate) open_files: u64,
    /// `None`: no limit.
    pub(crate) open_files_limit: Option<u64>,
}

impl Process {
    /// Reads the present values. `None` without `/proc`. Does not read `smaps`, for which the kernel walks the page table:
    /// that would block threads that map files meanwhile.
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let bytes = |name| number(name)?.checked_mul(1024);
        Some(Self {
            resident_bytes: bytes("VmRSS")?,
            anonymous_bytes: bytes("RssAnon")?,
            file_bytes: bytes("RssFile")?,
            shared_bytes: bytes("RssShmem")?,
            threads: number("Threads")?,
            virtual_bytes: bytes("VmSize")?,
        })
    }
}

impl ProcessUsage {
    /// Reads the present values. `None` without `/proc`.
    pub(crate) fn read() -> Option<Self> {
        let (cpu, started) = ticks(&read_to_string("/proc/self/stat").ok()?)?;
        let booted = boot_time(&read_to_string("/proc/stat").ok()?)?;
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        // One is open for counting.
        let open_files = (read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1);
        Some(Self {
            cpu_seconds: cpu as f64 / per_second,
            started_seconds: booted as f64 + started as f64 / per_second,
            open_files,
            open_files_limit: getrlimit(Resource::Nofile).current,
        })
    }
}

/// Returns CPU time and start time after boot, in clock ticks (proc_pid_stat(5)).
fn ticks(stat: &str) -> Option<(u64, u64)> {
    // The name in parentheses may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let number = |field: usize| fields.split_whitespace().nth(field - 3)?.parse::<u64>().ok();
    Some((number(14)? + number(15)?, number(22)?))
}

/// Returns the boot time in seconds since 1970 (proc_stat(5)).
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Name:\tx\nVmSize:\t 90 kB\nVmRSS:\t    30 kB\nRssAnon:\t 10 kB\nRssFile:\t 15 kB\nRssShmem:\t 5 kB\nThreads:\t7\n";
        let expected = Process {
            resident_bytes: 30 << 10,
            anonymous_bytes: 10 << 10,
            file_bytes: 15 << 10,
            shared_bytes: 5 << 10,
            threads: 7,
            virtual_bytes: 90 << 10,
        };
        assert_eq!(Process::parse(text), Some(expected));
        assert_eq!(Process::parse("VmRSS: x kB\n"), None);
        assert!(Process::read().is_some_and(|process| process.resident_bytes > process.anonymous_bytes));
    }

    #[test]
    fn times_are_found_after_any_process_name() {
        let stat = "1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 120 30 0 0 20 0 4 0 5000 0 0";
        assert_eq!(ticks(stat), Some((150, 5000)));
        assert_eq!(ticks("1 (a) S 1"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
        let usage = ProcessUsage::read().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(usage.started_seconds > 0.0 && usage.started_seconds < now + 2.0, "{usage:?}");
        assert!(usage.open_files > 0 && usage.open_files_limit.is_none_or(|limit| limit > usage.open_files));
    }
}
