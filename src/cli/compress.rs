//! Which sidecars are missing or older than their originals, and writing them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use indicatif::HumanBytes;
use rayon::prelude::*;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::compare::{Compared, changed, compare, modified};
use super::finding::shown;
use super::progress::CommandProgress;
use super::threads::pool;
use super::walk::{TreeItem, TreeItemKind, walk};
use crate::cli::outcome::CommandOutput;
use crate::config::{CompressArgs, Config};
use crate::files::Root;
use crate::http::encoding::Encoding;
use crate::http::media_type::{is_compressible, media_type};
use crate::http::target::SitePath;
use crate::sys::compress::copy_encoded;
use crate::sys::temp_file::{TempFile, clear_up};

/// Writes the sidecars that the tree below `config.root` lacks, or with `check` tells which those are.
///
/// A sidecar belongs beside each regular file of a compressible media type, from `compress_from` bytes on, whose encoding is
/// smaller than itself. It has its original's mode and date, and appears whole or not at all. Hidden files, unless they are
/// served, symbolic links and sidecars themselves are passed over. Reads at most `threads` files at once; each takes some 300 MiB
/// if it is large.
pub fn compress(config: &Config, asked: &CompressArgs) -> CommandOutput {
    let root = match Root::open(config.site.root.as_path(), config.site.symlinks) {
        Ok(root) => root,
        Err(error) => return CommandOutput::no_root(config.site.root.as_path(), &error),
    };
    let pool = match pool(asked.threads) {
        Ok(pool) => pool,
        Err(error) => return CommandOutput::no_threads(&error),
    };
    let items = walk(&root, config.site.dotfiles);
    let mut tally = CompressTotals::default();
    for item in &items {
        if let TreeItemKind::Closed(error) = &item.kind {
            tally.fail(&item.path, error);
        }
        if matches!(item.kind, TreeItemKind::Temporary)
            && !asked.check
            && let Err(error) = clear_up_at(&root, &item.path)
        {
            tally.fail(&item.path, &error);
        }
    }
    let jobs = jobs(&items, config.compression.compress_from.get(), &asked.codings, &mut tally);
    let progress = CommandProgress::over(jobs.iter().map(|job| job.bytes).sum());
    let work = Work { root: &root, progress: &progress, check: asked.check };
    // One by one, or a thread could be left alone with a row of large ones.
    let done: Vec<_> =
        pool.install(|| jobs.par_iter().with_max_len(1).map(|job| (job, work.perform(job))).collect());
    progress.end();
    done.into_iter().for_each(|(job, done)| tally.count(job, done));
    tally.told(asked)
}

/// One sidecar that there ought to be.
struct SidecarJob<'a> {
    original: &'a SitePath<'static>,
    coding: Encoding,
    bytes: u64,
}

impl SidecarJob<'_> {
    fn sidecar(&self) -> Vec<u8> {
        [self.original.file_name(), self.coding.suffix().as_bytes()].concat()
    }
}

fn jobs<'a>(
    items: &'a [TreeItem],
    from: u64,
    codings: &[Encoding],
    tally: &mut CompressTotals,
) -> Vec<SidecarJob<'a>> {
    let mut jobs = Vec::new();
    for item in items {
        let TreeItemKind::File { bytes } = item.kind else { continue };
        if bytes < from || !is_compressible(&media_type(item.path.as_bytes())) {
            continue;
        }
        tally.files += 1;
        for &coding in codings {
            let job = SidecarJob { original: &item.path, coding, bytes };
            if job.sidecar().len() <= NAME_BYTES_MAX {
                jobs.push(job);
            }
        }
    }
    // The longest first, so that the last to end is a short one.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
    jobs
}

fn clear_up_at(root: &Root, path: &SitePath<'_>) -> io::Result<()> {
    clear_up(root.directory(&path.parent())?.as_fd(), path.file_name())
}

