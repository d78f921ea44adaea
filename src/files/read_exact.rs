//! Reading a run of a file into memory of our own.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::storage::Storage;

/// Reads from byte `at` on until `buffer` is full or the file ends; returns how many bytes there were. Blocks.
///
/// # Errors
/// What the disk says.
pub(crate) fn fill(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    at: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match storage.pread(file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
