//! Descriptors on the worker's event loop.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd`, which must be non-blocking, with the event loop of this thread.
///
/// # Errors
/// Where epoll has no room for it.
#[allow(
    deprecated,
    reason = "deprecated for types that may lie about their descriptor; those given here can't, and what replaces this is unsafe"
)]
pub(crate) fn register<T: AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}
