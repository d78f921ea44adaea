//! System calls that no library offers safely: mapped files and `writev` from them, the send queue of a socket, and socket
//! options. All `unsafe` code of the crate is here.
//!
//! Invariant for mappings: no slice of one is formed, and user space reads no byte of it. Only the kernel reads it, in system
//! calls. The file may change or shrink at any time: a read in user space would then raise SIGBUS, while the system call fails
//! with EFAULT and one connection ends.

#![allow(unsafe_code, reason = "the fence around memory that another process may truncate")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// A read-only mapping of the first bytes of a file, unmapped when dropped. Only the kernel reads its bytes.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    /// Maps the first `length` bytes of `file`; `length` must not be 0.
    ///
    /// # Errors
    /// ENOMEM if `vm.max_map_count` or the address space is exhausted, ENODEV for a file that cannot be mapped.
    pub(crate) fn of(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(length).map_raw_read_only(file.as_raw_fd())?;
        Ok(Self { map })
    }

    /// Length in bytes, never 0.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Its start address, which identifies it among live mappings. Not to be read.
    pub fn address(&self) -> usize {
        self.map.as_ptr().addr()
    }

    /// Index of the page with byte `at` in the page map of this process.
    pub(crate) fn page_number(&self, at: usize) -> usize {
        (self.map.as_ptr().addr() + at) / PAGE
    }

    /// Reads the pages of `range` from the disk and maps them. Blocks.
    ///
    /// # Errors
    /// EFAULT if the file was truncated, EHWPOISON or EFAULT for I/O errors, EINVAL before Linux 5.14.
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        self.map.advise_range(Advice::PopulateRead, range.start, range.len())
    }
}

/// A run of bytes to write, from memory or a mapped file.
#[derive(Clone, Debug)]
pub(crate) enum IoRun<'a> {
    Bytes(&'a [u8]),
    Mapped(&'a Mapping, Range<usize>),
}

/// Writes at most [`RUNS_MAX`] of `runs` in order with one `writev`. Returns the number of bytes that the socket accepted.
///
/// # Errors
/// EAGAIN if the socket is full, EFAULT if nothing was written and a mapped page is past the end of its file.
pub(crate) fn writev<'a>(socket: impl AsFd, runs: impl Iterator<Item = IoRun<'a>>) -> io::Result<usize> {
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; RUNS_MAX];
    let mut count = 0;
    for (vector, run) in vectors.iter_mut().zip(runs) {
        *vector = match run {
            IoRun::Bytes(bytes) => {
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            }
            IoRun::Mapped(mapping, range) => {
                let is_inside = range.start <= range.end && range.end <= mapping.len();
                assert!(is_inside, "a run ends inside its mapping");
                libc::iovec {
                    // `wrapping_add`: the pointer is not dereferenced here, so it need not be in bounds of an object.
                    iov_base: mapping.map.as_ptr().wrapping_add(range.start).cast_mut().cast(),
                    iov_len: range.len(),
                }
            }
        };
        count += 1;
    }
    // SAFETY: `vectors` holds `count` entries that each lie inside a borrowed slice or a live mapping, both of which
    // outlive the call. The kernel only reads through them and answers EFAULT where a page is gone.
    let written = unsafe { libc::writev(socket.as_fd().as_raw_fd(), vectors.as_ptr(), count as libc::c_int) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Bytes in the send queue of a socket that are not sent or not acknowledged (`SIOCOUTQ`).
///
/// # Errors
/// ENOTTY or similar if it is not a stream socket.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    queued(socket, libc::TIOCOUTQ)
}

/// Bytes in the send queue of a TCP socket that are not sent (`SIOCOUTNSD`).
///
/// # Errors
/// ENOTTY or similar if it is not a TCP connection.
pub(crate) fn unsent(socket: impl AsFd) -> io::Result<usize> {
    queued(socket, SIOCOUTNSD)
}

/// The number of bytes that `request`, one of the two above, returns.
fn queued(socket: impl AsFd, request: libc::Ioctl) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int to the address given, and `bytes` is one that outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut bytes) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

