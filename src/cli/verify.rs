//! What in a tree can't be served, or not as it was meant.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use rustix::fs::Stat;
use rustix::io::Errno;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::compare::{Compared, compare, modified};
use super::finding::{Finding, Problem, shown, text};
use super::progress::CommandProgress;
use super::threads::pool;
use super::walk::{TreeItem, TreeItemKind, find, walk};
use crate::cli::outcome::CommandOutput;
use crate::config::{Config, Symlinks, VerifyArgs};
use crate::files::Root;
use crate::files::root::RootEntry;
use crate::http::checksum_file::{expected_in, lines};
use crate::http::digest::hexadecimal;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// Looks for whatever is wrong with the tree below `config.root`: one line for each finding, sorted by path, or one document
/// `{"root", "files", "bytes", "findings": [{"path", "kind", "detail"}]}`.
///
/// Every file is opened as the server would open it. Those that have something to be compared with are read: files with a
/// checksum (`name.sha256` beside `name`, a line in `SHA256SUMS`) and files with sidecars; `bytes` is how many were read.
/// Hidden names and links that the configuration denies are passed over. A path in the document is relative to the root, and
/// percent-encoded as in a URL if it is not UTF-8. Memory grows with the number of names, not with what is in the files.
pub fn verify(config: &Config, asked: &VerifyArgs) -> CommandOutput {
    let root_path = config.site.root.as_path();
    let root = match Root::open(root_path, config.site.symlinks) {
        Ok(root) => root,
        Err(error) => return CommandOutput::no_root(root_path, &error),
    };
    let pool = match pool(asked.threads) {
        Ok(pool) => pool,
        Err(error) => return CommandOutput::no_threads(&error),
    };
    let items = walk(&root, config.site.dotfiles);
    let progress = CommandProgress::over(0);
    let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let (links, head_bytes) = (config.site.symlinks, config.requests.head_bytes.get());
    let check = Check { root: &root, items: &items, links, head_bytes, progress: &progress, files, bytes };
    let mut findings: Vec<Finding> =
        pool.install(|| items.par_iter().with_max_len(16).flat_map_iter(|item| check.item(item)).collect());
    findings.sort_by(|a, b| (&a.path, a.kind, &a.detail).cmp(&(&b.path, b.kind, &b.detail)));
    let (files, bytes) = (check.files.into_inner(), check.bytes.into_inner());
    progress.end();
    let root = text(root_path.as_os_str().as_encoded_bytes());
    let report = Report { root, files, bytes, findings };
    CommandOutput {
        is_clean: report.findings.is_empty(),
        ..if asked.json { report.json() } else { report.lines() }
    }
}

/// What was found, and in how much.
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
            Ok(document) => CommandOutput { out: document + "\n", ..CommandOutput::default() },
            Err(error) => CommandOutput { err: format!("pagecast: {error}\n"), ..CommandOutput::default() },
        }
    }

    fn lines(&self) -> CommandOutput {
        let mut out = String::new();
        for finding in &self.findings {
            let _ = writeln!(out, "{finding}");
        }
        let bytes = indicatif::HumanBytes(self.bytes);
        let err =
            format!("pagecast: {} files, {bytes} compared, {} findings\n", self.files, self.findings.len());
        CommandOutput { out, err, is_clean: false }
    }
}

