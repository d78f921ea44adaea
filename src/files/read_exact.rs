//! Reading bytes of a file into a buffer of our own.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::Storage;

impl dyn Storage + '_ {
    /// Reads from byte `at` on until `buffer` is full or the file ends; returns the number of bytes. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn read_full(&self, file: BorrowedFd<'_>, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.pread(file, &mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    /// The first `length` bytes of a file. Blocks.
    ///
    /// # Errors
    /// Those of the disk; `UnexpectedEof` if the file is shorter.
    pub(crate) fn read_whole(&self, file: BorrowedFd<'_>, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        if self.read_full(file, &mut bytes, 0)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Passes the bytes of `range` to `consume`, at most `chunk` at a time, as far as the file has them; returns their number. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn read_chunks(
        &self,
        file: BorrowedFd<'_>,
        range: Range<u64>,
        chunk: usize,
        mut consume: impl FnMut(&[u8]),
    ) -> io::Result<u64> {
        let mut buffer = vec![0; chunk];
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).map_or(chunk, |left| left.min(chunk));
            let read = self.read_full(file, &mut buffer[..wanted], at)?;
            consume(&buffer[..read]);
            at += read as u64;
            if read < wanted {
                break;
            }
        }
        Ok(at - range.start)
    }
}
