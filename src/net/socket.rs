//! One accepted socket, TCP or unix.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::tls::session::{RECORD, Session};
use crate::sys::event_loop::register;
use crate::telemetry::access_log::record::TlsFacts;

/// A non-blocking stream socket, encrypted once it has a session. It is registered with the event loop only when it first
/// has to wait: a connection whose request is there and whose response fits never is, which spares two `epoll_ctl`.
pub struct Socket {
    raw: Raw,
    /// What encrypts it.
    session: Option<Box<Session>>,
    /// Bytes a second that the kernel keeps to; none is no limit.
    kernel_rate: Option<u64>,
    /// Who is at the other end; none for a unix socket.
    pub(crate) peer: Option<SocketAddr>,
}

/// The socket beneath whatever encrypts it.
struct Raw {
    state: State,
    /// Before it is registered: the last read was short, so the next would only answer EAGAIN.
    is_drained: bool,
}

enum State {
    Plain(OwnedFd),
    Registered(AsyncFd<OwnedFd>),
    Gone,
}

impl Socket {
    /// Takes an accepted socket, which must be non-blocking.
    pub fn new(fd: OwnedFd, peer: Option<SocketAddr>) -> Self {
        let raw = Raw { state: State::Plain(fd), is_drained: false };
        Self { raw, session: None, kernel_rate: None, peer }
    }

    /// From now on all that goes either way belongs to `session`.
    pub(super) fn encrypt_by(&mut self, session: Session) {
        self.session = Some(Box::new(session));
    }

