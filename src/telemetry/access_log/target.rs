//! Targets of the access log. Lines are written whole, many per call, so that two processes may append to one file.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use crate::config::{FileReader, LogTarget, SystemFileReader};

/// An open target of the log.
#[derive(Debug)]
pub(crate) enum OpenTarget {
    Off,
    Stderr,
    File(LogFile),
}

/// An open file to which lines are appended.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// Most bytes that one call writes without being split. `None`: no limit.
    piece: Option<usize>,
    /// The last write ended inside a line.
    is_torn: bool,
}

/// Result of a write.
#[derive(Debug, Default)]
pub(crate) struct WriteResult {
    /// Lines written completely.
    pub(super) lines: u64,
    /// Lines not written, and the error.
    pub(super) failed: Option<(u64, io::Error)>,
}

impl OpenTarget {
    /// Opens `target`. A missing file is created with mode 0640. Does not wait for a reader of a named pipe.
    ///
    /// # Errors
    /// If the file can't be opened, or is inside `root`, from which it would be served. The error names the path.
    pub(crate) fn open(target: &LogTarget, root: &Path) -> io::Result<Self> {
        match target {
            LogTarget::Off => Ok(Self::Off),
            LogTarget::Stderr => Ok(Self::Stderr),
            LogTarget::File(path) => {
                if is_inside(path, root) {
                    return Err(io::Error::other(format!(
                        "the access log {} is inside the document root {} and would be served",
                        path.display(),
                        root.display()
                    )));
                }
                let file = LogFile::open(path).map_err(|error| {
                    let words = format!("can't open the access log {}: {error}", path.display());
                    io::Error::new(error.kind(), words)
                })?;
                Ok(Self::File(file))
            }
        }
    }

    /// Reopens the file by its path and returns the path. `None` if the target is no file. On failure the old file stays open.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn reopen(&mut self) -> io::Result<Option<&Path>> {
        let Self::File(file) = self else { return Ok(None) };
        *file = LogFile::open(&file.path).map_err(|error| {
            io::Error::new(error.kind(), format!("can't reopen {}: {error}", file.path.display()))
        })?;
        Ok(Some(&file.path))
    }

    /// Writes `lines`, each ending in a newline. Waits for a slow reader as long as `may_wait` returns true.
    pub(super) fn write(&mut self, lines: &[u8], may_wait: impl Fn() -> bool) -> WriteResult {
        match self {
            Self::Off => WriteResult::default(),
            Self::Stderr => write_pieces(lines, Some(PIPE_PIECE), |piece| {
                let stderr = io::stderr();
                // Before the lock: other threads that log to stderr must not wait for a blocked lock.
                wait_until_writable(stderr.as_fd(), &may_wait)?;
                stderr.lock().write(piece)
            }),
            Self::File(file) => file.write(lines, &may_wait),
        }
    }
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let is_pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        let access = match is_pipe {
            // A pipe that is also open for reading here needs no reader to be opened, and survives its readers.
            true => OFlags::RDWR,
            false => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
        };
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(fs::open(path, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP)?);
        let piece = (!file.metadata()?.is_file()).then_some(PIPE_PIECE);
        Ok(Self { path: path.to_owned(), file, piece, is_torn: false })
    }

    fn write(&mut self, lines: &[u8], may_wait: &impl Fn() -> bool) -> WriteResult {
        if self.is_torn
            && let Some((_, error)) = self.append(b"\n", may_wait).failed
        {
            return WriteResult { lines: 0, failed: Some((count(lines), error)) };
        }
        self.append(lines, may_wait)
    }

    fn append(&mut self, lines: &[u8], may_wait: &impl Fn() -> bool) -> WriteResult {
        let Self { file, piece, is_torn, .. } = self;
        write_pieces(lines, *piece, |piece| match file.write(piece) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_until_writable(file.as_fd(), may_wait)?;
                Err(ErrorKind::Interrupted.into())
            }
            written => {
                let written = written?;
                let last = piece.get(..written).and_then(<[u8]>::last);
                *is_torn = last.map_or(*is_torn, |last| *last != b'\n');
                Ok(written)
            }
        })
    }
}