struct Check<'a> {
    root: &'a Root,
    items: &'a [TreeItem],
    links: Symlinks,
    head_bytes: u64,
    progress: &'a CommandProgress,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Check<'_> {
    fn item(&self, item: &TreeItem) -> Vec<Finding> {
        let path = &item.path;
        match &item.kind {
            TreeItemKind::Temporary => Vec::new(),
            TreeItemKind::Link if self.links == Symlinks::Deny => Vec::new(),
            TreeItemKind::Closed(error) => vec![unreadable(path, error)],
            TreeItemKind::Special => vec![special(path)],
            TreeItemKind::File { .. } | TreeItemKind::Link => {
                self.entry(path, matches!(item.kind, TreeItemKind::Link))
            }
        }
    }

    fn entry(&self, path: &SitePath<'static>, is_link: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.name(path));
        match self.root.entry(path) {
            Ok(RootEntry::File { file, stat, .. }) => {
                self.files.fetch_add(1, Ordering::Relaxed);
                self.sidecars(path, &file, &stat, &mut findings);
                if path.file_name() == SUMS {
                    self.sums(path, file, &mut findings);
                } else if let Some(name) = path.file_name().strip_suffix(SUM_SUFFIX) {
                    self.sum(path, name, file, &mut findings);
                }
            }
            Ok(RootEntry::Directory) => {}
            Ok(RootEntry::Special) => findings.push(special(path)),
            Err(Errno::XDEV) if is_link => {
                findings.push(Finding::new(path, Problem::LinkOutside, "leads out of the root"));
            }
            Err(Errno::LOOP) if is_link => {
                findings.push(Finding::new(path, Problem::LinkLoop, "leads round in a circle"));
            }
            Err(Errno::NOENT | Errno::NOTDIR) if is_link => {
                findings.push(Finding::new(path, Problem::LinkDangling, "leads to nothing"));
            }
            // It went away after it was listed.
            Err(Errno::NOENT) => {}
            Err(Errno::NAMETOOLONG) => {
                findings.push(Finding::new(
                    path,
                    Problem::NameTooLong,
                    "longer than the system opens at once",
                ));
            }
            Err(error) => findings.push(unreadable(path, &error.into())),
        }
        findings
    }

    /// What keeps a request from naming this.
    fn name(&self, path: &SitePath<'_>) -> Option<Finding> {
        if OWN_NAMES.contains(&path.as_bytes()) {
            return Some(Finding::new(
                path,
                Problem::NameTaken,
                "the server answers this name with its health",
            ));
        }
        // A location is the target with a slash more.
        let target = path.to_location(None).len() as u64 - 1;
        let shortest = target + SHORTEST_HEAD.len() as u64;
        (shortest > self.head_bytes).then(|| {
            let detail = format!(
                "a request for it has {shortest} bytes, PAGECAST_HEAD_BYTES allows {}",
                self.head_bytes
            );
            Finding::new(path, Problem::NameTooLong, detail)
        })
    }

    fn sidecars(&self, path: &SitePath<'_>, original: &OwnedFd, stat: &Stat, findings: &mut Vec<Finding>) {
        for coding in Encoding::ALL {
            let name = [path.file_name(), coding.suffix().as_bytes()].concat();
            let sidecar = path.parent().entry(&name);
            if find(self.items, sidecar.as_bytes()).is_none() {
                continue;
            }
            // One that can't be opened is a finding of its own.
            let Ok(RootEntry::File { file, stat: of_sidecar, .. }) = self.root.entry(&sidecar) else {
                continue;
            };
            if modified(&of_sidecar) < modified(stat) {
                let detail = "older than its original, so that it is not sent";
                findings.push(Finding::new(&sidecar, Problem::SidecarOlder, detail));
                continue;
            }
            self.progress.extend(u64::try_from(stat.st_size).unwrap_or(0));
            let compared = reopened(original)
                .and_then(|original| compare(coding, self.reading(original), File::from(file)));
            match compared {
                Ok(Compared::Same) => {}
                Ok(Compared::DiffersAt(at)) => {
                    let detail = format!("decodes to other bytes than its original's, from byte {at} on");
                    findings.push(Finding::new(&sidecar, Problem::SidecarDiffers, detail));
                }
                Ok(Compared::Corrupt(error)) => {
                    let detail = format!("does not decode as {}: {error}", coding.token());
                    findings.push(Finding::new(&sidecar, Problem::SidecarCorrupt, detail));
                }
                Err(error) => findings.push(unreadable(&sidecar, &error)),
            }
        }
    }

    /// `name.sha256` beside `name`; without a `name` it may be a list of other names.
    fn sum(&self, path: &SitePath<'static>, name: &[u8], file: OwnedFd, findings: &mut Vec<Finding>) {
        let original = path.parent().entry(name);
        let Some(text) = self.sums_text(path, file, findings) else { return };
        match self.root.entry(&original) {
            Ok(RootEntry::File { file, stat, .. }) if !name.is_empty() => match expected_in(&text, name) {
                Some(expected) => findings.extend(self.digest(&original, file.into(), &stat, expected, path)),
                None => {
                    let detail = format!("no SHA-256 checksum of {}", shown(name));
                    findings.push(Finding::new(path, Problem::ChecksumUnreadable, detail));
                }
            },
            _ if is_list(&text) => self.list(path, &text, findings),
            _ => {
                let detail = format!("there is no file {} beside it", shown(name));
                findings.push(Finding::new(path, Problem::Missing, detail));
            }
        }
    }

    /// `SHA256SUMS`: a checksum and a name on each line.
    fn sums(&self, path: &SitePath<'static>, file: OwnedFd, findings: &mut Vec<Finding>) {
        if let Some(text) = self.sums_text(path, file, findings) {
            self.list(path, &text, findings);
        }
    }

    fn sums_text(&self, path: &SitePath<'_>, file: OwnedFd, findings: &mut Vec<Finding>) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        if let Err(error) = File::from(file).take(SUMS_BYTES_MAX + 1).read_to_end(&mut text) {
            findings.push(unreadable(path, &error));
            return None;
        }
        if text.len() as u64 > SUMS_BYTES_MAX {
            let detail = format!("larger than {}", indicatif::HumanBytes(SUMS_BYTES_MAX));
            findings.push(Finding::new(path, Problem::ChecksumUnreadable, detail));
            return None;
        }
        Some(text)
    }

    fn list(&self, path: &SitePath<'static>, text: &[u8], findings: &mut Vec<Finding>) {
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
                    self.digest(&target, file.into(), &stat, expected, path)
                }
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
                    let detail = format!(
                        "no such file, though {} has its checksum on line {number}",
                        shown(path.as_bytes())
                    );
                    Some(Finding::new(&target, Problem::Missing, detail))
                }
                Err(error) => Some(unreadable(&target, &error.into())),
            }
        });
        findings.extend(found.collect::<Vec<_>>());
    }

    /// Whether `file` has the checksum that `source` tells.
    fn digest(
        &self,
        path: &SitePath<'_>,
        file: File,
        stat: &Stat,
        expected: [u8; 32],
        source: &SitePath<'_>,
    ) -> Option<Finding> {
        self.progress.extend(u64::try_from(stat.st_size).unwrap_or(0));
        let mut reader = self.reading(file);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Some(unreadable(path, &error)),
            }
        }
        let got: [u8; 32] = hasher.finalize().into();
        (got != expected).then(|| {
            let source = shown(source.as_bytes());
            let detail =
                format!("{} expected by {source}, got {}", hexadecimal(&expected), hexadecimal(&got));
            Finding::new(path, Problem::ChecksumMismatch, detail)
        })
    }

    fn reading(&self, file: File) -> impl Read {
        Tallied { reader: self.progress.reading(file), bytes: &self.bytes }
    }
}

