//! `pagecast verify`: finds files that can't be served, or not as intended.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::io::Errno;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::compare::{Compared, compare, read_piece};
use super::finding::{Finding, Problem, shown, text};
use super::outcome::CommandOutput;
use super::progress::CommandProgress;
use super::walk::{Tree, TreeItem, TreeItemKind, find};
use crate::cli::action::VerifyArgs;
use crate::config::{Config, Symlinks};
use crate::files::{Root, RootEntry, Version};
use crate::http::checksum_file::{ChecksumLine, expected_in, lines};
use crate::http::digest::hexadecimal;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// Checks the tree below the document root. Prints a line for each finding, sorted by path, or one document
/// `{"root", "files", "bytes", "findings": [{"path", "kind", "detail"}]}`.
///
/// Every file is opened as the server would open it. Files with a checksum (`name.sha256` beside `name`, a line in `SHA256SUMS`) and
/// files with sidecars are read and compared; `bytes` is the number of bytes read. Hidden names, and symbolic links that the
/// configuration denies, are skipped. Paths in the document are relative to the root, and percent-encoded if they are not UTF-8.
/// Memory grows with the number of names, not with the content of files.
pub fn verify(config: &Config, arguments: &VerifyArgs) -> CommandOutput {
    let Tree { root, items, pool } = match Tree::open(config, arguments.threads) {
        Ok(tree) => tree,
        Err(output) => return output,
    };
    let progress = CommandProgress::over(0);
    let check = Check { config, root: &root, items: &items, progress: &progress, files: AtomicU64::new(0) };
    let mut findings: Vec<Finding> =
        pool.install(|| items.par_iter().with_max_len(16).flat_map_iter(|item| check.item(item)).collect());
    findings.sort_by(|a, b| (&a.path, a.kind, &a.detail).cmp(&(&b.path, b.kind, &b.detail)));
    let files = check.files.into_inner();
    let root = text(config.site.root.as_path().as_os_str().as_encoded_bytes());
    let report = Report { root, files, bytes: progress.end(), findings };
    if arguments.json { report.json() } else { report.lines() }
}

/// The findings, and the number of files and bytes that were read for them.
#[derive(Serialize)]
struct Report {
    root: String,
    files: u64,
    bytes: u64,
    findings: Vec<Finding>,
}

impl Report {
    fn json(&self) -> CommandOutput {
        match serde_json::to_string_pretty(self) {
            Ok(document) => self.output(document + "\n", String::new()),
            Err(error) => CommandOutput::failed(error),
        }
    }

    fn lines(&self) -> CommandOutput {
        let (bytes, count) = (indicatif::HumanBytes(self.bytes), self.findings.len());
        let summary = format!("pagecast: {} files, {bytes} compared, {count} findings\n", self.files);
        self.output(self.findings.iter().map(|finding| format!("{finding}\n")).collect(), summary)
    }

    fn output(&self, out: String, err: String) -> CommandOutput {
        CommandOutput { out, err, is_clean: self.findings.is_empty() }
    }
}

/// A SHA-256 checksum, and the file that has it.
struct Checksum<'a> {
    digest: [u8; 32],
    source: &'a SitePath<'a>,
}

struct Check<'a> {
    config: &'a Config,
    root: &'a Root,
    items: &'a [TreeItem],
    progress: &'a CommandProgress,
    files: AtomicU64,
}