/// What became of a job.
enum JobResult {
    /// The sidecar is there, and its original's.
    Present,
    Written {
        after: u64,
    },
    /// The encoding is no smaller than the original.
    Larger,
    /// The same, and a sidecar of another original was taken away.
    Removed,
    /// What `check` finds.
    Wanted(Lack),
    Failed(io::Error),
}

#[derive(Clone, Copy)]
enum Lack {
    Missing,
    Older,
    /// It decodes to something else, or does not decode.
    Other,
}

struct Work<'a> {
    root: &'a Root,
    progress: &'a CommandProgress,
    check: bool,
}

impl Work<'_> {
    fn perform(&self, job: &SidecarJob<'_>) -> JobResult {
        self.try_perform(job).unwrap_or_else(JobResult::Failed)
    }

    fn try_perform(&self, job: &SidecarJob<'_>) -> io::Result<JobResult> {
        let directory = self.root.directory(&job.original.parent())?;
        let original = File::from(open_regular(directory.as_fd(), job.original.file_name())?);
        let before = fs::fstat(&original)?;
        let lack = lack(directory.as_fd(), &job.sidecar(), job.coding, &original, &before)?;
        let Some(lack) = lack else {
            self.progress.add(job.bytes);
            return Ok(JobResult::Present);
        };
        if self.check {
            let smaller = self.encode(job.coding, &original, &before, io::sink())?;
            return Ok(match (smaller, lack) {
                (None, Lack::Missing) => JobResult::Larger,
                _ => JobResult::Wanted(lack),
            });
        }
        let mut temporary = TempFile::create(directory.as_fd())?;
        let Some(after) = self.encode(job.coding, &original, &before, &mut temporary)? else {
            return match lack {
                Lack::Missing => Ok(JobResult::Larger),
                Lack::Older | Lack::Other => {
                    fs::unlinkat(&directory, job.sidecar(), AtFlags::empty())?;
                    Ok(JobResult::Removed)
                }
            };
        };
        if !is_same(&before, &fs::fstat(&original)?) {
            return Err(io::Error::other("it changed while it was read"));
        }
        temporary.dress_as(&before)?;
        temporary.keep(&job.sidecar())?;
        Ok(JobResult::Written { after })
    }

    /// Encodes the whole of `original` into `writer` and returns the length, if that is smaller.
    fn encode(
        &self,
        coding: Encoding,
        original: &File,
        stat: &Stat,
        writer: impl Write,
    ) -> io::Result<Option<u64>> {
        let length = length(stat);
        let mut capped = Capped { writer, written: 0, room: length.saturating_sub(1), is_full: false };
        let reader = BufReader::with_capacity(BUFFER, self.progress.reading(original));
        let encoded = {
            let mut buffered = BufWriter::with_capacity(BUFFER, &mut capped);
            let encoded = copy_encoded(coding, reader, &mut buffered, length);
            encoded.and_then(|()| buffered.flush())
        };
        if capped.is_full {
            return Ok(None);
        }
        encoded?;
        Ok(Some(capped.written))
    }
}