/// Counts what is read through it.
struct Tallied<'a, R> {
    reader: R,
    bytes: &'a AtomicU64,
}

impl<R: Read> Read for Tallied<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn unreadable(path: &SitePath<'_>, error: &io::Error) -> Finding {
    Finding::new(path, Problem::Unreadable, error.to_string())
}

fn special(path: &SitePath<'_>) -> Finding {
    Finding::new(path, Problem::SpecialFile, "neither a file nor a directory")
}

/// Another reader of the same file, at its start.
fn reopened(file: &OwnedFd) -> io::Result<File> {
    let mut file = File::from(file.try_clone()?);
    file.rewind()?;
    Ok(file)
}

/// Whether every line is a checksum with a name.
fn is_list(text: &[u8]) -> bool {
    let mut count = 0;
    lines(text).all(|(_, line)| {
        count += 1;
        line.is_some_and(|line| line.name.is_some())
    }) && count > 0
}

/// The path of `name`, as a line in a file in `directory` spells it; none if it leads out of the root.
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
/// What the health routes answer, wherever traffic is served.
const OWN_NAMES: &[&[u8]] = &[b"livez", b"readyz", b"healthz"];
/// All of a head but the target, with the shortest host.
const SHORTEST_HEAD: &str = "GET  HTTP/1.1\r\nHost: x\r\n\r\n";
const BUFFER: usize = 64 << 10;
