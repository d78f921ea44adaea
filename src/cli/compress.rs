//! `pagecast compress`: writes missing and outdated sidecars.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};

use indicatif::HumanBytes;
use rayon::prelude::*;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::compare::{BUFFER, Compared, compare};
use super::finding::shown;
use super::outcome::{CommandOutput, counted};
use super::progress::CommandProgress;
use super::walk::{Tree, TreeItem, TreeItemKind};
use crate::cli::action::CompressArgs;
use crate::config::Config;
use crate::files::{FileStat, Root, Version};
use crate::http::encoding::Encoding;
use crate::http::media_type::{is_compressible, media_type};
use crate::http::named_enum::named_enum;
use crate::http::target::SitePath;
use crate::sys::compress::copy_encoded;
use crate::sys::temp_file::{TempFile, remove_leftover};

/// Writes the sidecars that are missing below the document root, or with `check` lists them.
///
/// Each regular file of a compressible media type, from `compress_from` bytes on, gets a sidecar if its encoding is smaller than
/// itself. A sidecar has its original's mode and date, and appears in one step. Skips hidden files, unless they are served,
/// symbolic links, and sidecars themselves. Reads at most `threads` files at the same time; a large one takes some 300 MiB of memory.
pub fn compress(config: &Config, arguments: &CompressArgs) -> CommandOutput {
    let Tree { root, items, pool } = match Tree::open(config, arguments.threads) {
        Ok(tree) => tree,
        Err(output) => return output,
    };
    let mut totals = CompressTotals::default();
    for TreeItem { path, kind } in &items {
        match kind {
            TreeItemKind::Closed(error) => totals.fail(path, error),
            TreeItemKind::Temporary if !arguments.check => {
                remove_temporary(&root, path).unwrap_or_else(|error| totals.fail(path, &error));
            }
            _ => {}
        }
    }
    let jobs = jobs(&items, config.compression.compress_from.get(), &arguments.encodings, &mut totals.files);
    let progress = CommandProgress::over(jobs.iter().map(|job| job.bytes).sum());
    let compressor = Compressor { root: &root, progress: &progress, check: arguments.check };
    // One job at a time: a thread with a batch of large files would be left working alone.
    let results: Vec<_> =
        pool.install(|| jobs.par_iter().with_max_len(1).map(|job| (job, compressor.perform(job))).collect());
    progress.end();
    results.into_iter().for_each(|(job, result)| totals.add(job, result));
    totals.output(arguments.check)
}

/// A sidecar that should exist.
struct SidecarJob<'a> {
    original: &'a SitePath<'static>,
    sidecar: SitePath<'static>,
    encoding: Encoding,
    bytes: u64,
}

/// Lists the sidecars of `items` that should exist, the longest original first, so that the last jobs to end are short. Adds the
/// number of originals to `files`.
fn jobs<'a>(
    items: &'a [TreeItem],
    from: u64,
    encodings: &[Encoding],
    files: &mut u64,
) -> Vec<SidecarJob<'a>> {
    let mut jobs = Vec::new();
    for TreeItem { path, kind } in items {
        let TreeItemKind::File { bytes } = *kind else { continue };
        if bytes < from || !is_compressible(&media_type(path.as_bytes())) {
            continue;
        }
        *files += 1;
        let of_file = encodings.iter().map(|&encoding| {
            let sidecar = path.suffixed(encoding.suffix());
            SidecarJob { original: path, sidecar, encoding, bytes }
        });
        jobs.extend(of_file.filter(|job| job.sidecar.file_name().len() <= NAME_BYTES_MAX));
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
    jobs
}

fn remove_temporary(root: &Root, path: &SitePath<'_>) -> io::Result<()> {
    remove_leftover(root.directory(&path.parent())?.as_fd(), path.file_name())
}

/// Result of a job.
enum JobResult {
    /// The sidecar exists and is up to date.
    Present,
    /// It was written, with this many bytes.
    Written(u64),
    /// The encoding is no smaller than the original.
    Larger,
    /// The encoding is no smaller than the original, and an outdated sidecar was removed.
    Removed,
    /// With `check`: the sidecar would be written.
    Wanted(Lack),
}

named_enum! {
    /// What is wrong with a sidecar.
    enum Lack {
        /// There is none.
        Missing => "missing",
        /// It is older than its original.
        Older => "older than its original",
        /// It decodes to something else, or does not decode.
        Other => "does not match its original",
    }
}

struct Compressor<'a> {
    root: &'a Root,
    progress: &'a CommandProgress,
    check: bool,
}

impl Compressor<'_> {
    fn perform(&self, job: &SidecarJob<'_>) -> io::Result<JobResult> {
        let directory = self.root.directory(&job.original.parent())?;
        let (original, before) = open_regular(directory.as_fd(), job.original.file_name())?;
        let Some(lack) = lack(directory.as_fd(), job, &original, &before)? else {
            self.progress.bar.inc(job.bytes);
            return Ok(JobResult::Present);
        };
        if self.check {
            let smaller = self.encode(job.encoding, &original, &before, io::sink())?;
            let is_larger = smaller.is_none() && lack == Lack::Missing;
            return Ok(if is_larger { JobResult::Larger } else { JobResult::Wanted(lack) });
        }
        let mut temporary = TempFile::create(directory.as_fd())?;
        let Some(bytes) = self.encode(job.encoding, &original, &before, &mut temporary.file)? else {
            if lack == Lack::Missing {
                return Ok(JobResult::Larger);
            }
            fs::unlinkat(&directory, job.sidecar.file_name(), AtFlags::empty())?;
            return Ok(JobResult::Removed);
        };
        if version(&before) != version(&fs::fstat(&original)?) {
            return Err(io::Error::other("it changed while it was read"));
        }
        temporary.copy_metadata_from(&before)?;
        temporary.persist(job.sidecar.file_name())?;
        Ok(JobResult::Written(bytes))
    }

    /// Encodes `original` into `writer`. Returns the length of the encoding, or `None` if it is no smaller.
    fn encode(
        &self,
        encoding: Encoding,
        original: &File,
        stat: &Stat,
        writer: impl Write,
    ) -> io::Result<Option<u64>> {
        let length = version(stat).size;
        let mut capped = Capped { writer, written: 0, max: length.saturating_sub(1), is_full: false };
        let reader = BufReader::with_capacity(BUFFER, self.progress.reading(original));
        let mut buffered = BufWriter::with_capacity(BUFFER, &mut capped);
        let encoded = copy_encoded(encoding, reader, &mut buffered, length).and_then(|()| buffered.flush());
        drop(buffered);
        if capped.is_full {
            return Ok(None);
        }
        encoded.map(|()| Some(capped.written))
    }
}

