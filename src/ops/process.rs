//! What the kernel says of this process's memory.

use serde::Serialize;

/// Resident memory in bytes. What is mapped of files is shared with everybody who reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    /// All of it.
    pub(crate) resident_bytes: u64,
    /// The process's own: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    /// Pages of files that stand in its page table: those of the site, and of the program itself.
    pub(crate) file_bytes: u64,
    /// Pages that it shares with others by design.
    pub(crate) shared_bytes: u64,
    pub(crate) threads: u64,
}

impl Process {
    /// The figures of now; none where `/proc` is not to be had. The page table is not walked for them, as it would be for
    /// `smaps`: that holds up whoever maps a file meanwhile.
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_their_lines_in_bytes() {
        let text = "Name:\tx\nVmRSS:\t    30 kB\nRssAnon:\t 10 kB\nRssFile:\t 15 kB\nRssShmem:\t 5 kB\nThreads:\t7\n";
        let expected = Process {
            resident_bytes: 30 << 10,
            anonymous_bytes: 10 << 10,
            file_bytes: 15 << 10,
            shared_bytes: 5 << 10,
            threads: 7,
        };
        assert_eq!(Process::parse(text), Some(expected));
        assert_eq!(Process::parse("VmRSS: x kB\n"), None);
        assert!(Process::read().is_some_and(|process| process.resident_bytes > process.anonymous_bytes));
    }
}