impl Check<'_> {
    fn item(&self, TreeItem { path, kind }: &TreeItem) -> Vec<Finding> {
        match kind {
            TreeItemKind::Temporary => Vec::new(),
            TreeItemKind::Symlink if self.config.site.symlinks == Symlinks::Deny => Vec::new(),
            TreeItemKind::Closed(error) => vec![unreadable(path, error)],
            TreeItemKind::Special => vec![special(path)],
            TreeItemKind::File { .. } => self.entry(path, false),
            TreeItemKind::Symlink => self.entry(path, true),
        }
    }

    fn entry(&self, path: &SitePath<'static>, is_symlink: bool) -> Vec<Finding> {
        let mut findings = Vec::from_iter(self.name(path));
        match self.root.entry(path) {
            Ok(RootEntry::File { file, stat, .. }) => {
                self.files.fetch_add(1, Ordering::Relaxed);
                let sidecars = Encoding::ALL.into_iter();
                findings.extend(
                    sidecars.filter_map(|encoding| self.sidecar(path, encoding, &file, &stat.version)),
                );
                findings.extend(self.checksums(path, file).unwrap_or_else(|finding| vec![finding]));
            }
            Ok(RootEntry::Directory) => {}
            Ok(RootEntry::Special) => findings.push(special(path)),
            // It was removed after it was listed.
            Err(Errno::NOENT) if !is_symlink => {}
            Err(error) => findings.push(unopened(path, error, is_symlink)),
        }
        findings
    }

    /// Finds a name that no request can have.
    fn name(&self, path: &SitePath<'_>) -> Option<Finding> {
        if OWN_NAMES.contains(&path.as_bytes()) {
            let detail = "reserved for health checks";
            return Some(Finding::new(path, Problem::NameTaken, detail));
        }
        // A location is the target and one more slash.
        let shortest = SHORTEST_HEAD.len() + path.to_location(None).len() - 1;
        let max = self.config.requests.head_bytes.as_usize();
        let detail = || format!("a request for it has {shortest} bytes, PAGECAST_HEAD_BYTES allows {max}");
        (shortest > max).then(|| Finding::new(path, Problem::NameTooLong, detail()))
    }

    /// Compares the sidecar of `encoding`, if there is one, with its `original`.
    fn sidecar(
        &self,
        path: &SitePath<'_>,
        encoding: Encoding,
        original: &OwnedFd,
        version: &Version,
    ) -> Option<Finding> {
        let sidecar = path.suffixed(encoding.suffix());
        find(self.items, sidecar.as_bytes())?;
        // One that can't be opened is a finding of its own.
        let Ok(RootEntry::File { file, stat: of_sidecar, .. }) = self.root.entry(&sidecar) else {
            return None;
        };
        if of_sidecar.version.is_older_than(version) {
            let detail = "older than its original, so it is not sent";
            return Some(Finding::new(&sidecar, Problem::SidecarOlder, detail));
        }
        self.progress.bar.inc_length(version.size);
        let compared = reopened(original)
            .and_then(|original| compare(encoding, self.progress.reading(original), File::from(file)));
        let (problem, detail) = match compared {
            Ok(Compared::Same) => return None,
            Ok(Compared::DiffersAt(at)) => {
                let detail = format!("differs from its original when decoded, from byte {at} on");
                (Problem::SidecarDiffers, detail)
            }
            Ok(Compared::Corrupt(error)) => {
                (Problem::SidecarCorrupt, format!("does not decode as {}: {error}", encoding.name()))
            }
            Err(error) => (Problem::Unreadable, error.to_string()),
        };
        Some(Finding::new(&sidecar, problem, detail))
    }

    /// Compares files with their checksums if `path` is a file of checksums: `SHA256SUMS`, or `name.sha256`, which has the checksum of
    /// `name` beside it or is a list of other names.
    fn checksums(&self, path: &SitePath<'static>, file: OwnedFd) -> Result<Vec<Finding>, Finding> {
        let name = path.file_name().strip_suffix(SUM_SUFFIX);
        if name.is_none() && path.file_name() != SUMS {
            return Ok(Vec::new());
        }
        let mut text = Vec::new();
        let read = File::from(file).take(SUMS_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(|error| unreadable(path, &error))?;
        if text.len() as u64 > SUMS_BYTES_MAX {
            let detail = format!("larger than {}", indicatif::HumanBytes(SUMS_BYTES_MAX));
            return Err(Finding::new(path, Problem::ChecksumUnreadable, detail));
        }
        let Some(name) = name else { return Ok(self.list(path, &text)) };
        let original = path.parent().entry(name);
        match self.root.entry(&original) {
            Ok(RootEntry::File { file, stat, .. }) if !name.is_empty() => {
                let Some(expected) = expected_in(&text, name) else {
                    let detail = format!("no SHA-256 checksum of {}", shown(name));
                    return Err(Finding::new(path, Problem::ChecksumUnreadable, detail));
                };
                let expected = Checksum { digest: expected, source: path };
                self.digest(&original, file, &stat.version, &expected).map(|()| Vec::new())
            }
            _ if is_list(&text) => Ok(self.list(path, &text)),
            _ => {
                let detail = format!("there is no file {} beside it", shown(name));
                Err(Finding::new(path, Problem::Missing, detail))
            }
        }
    }

    /// Compares the files of a list: a checksum and a name on each line.
    fn list(&self, path: &SitePath<'static>, text: &[u8]) -> Vec<Finding> {
        let lines: Vec<_> = lines(text).collect();
        let found = lines.par_iter().with_max_len(1).filter_map(|(number, line)| {
            let named = line.as_ref().and_then(|line| Some((line.digest, line.name.as_deref()?)));
            let target = named.and_then(|(expected, name)| Some((expected, beneath(&path.parent(), name)?)));
            let Some((expected, target)) = target else {
                let detail = format!("line {number} is no checksum of a file below the root");
                return Some(Finding::new(path, Problem::ChecksumUnreadable, detail));
            };
            match self.root.entry(&target) {
                Ok(RootEntry::File { file, stat, .. }) => {
                    let expected = Checksum { digest: expected, source: path };
                    self.digest(&target, file, &stat.version, &expected).err()
                }
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
                    let source = shown(path.as_bytes());
                    let detail = format!("no such file, though {source} has its checksum on line {number}");
                    Some(Finding::new(&target, Problem::Missing, detail))
                }
                Err(error) => Some(unreadable(&target, &error.into())),
            }
        });
        found.collect()
    }

    /// Compares `file` with the checksum that is `expected`.
    fn digest(
        &self,
        path: &SitePath<'_>,
        file: OwnedFd,
        version: &Version,
        expected: &Checksum<'_>,
    ) -> Result<(), Finding> {
        self.progress.bar.inc_length(version.size);
        let mut reader = self.progress.reading(File::from(file));
        let (mut piece, mut hasher) = (Vec::new(), Sha256::new());
        while read_piece(&mut reader, &mut piece).map_err(|error| unreadable(path, &error))? > 0 {
            hasher.update(&piece);
        }
        let got: [u8; 32] = hasher.finalize().into();
        if got == expected.digest {
            return Ok(());
        }
        let (source, got) = (shown(expected.source.as_bytes()), hexadecimal(&got));
        let expected = hexadecimal(&expected.digest);
        let detail = format!("{expected} expected by {source}, got {got}");
        Err(Finding::new(path, Problem::ChecksumMismatch, detail))
    }
}