fn open_regular(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<(File, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::openat(directory, name, flags, Mode::empty())?;
    let stat = fs::fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((file.into(), stat)),
        _ => Err(io::Error::other("it is no longer a regular file")),
    }
}

/// Finds out what is wrong with the sidecar of `job`: nothing if it is up to date, or something else than a file has its name.
///
/// Builds that set all dates to a constant give a rebuilt original the date of the one before it. So a sidecar whose ctime, which no
/// program can set, is older than its original's is read and compared: that costs little beside writing it.
fn lack(
    directory: BorrowedFd<'_>,
    job: &SidecarJob<'_>,
    mut original: &File,
    stat: &Stat,
) -> io::Result<Option<Lack>> {
    let name = job.sidecar.file_name();
    let sidecar = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(sidecar) => sidecar,
        Err(Errno::NOENT) => return Ok(Some(Lack::Missing)),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(sidecar.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    if version(&sidecar).is_older_than(&version(stat)) {
        return Ok(Some(Lack::Older));
    }
    let changed = |stat: &Stat| (stat.st_ctime, stat.st_ctime_nsec);
    if changed(&sidecar) >= changed(stat) {
        return Ok(None);
    }
    let compared = compare(job.encoding, original, open_regular(directory, name)?.0)?;
    original.rewind()?;
    Ok((!matches!(compared, Compared::Same)).then_some(Lack::Other))
}

fn version(stat: &Stat) -> Version {
    FileStat::from(stat).version
}

/// A writer that fails when it would write more than `max` bytes.
struct Capped<W> {
    writer: W,
    written: u64,
    max: u64,
    is_full: bool,
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.max {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.writer.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Results of all jobs.
#[derive(Default)]
struct CompressTotals {
    files: u64,
    present: u64,
    larger: u64,
    removed: u64,
    /// Encodings of the sidecars that were written, with the bytes of the original and of the sidecar.
    written: Vec<(Encoding, u64, u64)>,
    /// Paths and what is wrong with them.
    wanted: Vec<(String, &'static str)>,
    failed: Vec<(String, String)>,
}

impl CompressTotals {
    fn add(&mut self, job: &SidecarJob<'_>, result: io::Result<JobResult>) {
        match result {
            Ok(JobResult::Present) => self.present += 1,
            Ok(JobResult::Larger) => self.larger += 1,
            Ok(JobResult::Removed) => self.removed += 1,
            Ok(JobResult::Written(bytes)) => self.written.push((job.encoding, job.bytes, bytes)),
            Ok(JobResult::Wanted(lack)) => self.wanted.push((shown(job.sidecar.as_bytes()), lack.name())),
            Err(error) => self.fail(&job.sidecar, &error),
        }
    }

    fn fail(&mut self, path: &SitePath<'_>, error: &io::Error) {
        self.failed.push((shown(path.as_bytes()), error.to_string()));
    }

    fn output(mut self, check: bool) -> CommandOutput {
        self.wanted.sort_unstable();
        self.failed.sort_unstable();
        let mut out: String = self.wanted.iter().map(|(path, lack)| format!("{path}: {lack}\n")).collect();
        let err = self.failed.iter().map(|(path, error)| format!("pagecast: {path}: {error}\n")).collect();
        let _ = if check { self.write_check(&mut out) } else { self.write_summary(&mut out) };
        CommandOutput { out, err, is_clean: self.wanted.is_empty() && self.failed.is_empty() }
    }

    fn write_check(&self, out: &mut String) -> std::fmt::Result {
        let (files, wanted) = (counted(self.files, "file"), counted(self.wanted.len() as u64, "sidecar"));
        writeln!(out, "{files}, {} present, {wanted} to write", self.present)
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let Self { files, present, larger, removed, written, .. } = self;
        let (files, skipped) = (counted(*files, "file"), present + larger);
        let sidecars = counted(written.len() as u64, "sidecar");
        writeln!(
            out,
            "{files}, {sidecars} written, {skipped} skipped ({present} present, {larger} no smaller)"
        )?;
        if *removed > 0 {
            let removed = counted(*removed, "outdated sidecar");
            writeln!(out, "{removed} removed, no smaller than the original any more")?;
        }
        for encoding in Encoding::ALL {
            let sizes = || written.iter().filter(|(other, ..)| *other == encoding);
            let before = HumanBytes(sizes().map(|(_, before, _)| before).sum());
            let after = HumanBytes(sizes().map(|(.., after)| after).sum());
            if let count @ 1.. = sizes().count() {
                writeln!(out, "{:4} {count} written, {before} -> {after}", encoding.name())?;
            }
        }
        Ok(())
    }
}

/// NAME_MAX of nearly every file system.
const NAME_BYTES_MAX: usize = 255;