fn open_regular(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let original = fs::openat(directory, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(fs::fstat(&original)?.st_mode) {
        FileType::RegularFile => Ok(original),
        _ => Err(io::Error::other("it is no longer a regular file")),
    }
}

/// What is wrong with the sidecar `name`; nothing, too, where something else than a file has its name.
///
/// Where dates of files are set to a constant, a rebuilt original has the date of the one before it. So a sidecar that is older
/// by the date that nobody sets is read, which costs little beside writing it.
fn lack(
    directory: BorrowedFd<'_>,
    name: &[u8],
    coding: Encoding,
    original: &File,
    stat: &Stat,
) -> io::Result<Option<Lack>> {
    let sidecar = match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(sidecar) => sidecar,
        Err(Errno::NOENT) => return Ok(Some(Lack::Missing)),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(sidecar.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    if modified(&sidecar) < modified(stat) {
        return Ok(Some(Lack::Older));
    }
    if changed(&sidecar) >= changed(stat) {
        return Ok(None);
    }
    let encoded = File::from(open_regular(directory, name)?);
    let compared = compare(coding, original, encoded)?;
    let mut rewound = original;
    rewound.rewind()?;
    Ok((!matches!(compared, Compared::Same)).then_some(Lack::Other))
}

fn is_same(before: &Stat, after: &Stat) -> bool {
    length(before) == length(after)
        && modified(before) == modified(after)
        && changed(before) == changed(after)
}

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// A writer that fails once it would have taken more than there is room for.
struct Capped<W> {
    writer: W,
    written: u64,
    room: u64,
    is_full: bool,
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.room {
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

/// What all jobs came to.
#[derive(Default)]
struct CompressTotals {
    files: u64,
    present: u64,
    larger: u64,
    removed: u64,
    /// For each coding, in the order of [`Encoding::ALL`].
    written: [Written; Encoding::ALL.len()],
    /// Lines by the paths they are about.
    wanted: Vec<(String, &'static str)>,
    failed: Vec<(String, String)>,
}

#[derive(Clone, Copy, Default)]
struct Written {
    sidecars: u64,
    before: u64,
    after: u64,
}

impl CompressTotals {
    fn count(&mut self, job: &SidecarJob<'_>, done: JobResult) {
        match done {
            JobResult::Present => self.present += 1,
            JobResult::Larger => self.larger += 1,
            JobResult::Removed => self.removed += 1,
            JobResult::Written { after } => {
                let place = Encoding::ALL.iter().position(|coding| *coding == job.coding);
                if let Some(written) = place.and_then(|place| self.written.get_mut(place)) {
                    written.sidecars += 1;
                    written.before += job.bytes;
                    written.after += after;
                }
            }
            JobResult::Wanted(lack) => {
                let words = match lack {
                    Lack::Missing => "missing",
                    Lack::Older => "older than its original",
                    Lack::Other => "not of its original",
                };
                self.wanted.push((shown(job.original.parent().entry(&job.sidecar()).as_bytes()), words));
            }
            JobResult::Failed(error) => self.fail(&job.original.parent().entry(&job.sidecar()), &error),
        }
    }

    fn fail(&mut self, path: &SitePath<'_>, error: &io::Error) {
        self.failed.push((shown(path.as_bytes()), error.to_string()));
    }

    fn told(mut self, asked: &CompressArgs) -> CommandOutput {
        let (mut out, mut err) = (String::new(), String::new());
        self.wanted.sort_unstable();
        self.failed.sort_unstable();
        for (path, words) in &self.wanted {
            let _ = writeln!(out, "{path}: {words}");
        }
        for (path, error) in &self.failed {
            let _ = writeln!(err, "pagecast: {path}: {error}");
        }
        let files = counted(self.files, "file");
        if asked.check {
            let wanted = counted(self.wanted.len() as u64, "sidecar");
            let _ = writeln!(out, "{files}, {} present, {wanted} to write", self.present);
        } else {
            let written = counted(self.written.iter().map(|written| written.sidecars).sum(), "sidecar");
            let skipped = self.present + self.larger;
            let _ = writeln!(
                out,
                "{files}, {written} written, {skipped} skipped ({} present, {} no smaller)",
                self.present, self.larger
            );
            if self.removed > 0 {
                let removed = counted(self.removed, "outdated sidecar");
                let _ = writeln!(out, "{removed} removed, no smaller than the original any more");
            }
            for (coding, written) in Encoding::ALL.iter().zip(&self.written).filter(|(_, w)| w.sidecars > 0) {
                let (before, after) = (HumanBytes(written.before), HumanBytes(written.after));
                let _ =
                    writeln!(out, "{:4} {} written, {before} -> {after}", coding.token(), written.sidecars);
            }
        }
        CommandOutput { out, err, is_clean: self.wanted.is_empty() && self.failed.is_empty() }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// NAME_MAX of nearly every file system.
const NAME_BYTES_MAX: usize = 255;
const BUFFER: usize = 64 << 10;
