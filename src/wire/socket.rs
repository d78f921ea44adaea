//! One accepted socket, TCP or unix.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::event_loop::register;

/// A non-blocking stream socket. It is registered with the event loop only when it first has to wait: a connection
/// whose request is there and whose response fits never is, which spares two `epoll_ctl`.
pub struct Socket {
    state: State,
    /// Before it is registered: the last read was short, so the next would only answer EAGAIN.
    is_drained: bool,
    /// Bytes a second that the kernel keeps to; none is no limit.
    kernel_rate: Option<u64>,
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
        Self { state: State::Plain(fd), is_drained: false, kernel_rate: None, peer }
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

    /// Sends some of `slices`; waits where the socket is full.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, |fd| {
            Ok(rustix::net::sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
        })
    }

    /// Ready once the connection is broken. Reads nothing, so it does not see past what the other end has sent and nobody has
    /// read; an end of what it sends is no break, since it may still be reading.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let State::Registered(registered) = &self.state else {
                if self.register().is_err() || matches!(self.state, State::Gone) {
                    return Poll::Ready(());
                }
                continue;
            };
            let Ok(mut guard) = ready!(registered.poll_read_ready(cx)) else { return Poll::Ready(()) };
            match rustix::net::recv(registered.get_ref(), &mut [0; 1], RecvFlags::PEEK) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => return Poll::Ready(()),
                Ok(_) => return Poll::Pending,
            }
        }
    }

    /// Bytes that the other end has not taken, as far as the system can tell.
    pub(crate) fn untaken(&self) -> Option<usize> {
        crate::kernel::untaken(self.fd().ok()?).ok()
    }

    /// The other end, for the log.
    pub(crate) fn who(&self) -> String {
        self.peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string())
    }

    /// Whether bytes have arrived that were not read, whatever the event loop knows of them.
    pub(crate) fn has_arrived(&self) -> bool {
        let peek = |fd| rustix::net::recv(fd, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.fd().is_ok_and(|fd| peek(fd).is_ok_and(|(there, _)| there > 0))
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

    /// Has the kernel pace what is sent from now on at `rate` bytes a second, or not at all. False where it can't do that
    /// evenly: then somebody else has to.
    ///
    /// What still waits in the socket was sent at the rate before. A rate that is higher waits until it has left, so that
    /// a client can't hurry a response by asking for another one behind it.
    pub(crate) fn pace(&mut self, rate: Option<u64>) -> bool {
        let by_kernel = rate.filter(|rate| self.is_paced_evenly_at(*rate));
        if by_kernel != self.kernel_rate {
            self.set_kernel_rate(by_kernel);
        }
        rate.is_none() || (by_kernel.is_some() && self.kernel_rate.is_some())
    }

    /// Whether the kernel still paces at another rate than `rate`, one that could not be raised at once.
    pub(crate) fn lags_behind(&self, rate: Option<u64>) -> bool {
        self.kernel_rate.is_some() && self.kernel_rate != rate
    }

    /// The kernel sends the first ten segments of a connection at once, and later several as one. Where segments are long, as
    /// on loopback, or the rate is low, that is no pace. Where the rate is high its timers come too late to keep it.
    fn is_paced_evenly_at(&self, rate: u64) -> bool {
        if rate > KERNEL_RATE_MAX {
            return false;
        }
        let is_tcp = self.peer.is_some();
        let segment = self.fd().ok().filter(|_| is_tcp).and_then(|fd| SockRef::from(&fd).tcp_mss().ok());
        segment.is_some_and(|segment| u64::from(segment) * UNPACED_SEGMENTS <= rate / UNEVEN_PART_OF_SECOND)
    }

    fn set_kernel_rate(&mut self, rate: Option<u64>) {
        let Ok(fd) = self.fd() else { return };
        let is_slower = match (rate, self.kernel_rate) {
            (Some(new), Some(old)) => new < old,
            (new, _) => new.is_some(),
        };
        let may_set = is_slower || crate::kernel::unsent(fd).is_ok_and(|unsent| unsent == 0);
        if may_set && crate::kernel::set_pacing_rate(fd, rate).is_ok() {
            // Little is kept in a socket that is slow to send it: memory, and bytes of a file that may change. 0 is the usual.
            let room = rate.map_or(0, |rate| (rate / KEPT_PART_OF_SECOND).max(KEPT_MIN));
            let _ = SockRef::from(&fd).set_tcp_notsent_lowat(u32::try_from(room).unwrap_or(0));
            self.kernel_rate = rate;
        }
    }

    pub(super) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
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

/// On a busy machine the kernel was a fifth too slow at 100 MiB a second, and within one percent at this rate.
const KERNEL_RATE_MAX: u64 = 16 << 20;

/// Segments that the kernel sends before it begins to pace.
const UNPACED_SEGMENTS: u64 = 10;

/// These may be what the rate sends in this part of a second.
const UNEVEN_PART_OF_SECOND: u64 = 4;

/// What a paced socket may hold unsent, as a part of a second of its rate.
const KEPT_PART_OF_SECOND: u64 = 2;

/// It may hold so many bytes in any case.
const KEPT_MIN: u64 = 64 * 1024;

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::net::recv(fd, buffer, RecvFlags::empty()).map(|(read, _)| read)
}
