//! Reading bytes of a file into a buffer of our own.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::Storage;

/// Reads from byte `at` on until `buffer` is full or the file ends; returns the number of bytes. Blocks.
///
/// # Errors
/// Those of the disk.
pub(crate) fn read_full(
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

/// Passes the bytes of `range` to `consume`, at most `chunk` at a time, as far as the file has them; returns their number. Blocks.
///
/// # Errors
/// Those of the disk.
pub(crate) fn read_chunks(
    storage: &dyn Storage,
    file: BorrowedFd<'_>,
    range: Range<u64>,
    chunk: usize,
    mut consume: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let mut buffer = vec![0; chunk];
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).map_or(chunk, |left| left.min(chunk));
        let read = read_full(storage, file, &mut buffer[..wanted], at)?;
        consume(&buffer[..read]);
        at += read as u64;
        if read < wanted {
            break;
        }
    }
    Ok(at - range.start)
}
