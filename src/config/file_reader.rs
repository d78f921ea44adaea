//! File access of the loader.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::regular_file::{open_regular, read_at_most};

/// File access of the loader: the disk of the machine, unless a test replaces it.
pub trait FileReader {
    /// The bytes of a file. An error if it is larger than 32 MiB.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_at_most(fs::File::open(path)?, BYTES_MAX)
    }

    /// The bytes of a regular file; never waits for a writer, as reading a fifo does.
    fn read_regular(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_private(path).map(|private| private.bytes)
    }

    /// The bytes of a credential file, and whether other users can read it. Never waits for a writer.
    fn read_private(&self, path: &Path) -> io::Result<SecretFile> {
        let irregular = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        let file = open_regular(path)?.ok_or_else(irregular)?;
        let is_exposed = file.metadata()?.mode() & OTHERS_READ != 0;
        Ok(SecretFile { bytes: read_at_most(file, BYTES_MAX)?, is_exposed })
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

/// Largest file of a configuration. The longest valid `_redirects` file is smaller.
const BYTES_MAX: u64 = 32 << 20;

/// The bit of a mode that lets everybody read.
const OTHERS_READ: u32 = 0o004;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_larger_than_the_bound_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.toml");
        let file = fs::File::create(&path).unwrap();
        for (length, is_read) in [(BYTES_MAX, true), (BYTES_MAX + 1, false), (BYTES_MAX << 10, false)] {
            file.set_len(length).unwrap();
            for outcome in [SystemFileReader.read(&path), SystemFileReader.read_regular(&path)] {
                match outcome {
                    Ok(bytes) => assert!(is_read && bytes.len() as u64 == length, "{length}"),
                    Err(error) => {
                        assert!(!is_read && error.to_string().contains("larger than 33554432"), "{error}")
                    }
                }
            }
        }
    }
}