fn unreadable(path: &SitePath<'_>, error: &std::io::Error) -> Finding {
    Finding::new(path, Problem::Unreadable, error.to_string())
}

fn special(path: &SitePath<'_>) -> Finding {
    Finding::new(path, Problem::SpecialFile, "neither a file nor a directory")
}

/// A name that can't be opened; `is_symlink` if it is a symbolic link.
fn unopened(path: &SitePath<'_>, error: Errno, is_symlink: bool) -> Finding {
    let (problem, detail) = match error {
        Errno::XDEV if is_symlink => (Problem::LinkOutside, "symbolic link out of the root"),
        Errno::LOOP if is_symlink => (Problem::LinkLoop, "symbolic link loop"),
        Errno::NOENT | Errno::NOTDIR if is_symlink => (Problem::LinkDangling, "dangling symbolic link"),
        Errno::NAMETOOLONG => (Problem::NameTooLong, "path too long"),
        error => return unreadable(path, &error.into()),
    };
    Finding::new(path, problem, detail)
}

/// Another reader of the same file, at its start.
fn reopened(file: &OwnedFd) -> std::io::Result<File> {
    let mut file = File::from(file.try_clone()?);
    file.rewind()?;
    Ok(file)
}

/// Whether there are lines, and every one has a checksum and a name.
fn is_list(text: &[u8]) -> bool {
    let is_named = |(_, line): (usize, Option<ChecksumLine>)| line.is_some_and(|line| line.name.is_some());
    lines(text).next().is_some() && lines(text).all(is_named)
}

/// The path of `name` in `directory`; `None` if it leads out of the root.
fn beneath(directory: &SitePath<'static>, name: &[u8]) -> Option<SitePath<'static>> {
    if name.starts_with(b"/") || name.contains(&0) {
        return None;
    }
    let mut at = directory.clone();
    for segment in name.split(|&byte| byte == b'/') {
        at = match segment {
            b"" | b"." => at,
            b".." if at.is_root() => return None,
            b".." => at.parent(),
            _ => at.entry(segment),
        };
    }
    (!at.is_root()).then_some(at)
}

const SUMS: &[u8] = b"SHA256SUMS";
const SUM_SUFFIX: &[u8] = b".sha256";
/// Some hundred thousand lines.
const SUMS_BYTES_MAX: u64 = 32 << 20;
/// Paths of the health routes, which every traffic listener has.
const OWN_NAMES: &[&[u8]] = &[b"livez", b"readyz", b"healthz"];
/// The shortest request head, without its target.
const SHORTEST_HEAD: &str = "GET  HTTP/1.1\r\nHost: x\r\n\r\n";