/// Makes the kernel send at most `rate` bytes per second, evenly (`SO_MAX_PACING_RATE`). `None`: no limit.
///
/// # Errors
/// ENOPROTOOPT if the kernel does not support it.
pub(crate) fn set_pacing_rate(socket: impl AsFd, rate: Option<u64>) -> io::Result<()> {
    let set = |value: &[u8]| set_option(&socket, libc::SOL_SOCKET, SO_MAX_PACING_RATE, value);
    // Kernels before 4.20 support only 32 bits, where all ones mean no limit.
    match rate.map_or(Ok(u32::MAX), u32::try_from) {
        Ok(short) => set(&short.to_ne_bytes()),
        Err(_) => set(&rate.unwrap_or(u64::MAX).to_ne_bytes()),
    }
}

/// Makes the kernel hold back new connections of a listening TCP socket until their first bytes arrive or `seconds` have
/// passed (`TCP_DEFER_ACCEPT`).
///
/// # Errors
/// It is not a TCP socket.
pub(crate) fn defer_accept(listener: impl AsFd, seconds: u16) -> io::Result<()> {
    let seconds = libc::c_int::from(seconds).to_ne_bytes();
    set_option(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &seconds)
}

fn set_option(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let (fd, length) = (socket.as_fd().as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes of `value`, at any alignment, and keeps no pointer to them.
    let answer = unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), length) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// From `asm/socket.h`; only sparc has another number.
const SO_MAX_PACING_RATE: libc::c_int = if cfg!(target_arch = "sparc64") { 0x31 } else { 47 };

/// The request for [`unsent`], from `linux/sockios.h`.
const SIOCOUTNSD: libc::Ioctl = 0x894B;

/// The smallest unit of `/proc/self/pagemap`. With larger pages the map is not used.
pub(crate) const PAGE: usize = 4096;

/// Maximum number of runs in one `writev`: enough for a pipeline of small responses, and below IOV_MAX.
pub(crate) const RUNS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn temp(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn runs_of_both_kinds_leave_in_order() {
        let mapping = Mapping::of(temp(b"0123456789").as_fd(), 10).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let sent = writev(
            &near,
            [IoRun::Bytes(b"ab"), IoRun::Mapped(&mapping, 3..6), IoRun::Bytes(b"c")].into_iter(),
        )
        .unwrap();
        assert_eq!(sent, 6);
        let mut got = [0; 6];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ab345c");
    }

    #[test]
    fn a_file_truncated_under_its_mapping_is_an_error_and_not_a_signal() {
        let file = temp(&[7; 8192]);
        let mapping = Mapping::of(file.as_fd(), 8192).unwrap();
        file.set_len(0).unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let error = writev(&near, [IoRun::Mapped(&mapping, 0..8192)].into_iter()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        assert_eq!(mapping.populate(0..8192).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn unacknowledged_bytes_are_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        while (&near).write(&[0; 65536]).is_ok() {}
        let before = unacknowledged(&near).unwrap();
        assert!(before > 0);
        let mut sink = vec![0; 4 << 20];
        far.read_exact(&mut sink[..1 << 18]).unwrap();
        far.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        while far.read(&mut sink).is_ok_and(|read| read > 0) {}
        assert!(unacknowledged(&near).unwrap() < before);
    }

    #[test]
    fn the_kernel_paces_tcp_and_counts_unsent_bytes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for rate in [Some(1 << 16), Some(1 << 40), None] {
            set_pacing_rate(&near, rate).unwrap();
        }
        assert_eq!(unsent(&near).unwrap(), 0);
        let (unix, _other) = UnixStream::pair().unwrap();
        assert!(unsent(&unix).is_err());
    }

    #[test]
    #[should_panic(expected = "a run ends inside its mapping")]
    fn a_run_past_the_end_of_its_mapping_is_refused() {
        let mapping = Mapping::of(temp(b"0123456789").as_fd(), 10).unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let _ = writev(&near, [IoRun::Mapped(&mapping, 3..11)].into_iter());
    }
}
