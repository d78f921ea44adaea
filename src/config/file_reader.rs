//! File access of the loader.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// File access of the loader: the disk of the machine, unless a test replaces it.
pub trait FileReader {
    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// The bytes of a regular file; never waits for a writer, as reading a fifo does.
    fn read_regular(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_private(path).map(|private| private.bytes)
    }

    /// The bytes of a credential file, and whether other users can read it. Never waits for a writer.
    fn read_private(&self, path: &Path) -> io::Result<SecretFile> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(SecretFile { bytes, is_exposed: metadata.mode() & OTHERS_READ != 0 })
    }

    /// True if a path is inside a directory after symbolic links are resolved.
    fn is_within(&self, path: &Path, directory: &Path) -> bool {
        let real = [path, directory].map(fs::canonicalize);
        matches!(&real, [Ok(path), Ok(directory)] if path.starts_with(directory))
    }

    /// True if the path is a directory after symbolic links are resolved.
    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        fs::metadata(path).map(|metadata| metadata.is_dir())
    }
}

/// Contents of a credential file.
#[derive(Clone)]
pub struct SecretFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// True if every user of the machine can read it.
    pub is_exposed: bool,
}

/// The disk of the machine, at start.
#[derive(Debug, Clone, Copy)]
pub struct SystemFileReader;

impl FileReader for SystemFileReader {}

/// The disk of the machine while the server runs: a fifo can be read only once, at start.
#[derive(Debug, Clone, Copy)]
pub struct RegularFiles;

impl FileReader for RegularFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_regular(path)
    }
}

/// The bit of a mode that lets everybody read.
const OTHERS_READ: u32 = 0o004;
