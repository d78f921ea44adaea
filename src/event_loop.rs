//! Descriptors on the worker's event loop.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd`, which must be non-blocking, with the event loop of this thread.
///
/// # Errors
/// Where epoll has no room for it.
#[allow(
    deprecated,
    reason = "deprecated for types that may lie about their descriptor; an OwnedFd can't, and what replaces this is unsafe"
)]
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
