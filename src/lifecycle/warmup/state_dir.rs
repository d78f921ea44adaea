//! The state directory: keeps the list of recently used files from one process to the next.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::record::{HotFileRecords, parse, render};
use crate::config::{FileReader, SystemFileReader};
use crate::files::warming::HotFile;
use crate::sys::temp_file::{TempFile, is_temporary, remove_leftover};

/// An open directory that can be written to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct StateDirectory {
    directory: Arc<OwnedFd>,
    /// Path of the list, for the log.
    file: PathBuf,
}

impl StateDirectory {
    /// Opens the directory, checks that it can be written to, and removes temporary files that a killed process left there. It
    /// must not lie in `root`, from which files are served.
    ///
    /// # Errors
    /// If it is no directory, can't be written to, or lies in the root. The error names its path.
    pub(crate) fn open(path: &Path, root: &Path) -> io::Result<Self> {
        let open = || -> io::Result<OwnedFd> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = fs::open(path, flags, Mode::empty())?;
            TempFile::create(directory.as_fd())?;
            Ok(directory)
        };
        let directory = open().map_err(|error| {
            let message = format!("the state directory {} can't be written to: {error}", path.display());
            io::Error::new(error.kind(), message)
        })?;
        if SystemFileReader.is_within(path, root) {
            return Err(io::Error::other(format!(
                "the state directory {} lies in the root {}, from which it would be served",
                path.display(),
                root.display()
            )));
        }
        let opened = Self { directory: Arc::new(directory), file: path.join(FILE) };
        opened.remove_temporary_files();
        Ok(opened)
    }

    /// Reads the list that was saved last, at most `max` files; empty if there is none. Errors are logged: the list is only a
    /// hint. Blocks.
    pub(crate) fn read(&self, max: usize) -> Vec<HotFile> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let records = match fs::openat(&*self.directory, FILE, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Vec::new(),
            Err(error) => Err(error.into()),
            Ok(file) => parse(BufReader::new(File::from(file)), max),
        };
        let file = self.file.display();
        let HotFileRecords { hot, malformed, is_foreign } = records.unwrap_or_else(|error| {
            log::warn!("{file} can't be read: {error}");
            HotFileRecords::default()
        });
        if is_foreign {
            log::warn!("{file} has an unknown format and is ignored");
        } else if malformed > 0 {
            log::warn!("{malformed} malformed lines of {file} are ignored");
        }
        hot
    }

    /// Saves a list of recently used files, which replaces the old one in one step. Logs the result. Blocks.
    pub(crate) fn save(&self, hot: &[HotFile]) {
        let (count, file) = (hot.len(), self.file.display());
        match self.write(hot) {
            Ok(()) => log::info!("the list of {count} recently used files was saved in {file}"),
            Err(error) => log::warn!("the list of recently used files can't be written to {file}: {error}"),
        }
    }

    fn write(&self, hot: &[HotFile]) -> io::Result<()> {
        let mut temporary = TempFile::create(self.directory.as_fd())?;
        temporary.file.write_all(render(hot).as_bytes())?;
        temporary.persist(FILE.as_bytes())
    }

    /// Removes temporary files. One that can't be removed does no harm.
    fn remove_temporary_files(&self) {
        let Ok(entries) = fs::Dir::read_from(&*self.directory) else { return };
        for entry in entries.flatten().filter(|entry| is_temporary(entry.file_name().to_bytes())) {
            let _ = remove_leftover(self.directory.as_fd(), entry.file_name().to_bytes());
        }
    }
}

const FILE: &str = "hot-files";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::recency::FileParts;
    use crate::http::target::SitePath;

    fn hot(path: &str) -> HotFile {
        let path = SitePath::parse(path.as_bytes()).unwrap().path.into_owned();
        HotFile { path, encoding: None, length: 1, parts: FileParts(1) }
    }

    #[test]
    fn a_new_list_replaces_the_old_one_and_leaves_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        assert_eq!(state.read(9), []);
        for written in [vec![hot("/a"), hot("/b")], vec![hot("/c")]] {
            state.write(&written).unwrap();
            assert_eq!(state.read(9), written);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_file_left_behind_is_removed_and_the_list_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        state.write(&[hot("/a")]).unwrap();
        std::fs::write(dir.path().join(".pagecast-temporary.1-1"), "pagecast hot fi").unwrap();
        let again = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        assert_eq!(again.read(9), [hot("/a")]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn garbage_symlinks_and_fifos_are_no_list_and_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(dir.path(), Path::new("/nowhere")).unwrap();
        let file = dir.path().join(FILE);
        std::fs::write(&file, [0xff; 100_000]).unwrap();
        assert_eq!(state.read(9), []);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert_eq!(state.read(9), []);
        std::fs::remove_file(&file).unwrap();
        fs::mknodat(fs::CWD, &file, fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(state.read(9), []);
        state.write(&[hot("/a")]).unwrap();
        assert_eq!(state.read(9), [hot("/a")]);
    }

    #[test]
    fn a_path_that_is_no_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error =
            StateDirectory::open(&missing, Path::new("/nowhere")).err().expect("it is not there").to_string();
        assert!(error.contains("missing") && error.contains("the state directory"), "{error}");
    }
}