/// Writes `lines` through `call` in pieces: whole lines of at most `most` bytes together, or one longer line. `call` may accept
/// a part of a piece.
fn write_pieces(
    lines: &[u8],
    most: Option<usize>,
    mut call: impl FnMut(&[u8]) -> io::Result<usize>,
) -> WriteResult {
    let mut rest = lines;
    let mut piece_left = 0;
    while !rest.is_empty() {
        if piece_left == 0 {
            piece_left = piece(rest, most);
        }
        let error = match call(rest.get(..piece_left).unwrap_or(rest)) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(taken) => {
                rest = rest.get(taken..).unwrap_or_default();
                piece_left = piece_left.saturating_sub(taken);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let failed = count(rest);
        return WriteResult { lines: count(lines) - failed, failed: Some((failed, error)) };
    }
    WriteResult { lines: count(lines), failed: None }
}

/// Length of the next piece.
fn piece(lines: &[u8], most: Option<usize>) -> usize {
    let Some(most) = most.filter(|most| lines.len() > *most) else { return lines.len() };
    let end_before = lines.get(..most).and_then(|front| memchr::memrchr(b'\n', front));
    let end = end_before.or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines.len(), |end| end + 1)
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

fn wait_until_writable(fd: BorrowedFd<'_>, may_wait: &impl Fn() -> bool) -> io::Result<()> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()) };
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) if may_wait() => {}
            Ok(0) | Err(Errno::INTR) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// True if the directory of `path`, or the file itself if it exists, is inside `root`.
fn is_inside(path: &Path, root: &Path) -> bool {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    };
    [path, directory].iter().any(|path| SystemFileReader.is_within(path, root))
}

/// Bytes that a pipe accepts atomically (`PIPE_BUF`), and always has space for when it is writable.
const PIPE_PIECE: usize = 4096;

/// How often `may_wait` is checked while the reader is slow.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_are_written_whole_in_pieces_that_a_pipe_accepts_atomically() {
        let long = format!("{}\n", "x".repeat(10));
        for (lines, most, expected) in [
            ("a\nb\n", None, vec!["a\nb\n"]),
            ("a\nb\nc\n", Some(4), vec!["a\nb\n", "c\n"]),
            ("a\nb\nc\n", Some(5), vec!["a\nb\n", "c\n"]),
            ("a\nb\n", Some(4), vec!["a\nb\n"]),
            (&format!("{long}b\n"), Some(4), vec![&long, "b\n"]),
            ("", Some(4), vec![]),
        ] {
            let mut pieces = Vec::new();
            let written = write_pieces(lines.as_bytes(), most, |piece| {
                pieces.push(String::from_utf8(piece.to_vec()).unwrap());
                Ok(piece.len())
            });
            assert_eq!(pieces, expected, "{lines:?} {most:?}");
            assert_eq!(written.lines, count(lines.as_bytes()));
        }
    }

    #[test]
    fn partial_writes_are_continued_and_failures_are_counted_in_lines() {
        let mut free = 5;
        let written = write_pieces(b"aa\nbb\ncc\n", None, |piece| {
            let taken = piece.len().min(free).min(2);
            free -= taken;
            if taken == 0 { Err(Errno::NOSPC.into()) } else { Ok(taken) }
        });
        assert_eq!(written.lines, 1);
        let (failed, error) = written.failed.unwrap();
        assert_eq!((failed, error.raw_os_error()), (2, Some(libc::ENOSPC)));
    }

    #[test]
    fn a_file_is_created_for_owner_and_group_and_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let root = tempfile::tempdir().unwrap();
        for (line, expected) in [("one\n", "one\n"), ("two\n", "one\ntwo\n")] {
            let mut target = OpenTarget::open(&LogTarget::File(path.clone()), root.path()).unwrap();
            assert_eq!(target.write(line.as_bytes(), || false).lines, 1);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[test]
    fn a_target_that_cannot_be_opened_or_would_be_served_is_rejected_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let inside = root.path().join("access.log");
        for (path, words) in [
            (inside.as_path(), "is inside the document root"),
            (Path::new("/nonexistent-directory/a.log"), "No such file or directory"),
            (Path::new("/proc/self"), "directory"),
        ] {
            let error =
                OpenTarget::open(&LogTarget::File(path.to_owned()), root.path()).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(&path.display().to_string()), "{error}");
        }
        assert!(!inside.exists());
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let mut file = LogFile::open(&path).unwrap();
        file.is_torn = true;
        let written = file.write(b"two\n", &|| false);
        assert_eq!((written.lines, file.is_torn), (1, false));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\ntwo\n");
    }

    #[test]
    fn a_full_disk_fails_the_lines() {
        let mut file = LogFile::open(Path::new("/dev/full")).unwrap();
        let written = file.write(b"one\ntwo\n", &|| false);
        assert_eq!(written.lines, 0);
        assert_eq!(
            written.failed.map(|(failed, error)| (failed, error.raw_os_error())),
            Some((2, Some(libc::ENOSPC)))
        );
    }
}
