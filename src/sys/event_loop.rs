//! Registration of descriptors with the event loop of a worker.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd`, which must be non-blocking, with the event loop of this thread.
///
/// # Errors
/// epoll has no space for it.
#[allow(
    deprecated,
    reason = "deprecated for types that may lie about their descriptor; these cannot, and the replacement is unsafe"
)]
pub(crate) fn register<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}
