//! One accepted socket, TCP or unix.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::event_loop::register;

/// A non-blocking stream socket. It is registered with the event loop only when it first has to wait: a connection
/// whose request is there and whose response fits never is, which spares two `epoll_ctl`.
pub struct Socket {
    state: State,
    /// Before it is registered: the last read was short, so the next would only answer EAGAIN.
    is_drained: bool,
    /// Who is at the other end; none for a unix socket.
    pub(crate) peer: Option<SocketAddr>,
}

enum State {
    Plain(OwnedFd),
    Registered(AsyncFd<OwnedFd>),
    Gone,
}

impl Socket {
    /// Takes an accepted socket, which must be non-blocking.
    pub fn new(fd: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self { state: State::Plain(fd), is_drained: false, peer }
    }

    /// Reads what is there into `buffer`; 0 is the end. Waits where nothing is.
    ///
    /// A short read left nothing behind, so the next one waits for the loop's word instead of asking for an EAGAIN.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let State::Registered(registered) = &self.state else {
                match if self.is_drained { Err(Errno::AGAIN) } else { receive(self.fd()?, buffer) } {
                    Err(Errno::AGAIN) => self.register()?,
                    Err(Errno::INTR) => {}
                    Err(error) => return Poll::Ready(Err(error.into())),
                    Ok(read) => {
                        self.is_drained = read < buffer.len();
                        return Poll::Ready(Ok(read));
                    }
                }
                continue;
            };
            let mut guard = ready!(registered.poll_read_ready(cx))?;
            match receive(registered.get_ref().as_fd(), buffer) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(read) => {
                    if read < buffer.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }

    /// Reads what is there, whether or not the event loop has told of it: a last look before the end.
    pub(crate) fn look(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match receive(self.fd()?, buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            read => Poll::Ready(read.map_err(io::Error::from)),
        }
    }

    /// Writes by `call`, which is handed the socket; waits where the socket is full.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let State::Registered(registered) = &self.state else {
                match call(self.fd()?) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.register()?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => return Poll::Ready(done),
                }
                continue;
            };
            let mut guard = ready!(registered.poll_write_ready(cx))?;
            match call(registered.get_ref().as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Bytes that the other end has not taken, as far as the system can tell.
    pub(crate) fn untaken(&self) -> Option<usize> {
        crate::kernel::untaken(self.fd().ok()?).ok()
    }

    /// Tells the other end that nothing more will come.
    pub(crate) fn shutdown(&self) {
        if let Ok(fd) = self.fd() {
            // The peer may have gone already.
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        }
    }

    /// Whether a close from now on is a reset, which throws away what has not left yet: the other end then can't take what
    /// it got for all there is. A unix socket knows no resets.
    pub(crate) fn reset_on_close(&self, resets: bool) {
        if let Ok(fd) = self.fd() {
            // The peer may have gone already.
            let _ = rustix::net::sockopt::set_socket_linger(fd, resets.then_some(Duration::ZERO));
        }
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.state {
            State::Plain(fd) => Ok(fd.as_fd()),
            State::Registered(registered) => Ok(registered.get_ref().as_fd()),
            State::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn register(&mut self) -> io::Result<()> {
        if let State::Plain(fd) = std::mem::replace(&mut self.state, State::Gone) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.state = State::Registered(register(fd, interest)?);
        }
        Ok(())
    }
}

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::net::recv(fd, buffer, RecvFlags::empty()).map(|(read, _)| read)
}
