//! The directory in which what was hot outlives a process.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::record::{HotFileRecords, parse, render};
use crate::files::Files;
use crate::files::cache::warming::HotFile;
use crate::sys::temp_file::{TempFile, clear_up, is_temporary};

/// An open directory that can be written to. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct StateDirectory {
    inner: Arc<Inner>,
}

struct Inner {
    directory: OwnedFd,
    path: PathBuf,
}

impl StateDirectory {
    /// Opens the directory, tries whether it can be written to, and clears away what was left there half written. It must not
    /// lie in `root`, from which files are served.
    ///
    /// # Errors
    /// Where it is no directory, or not ours to write to, or in the root: with its path, for the operator.
    pub(crate) fn open(path: &Path, root: &Path) -> io::Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = fs::open(path, flags, Mode::empty())?;
            TempFile::create(directory.as_fd())?;
            Ok(directory)
        };
        let directory = open().map_err(|error| {
            let words = format!("the state directory {} can't be written to: {error}", path.display());
            io::Error::new(error.kind(), words)
        })?;
        if is_inside(path, root) {
            return Err(io::Error::other(format!(
                "the state directory {} lies in the root {}, from which it would be served",
                path.display(),
                root.display()
            )));
        }
        let inner = Inner { directory, path: path.to_owned() };
        inner.clear_up();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The hot files that were written last, at most `most` of them; none where none were. What is wrong with them is logged
    /// and is no error: they are only a hint.
    pub(crate) async fn read(&self, most: usize) -> Vec<HotFile> {
        let inner = Arc::clone(&self.inner);
        aside(move || inner.read(most)).await.unwrap_or_default()
    }

    /// Writes what is hot in `files` now, at most `most` of it, whole or not at all. What goes wrong is logged.
    pub(crate) async fn write(&self, files: &Files, most: usize) {
        let (inner, files) = (Arc::clone(&self.inner), files.clone());
        let written = aside(move || {
            let hot = files.hot(most);
            inner.write(&hot).map(|()| hot.len())
        });
        match written.await {
            Some(Ok(count)) => log::info!("{count} hot files are remembered in {}", self.inner.file()),
            Some(Err(error)) => {
                log::warn!("what is hot could not be written to {}: {error}", self.inner.file())
            }
            // A panic has been logged by its hook.
            None => {}
        }
    }
}

impl Inner {
    fn read(&self, most: usize) -> Vec<HotFile> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = fs::openat(&self.directory, FILE, flags, Mode::empty());
        let records = match opened {
            Err(Errno::NOENT) => return Vec::new(),
            Err(error) => Err(error.into()),
            Ok(file) => parse(BufReader::new(File::from(file)), most),
        };
        match records {
            Err(error) => {
                log::warn!("{} can't be read: {error}", self.file());
                Vec::new()
            }
            Ok(HotFileRecords { hot, garbage, is_foreign }) => {
                if is_foreign {
                    log::warn!("{} is no file of this version, and is passed over", self.file());
                } else if garbage > 0 {
                    log::warn!("{} lines of {} make no sense, and are passed over", garbage, self.file());
                }
                hot
            }
        }
    }

    fn write(&self, hot: &[HotFile]) -> io::Result<()> {
        let mut temporary = TempFile::create(self.directory.as_fd())?;
        temporary.write_all(render(hot).as_bytes())?;
        temporary.keep(FILE.as_bytes())
    }

    /// What nobody can clear away does no harm.
    fn clear_up(&self) {
        let Ok(entries) = fs::Dir::read_from(&self.directory) else { return };
        for entry in entries.flatten().filter(|entry| is_temporary(entry.file_name().to_bytes())) {
            let _ = clear_up(self.directory.as_fd(), entry.file_name().to_bytes());
        }
    }

    fn file(&self) -> String {
        self.path.join(FILE).display().to_string()
    }
}

/// What can't be found out has its error elsewhere.
fn is_inside(path: &Path, root: &Path) -> bool {
    let inside = path.canonicalize().and_then(|path| Ok(path.starts_with(root.canonicalize()?)));
    inside.unwrap_or(false)
}

/// Does `job` on a thread of its own: it may wait for a disk, and a stop does not wait for it to the end. None where there is no
/// thread to be had, or the job panicked.
pub(crate) async fn aside<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, hear) = oneshot::channel();
    let thread = std::thread::Builder::new().name("pagecast-state".to_owned());
    thread.spawn(move || tell.send(job()).is_ok()).ok()?;
    hear.await.ok()
}

const FILE: &str = "hot-files";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::recency::FileParts;
    use crate::http::target::SitePath;

    fn hot(path: &str) -> HotFile {
        let path = SitePath::parse(path.as_bytes()).unwrap().path.into_owned();
        HotFile { path, coding: None, length: 1, parts: FileParts(1) }
    }

    #[test]
    fn what_is_written_replaces_what_was_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        assert_eq!(state.inner.read(9), []);
        for written in [vec![hot("/a"), hot("/b")], vec![hot("/c")]] {
            state.inner.write(&written).unwrap();
            assert_eq!(state.inner.read(9), written);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_left_half_written_is_cleared_away_and_the_old_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        state.inner.write(&[hot("/a")]).unwrap();
        std::fs::write(dir.path().join(".pagecast-temporary.1-1"), "pagecast hot fi").unwrap();
        let again = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        assert_eq!(again.inner.read(9), [hot("/a")]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn garbage_links_and_fifos_are_no_hot_files_and_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, [0xff; 100_000]).unwrap();
        assert_eq!(state.inner.read(9), []);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert_eq!(state.inner.read(9), []);
        std::fs::remove_file(&file).unwrap();
        fs::mknodat(fs::CWD, &file, fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(state.inner.read(9), []);
        state.inner.write(&[hot("/a")]).unwrap();
        assert_eq!(state.inner.read(9), [hot("/a")]);
    }

    #[test]
    fn what_is_no_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error =
            StateDirectory::open(&missing, Path::new("/nowhere")).err().expect("it is not there").to_string();
        assert!(error.contains("missing") && error.contains("the state directory"), "{error}");
    }
}
