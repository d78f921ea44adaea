//! Memory available to the process: that of the machine, or the limit of its control group.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::http::named_enum::named_enum;

/// An amount of memory, and what sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryAmount {
    /// The amount in bytes.
    pub bytes: u64,
    /// Whether it is that of the machine or a limit.
    pub source: MemorySource,
}

named_enum! {
    /// Source of the limit on memory.
    #[derive(Default)]
    pub enum MemorySource {
        /// The memory of the machine.
        #[default]
        Machine => "of the machine",
        /// The limit of a control group (`memory.max`, `memory.high`; `memory.limit_in_bytes` in version 1).
        ControlGroup => "by the control group's limit",
    }
}

/// The memory available to a process, from `meminfo` and `groups` (its `/proc/self/cgroup`), with control groups mounted at
/// `mount`. `None` if `meminfo` has no total.
pub(crate) fn memory(meminfo: &str, groups: &str, mount: &Path) -> Option<MemoryAmount> {
    let machine = total_memory(meminfo)?;
    let allowed = groups.lines().filter_map(|line| limit_of(line, mount)).min();
    Some(match allowed.filter(|allowed| *allowed < machine) {
        Some(bytes) => MemoryAmount { bytes, source: MemorySource::ControlGroup },
        None => MemoryAmount { bytes: machine, source: MemorySource::Machine },
    })
}

/// The line `MemTotal:  123 kB`.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1_024)
}

/// The lowest limit on the path that one line of `/proc/self/cgroup` names: `0::/path` of version 2, `4:memory:/path` of version 1.
fn limit_of(line: &str, mount: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    if controllers.is_empty() {
        // If version 1 is mounted too, the tree of version 2 is in a directory of its own.
        let trees = [mount.to_owned(), mount.join("unified")];
        return trees.iter().filter_map(|tree| least(tree, path, VERSION_2)).min();
    }
    if controllers.split(',').any(|controller| controller == "memory") {
        return least(&mount.join("memory"), path, VERSION_1);
    }
    None
}

/// The lowest number in `files` of the group at `path` and of those above it. A container sees its own group at the top
/// of the tree, whatever path the kernel reports.
fn least(tree: &Path, path: &str, files: &[&str]) -> Option<u64> {
    let below: PathBuf =
        Path::new(path).components().filter(|component| matches!(component, Component::Normal(_))).collect();
    let groups = below.ancestors().map(|group| tree.join(group));
    groups.flat_map(|group| files.iter().map(move |file| group.join(file))).filter_map(number_in).min()
}

/// The number that a file contains. `None` for `max`, which means no limit.
pub(crate) fn number_in(file: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

const VERSION_2: &[&str] = &["memory.max", "memory.high"];
/// Without a limit it is a number larger than any memory.
const VERSION_1: &[&str] = &["memory.limit_in_bytes"];

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        8388608 kB\nMemFree:  1 kB\n";
    const MACHINE: u64 = 8 << 30;

    fn check(files: &[(&str, &str)], groups: &str, expected: Option<u64>) {
        let mount = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = mount.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let found = memory(MEMINFO, groups, mount.path()).expect("it is reported");
        let source = if expected.is_some() { MemorySource::ControlGroup } else { MemorySource::Machine };
        assert_eq!(found, MemoryAmount { bytes: expected.unwrap_or(MACHINE), source }, "{groups} {files:?}");
    }

    #[test]
    fn the_least_of_a_group_and_those_above_it_counts() {
        let own = ("a/b/memory.max", "1000\n");
        check(&[own], "0::/a/b\n", Some(1000));
        check(&[("a/b/memory.max", "max\n"), ("a/memory.max", "2000\n")], "0::/a/b\n", Some(2000));
        check(&[own, ("a/memory.max", "500\n"), ("memory.max", "9000\n")], "0::/a/b\n", Some(500));
        check(&[own, ("a/b/memory.high", "700\n")], "0::/a/b\n", Some(700));
        check(&[own, ("a/c/memory.max", "1\n")], "0::/a/b\n", Some(1000));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_top() {
        check(&[("memory.max", "3000\n")], "0::/\n", Some(3000));
        check(&[("memory.max", "3000\n")], "0::/../../other\n", Some(3000));
        check(&[("memory/memory.limit_in_bytes", "4000\n")], "4:memory:/docker/abc\n", Some(4000));
    }

    #[test]
    fn version_1_and_both_at_once_are_understood() {
        let groups = "9:name=systemd:/\n4:cpu,memory:/a\n0::/x\n";
        check(&[("memory/a/memory.limit_in_bytes", "4000\n")], groups, Some(4000));
        check(&[("unified/x/memory.max", "5000\n")], groups, Some(5000));
        check(&[("memory/a/memory.limit_in_bytes", "9223372036854771712\n")], groups, None);
        check(&[("cpu/a/memory.limit_in_bytes", "1\n")], "3:cpu:/a\n", None);
    }

    #[test]
    fn without_a_limit_it_is_the_machines() {
        check(&[], "", None);
        check(&[("a/memory.max", "max\n"), ("a/memory.high", "max\n")], "0::/a\n", None);
        check(&[("a/memory.max", "99999999999999\n")], "0::/a\n", None);
        check(&[("a/memory.max", "nonsense\n")], "0::/a\nnonsense\n:\n", None);
    }

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(total_memory(MEMINFO), Some(MACHINE));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
        assert_eq!(total_memory("MemTotal: x kB\n"), None);
        assert_eq!(memory("", "0::/\n", Path::new("/nowhere")), None);
    }
}