    /// Whether nobody on the way can read it.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.session.is_some()
    }

    /// What was agreed upon with the client, as the log tells it; none in cleartext.
    pub(crate) fn tls_facts(&self) -> Option<Arc<TlsFacts>> {
        self.session.as_ref().map(|session| session.facts())
    }

    /// What encrypts it.
    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        self.session.as_deref_mut()
    }

    /// Reads what is there into `buffer`; 0 is the end. Waits where nothing is.
    ///
    /// A short read left nothing behind, so the next one waits for the loop's word instead of asking for an EAGAIN.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.session.is_none() { self.raw.poll_read(cx, buffer) } else { self.poll_decrypt(cx, buffer) }
    }

    /// Reads what is there, whether or not the event loop has told of it: a last look before the end.
    pub(crate) fn look(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.session.is_none() { self.raw.look(buffer) } else { self.look_decrypted(buffer) }
    }

    /// The same of ciphertext, whatever belongs to a session: for its handshake.
    pub(super) fn poll_read_raw(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.raw.poll_read(cx, buffer)
    }

    /// Writes by `call`, which is handed the socket; waits where the socket is full. What it writes is not encrypted.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.raw.poll_write(cx, call)
    }

    /// Sends `bytes`, encrypted where there is a session; says how many were taken. What was taken of a session's may
    /// wait here until [`poll_drain`](Self::poll_drain) has sent it. Waits where the socket is full.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.session.is_none() {
            return self.raw.poll_write(cx, |fd| Ok(rustix::io::writev(fd, bytes)?));
        }
        ready!(self.poll_drain(cx))?;
        let Some(session) = self.session.as_deref_mut() else { return Poll::Ready(Ok(0)) };
        let mut room = SEND_MAX;
        let fitting = |slice: &IoSlice<'_>| {
            let taken = slice.len().min(room);
            room -= taken;
            taken
        };
        let lengths: Vec<usize> = bytes.iter().map(fitting).collect();
        let slices: Vec<_> =
            bytes.iter().zip(&lengths).map(|(slice, length)| IoSlice::new(&slice[..*length])).collect();
        session.encrypt(&slices)?;
        // What it does not take now waits for the next call.
        let _ = self.poll_drain(cx)?;
        Poll::Ready(Ok(lengths.iter().sum()))
    }

    /// Sends what was encrypted and has not left. Waits where the socket is full.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.as_ref().is_some_and(|session| session.has_sendable()) {
            ready!(self.poll_drain_some(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The same by one call; says how many bytes left.
    pub(super) fn poll_drain_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { raw, session: Some(session), .. } = self else { return Poll::Ready(Ok(0)) };
        raw.poll_write(cx, |fd| session.send(fd))
    }

    fn poll_decrypt(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let Self { raw, session: Some(session), .. } = self else { return Poll::Ready(Ok(0)) };
            if let Some(read) = session.read(buffer) {
                return Poll::Ready(read);
            }
            // The caller's buffer holds the ciphertext until it is decrypted: there is no other.
            let room = buffer.len().min(READ_MAX);
            match raw.poll_read(cx, &mut buffer[..room]) {
                Poll::Ready(Ok(length @ 1..)) => {
                    let taken = session.take(&buffer[..length]);
                    if let Err(error) = taken {
                        // What there is to say about it.
                        let _ = self.poll_drain(cx);
                        return Poll::Ready(Err(error));
                    }
                }
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => {
                    // Tickets leave now if nothing has left with them.
                    let _ = self.poll_drain(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn look_decrypted(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let Self { raw, session: Some(session), .. } = self else { return Poll::Ready(Ok(0)) };
            if let Some(read) = session.read(buffer) {
                return Poll::Ready(read);
            }
            let room = buffer.len().min(READ_MAX);
            match ready!(raw.look(&mut buffer[..room])) {
                Ok(length @ 1..) => session.take(&buffer[..length])?,
                ended => return Poll::Ready(ended),
            }
        }
    }

    /// Ready once the connection is broken. Reads nothing, so it does not see past what the other end has sent and nobody has
    /// read; an end of what it sends is no break, since it may still be reading.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.raw.poll_broken(cx)
    }

    /// Bytes that the other end has not taken, as far as the system can tell.
    pub(crate) fn untaken(&self) -> Option<usize> {
        crate::sys::kernel::unacknowledged(self.fd().ok()?).ok()
    }

    /// The other end, for the log.
    pub(crate) fn who(&self) -> String {
        self.peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string())
    }

    /// Whether bytes have arrived that were not read, whatever the event loop knows of them.
    pub(crate) fn has_arrived(&mut self) -> bool {
        if self.session().is_some_and(|session| session.has_plaintext()) {
            return true;
        }
        let peek = |fd| rustix::net::recv(fd, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.fd().is_ok_and(|fd| peek(fd).is_ok_and(|(there, _)| there > 0))
    }

    /// Tells the other end that nothing more will come, and that all has come.
    pub(crate) fn shutdown(&mut self) {
        self.take_leave();
        if let Ok(fd) = self.fd() {
            // The peer may have gone already.
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        }
    }

    /// Tells the client of a session that all has come. Without this, what was cut short does not look whole.
    pub(crate) fn take_leave(&mut self) {
        let Some(session) = self.session.as_deref_mut() else { return };
        session.close();
        if let Ok(fd) = self.raw.fd() {
            // Where the socket is full, its client has not taken what came before either.
            while session.has_sendable() && session.send(fd).is_ok_and(|sent| sent > 0) {}
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

    /// The kernel takes no more than `bytes` that it can't send yet. A unix socket keeps what fits.
    pub(super) fn keep_unsent_below(&self, bytes: u32) {
        if let (Ok(fd), Some(_)) = (self.fd(), self.peer) {
            // Where it can't be said, the socket's buffer is the bound.
            let _ = SockRef::from(&fd).set_tcp_notsent_lowat(bytes);
        }
    }

    fn set_kernel_rate(&mut self, rate: Option<u64>) {
        let Ok(fd) = self.fd() else { return };
        let is_slower = match (rate, self.kernel_rate) {
            (Some(new), Some(old)) => new < old,
            (new, _) => new.is_some(),
        };
        let may_set = is_slower || crate::sys::kernel::unsent(fd).is_ok_and(|unsent| unsent == 0);
        if may_set && crate::sys::kernel::set_pacing_rate(fd, rate).is_ok() {
            // Little is kept in a socket that is slow to send it: memory, and bytes of a file that may change. 0 is the usual.
            let room = rate.map_or(0, |rate| (rate / KEPT_PART_OF_SECOND).max(KEPT_MIN));
            let _ = SockRef::from(&fd).set_tcp_notsent_lowat(u32::try_from(room).unwrap_or(0));
            self.kernel_rate = rate;
        }
    }

    pub(super) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.raw.fd()
    }
}

impl Raw {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
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

    fn look(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match receive(self.fd()?, buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
            read => Poll::Ready(read.map_err(io::Error::from)),
        }
    }

    fn poll_write(
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

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

/// Ciphertext is read and plaintext is taken in no larger pieces: what was taken in and has not been read or sent is memory of
/// the connection.
const READ_MAX: usize = RECORD;
const SEND_MAX: usize = 4 * RECORD;

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
