//! One accepted socket, TCP or unix, encrypted or not.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::tls::session::{RECORD, Session};
use crate::http::client_key::peer_name;
use crate::sys::event_loop::register;
use crate::telemetry::access_log::record::TlsFacts;

/// A non-blocking stream socket, encrypted once it has a session. It is registered with the event loop when it first
/// has to wait: a connection whose request has arrived and whose response fits never is, which saves two `epoll_ctl`.
pub struct Socket {
    pub(super) raw: Raw,
    /// The TLS session with which everything is encrypted, if there is one.
    pub(super) session: Option<Box<Session>>,
    /// The rate at which the kernel paces, in bytes per second. `None` if it does not.
    kernel_rate: Option<u64>,
    /// The peer address. `None` for a unix socket.
    pub(crate) peer: Option<SocketAddr>,
}

/// The socket below the session.
pub(super) struct Raw {
    state: State,
    /// Before it is registered: the last read was short, so the next would return EAGAIN.
    is_drained: bool,
}

// Decision: docs/decisions/004-lazy-epoll-registration.md.
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

    /// True if it has a session.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.session.is_some()
    }

    /// What was negotiated with the client, for the access log. `None` for plain HTTP.
    pub(crate) fn tls_facts(&self) -> Option<Arc<TlsFacts>> {
        self.session.as_ref().map(|session| session.facts())
    }

    /// The TLS session, if it is encrypted.
    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        self.session.as_deref_mut()
    }

    /// Bytes of ciphertext that wait to be sent, except those of the protocol itself. 0 without a session.
    pub(super) fn ciphertext_left(&self) -> usize {
        self.session.as_ref().map_or(0, |session| session.ciphertext_left)
    }

    /// Reads what has arrived into `buffer`. 0 is the end. Waits if there is nothing.
    ///
    /// A short read leaves nothing behind, so the next one waits for the event loop instead of for an EAGAIN.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.session.is_none() {
            return self.raw.poll_read(cx, buffer);
        }
        let read = self.decrypt_with(buffer, |raw, ciphertext| raw.poll_read(cx, ciphertext));
        if matches!(read, Poll::Pending | Poll::Ready(Err(_))) {
            // Sends the alert, or session tickets if no response was sent with them.
            let _ = self.poll_drain(cx);
        }
        read
    }

    /// Reads what has arrived even if the event loop has not reported it: for a last read before the end.
    pub(crate) fn read_now(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.session.is_none() {
            self.raw.read_now(buffer)
        } else {
            self.decrypt_with(buffer, |raw, ciphertext| raw.read_now(ciphertext))
        }
    }

    /// Writes with `call`, unencrypted. Waits if the socket is full.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.raw.poll_call(cx, Interest::WRITABLE, call, |_| false)
    }

    /// Sends `bytes`, encrypted if there is a session, and returns how many were taken. What a session has taken may
    /// wait here until [`poll_drain`](Self::poll_drain) has sent it. Waits if the socket is full.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.session.is_none() {
            return self.poll_write(cx, |fd| Ok(rustix::io::write(fd, bytes)?));
        }
        ready!(self.poll_drain(cx))?;
        let Some(session) = self.session() else { return Poll::Ready(Ok(0)) };
        let taken = bytes.len().min(SEND_MAX);
        session.encrypt(&[IoSlice::new(&bytes[..taken])])?;
        // What the socket does not take now waits for the next call.
        let _ = self.poll_drain(cx)?;
        Poll::Ready(Ok(taken))
    }

    /// Sends ciphertext that waits. Waits if the socket is full.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.as_ref().is_some_and(|session| session.wants_write()) {
            ready!(self.poll_drain_once(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends ciphertext with one call and returns the number of bytes sent.
    pub(super) fn poll_drain_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { raw, session: Some(session), .. } = self else { return Poll::Ready(Ok(0)) };
        raw.poll_call(cx, Interest::WRITABLE, |fd| session.send(fd), |_| false)
    }

    /// Reads plaintext from ciphertext that `receive` reads.
    fn decrypt_with(
        &mut self,
        buffer: &mut [u8],
        mut receive: impl FnMut(&mut Raw, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Self { raw, session: Some(session), .. } = self else { return Poll::Ready(Ok(0)) };
            if let Some(read) = session.read(buffer) {
                return Poll::Ready(read);
            }
            // The caller's buffer holds the ciphertext until it is decrypted, which saves another buffer.
            let room = buffer.len().min(READ_MAX);
            match ready!(receive(raw, &mut buffer[..room])) {
                Ok(length @ 1..) => session.decrypt(&buffer[..length])?,
                ended => return Poll::Ready(ended),
            }
        }
    }

    /// Ready once the connection is broken. Reads nothing, so unread input hides it. A peer that has only shut down its
    /// sending side may still be reading, so that is no break.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let peek = |fd: BorrowedFd<'_>| Ok(rustix::net::recv(fd, &mut [0; 1], RecvFlags::PEEK)?.0);
        match ready!(self.raw.poll_call(cx, Interest::READABLE, peek, |_| false)) {
            Ok(_) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        }
    }

    /// Bytes that the peer has not acknowledged. `None` if the system does not know.
    pub(crate) fn untaken(&self) -> Option<usize> {
        crate::sys::kernel::unacknowledged(self.fd().ok()?).ok()
    }

    /// The peer, for log messages.
    pub(crate) fn peer_name(&self) -> String {
        peer_name(self.peer)
    }

    /// True if unread bytes have arrived, even if the event loop has not reported them.
    pub(crate) fn has_arrived(&mut self) -> bool {
        if self.session().is_some_and(|session| session.has_plaintext()) {
            return true;
        }
        let peek = |fd| rustix::net::recv(fd, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.fd().is_ok_and(|fd| peek(fd).is_ok_and(|(there, _)| there > 0))
    }

    /// Shuts down the sending side: everything was sent.
    pub(crate) fn shutdown(&mut self) {
        self.send_close_notify();
        if let Ok(fd) = self.fd() {
            // The peer may have disconnected already.
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        }
    }

    /// Sends a TLS close_notify: everything was sent. Without it a response that was cut off would look complete.
    pub(crate) fn send_close_notify(&mut self) {
        let Some(session) = self.session.as_deref_mut() else { return };
        session.close();
        if let Ok(fd) = self.raw.fd() {
            // If the socket is full, the client has not taken what came before either.
            while session.wants_write() && session.send(fd).is_ok_and(|sent| sent > 0) {}
        }
    }

    /// Sets whether a close is a reset, which drops unsent bytes: the peer then can't take what it received for
    /// complete. Has no effect on a unix socket.
    pub(crate) fn reset_on_close(&self, resets: bool) {
        if let Ok(fd) = self.fd() {
            // The peer may have disconnected already.
            let _ = rustix::net::sockopt::set_socket_linger(fd, resets.then_some(Duration::ZERO));
        }
    }

    /// Has the kernel pace from now on at `rate` bytes per second, or not at all. Returns false if it can't do that
    /// evenly: then the caller has to.
    ///
    /// Unsent bytes in the socket belong to the previous rate. A higher rate is set once they were sent, so that a
    /// client can't speed up a response by requesting another one behind it.
    pub(crate) fn pace(&mut self, rate: Option<u64>) -> bool {
        let by_kernel = rate.filter(|rate| self.is_paced_evenly_at(*rate));
        if by_kernel != self.kernel_rate {
            self.set_kernel_rate(by_kernel);
        }
        rate.is_none() || (by_kernel.is_some() && self.kernel_rate.is_some())
    }

    /// True if the kernel still paces at another rate than `rate` since it could not be raised at once.
    pub(crate) fn lags_behind(&self, rate: Option<u64>) -> bool {
        self.kernel_rate.is_some() && self.kernel_rate != rate
    }

    /// The kernel sends the first ten segments of a connection at once, and later several as one. If segments are long,
    /// as on loopback, or the rate is low, that is no pace. If the rate is high, its timers fire too late to keep it.
    fn is_paced_evenly_at(&self, rate: u64) -> bool {
        if rate > KERNEL_RATE_MAX {
            return false;
        }
        let is_tcp = self.peer.is_some();
        let segment = self.fd().ok().filter(|_| is_tcp).and_then(|fd| SockRef::from(&fd).tcp_mss().ok());
        segment.is_some_and(|segment| u64::from(segment) * UNPACED_SEGMENTS <= rate / UNEVEN_PART_OF_SECOND)
    }

    /// Has the kernel take no more than `bytes` that it can't send yet. Has no effect on a unix socket.
    pub(super) fn limit_unsent(&self, bytes: u32) {
        if let (Ok(fd), Some(_)) = (self.fd(), self.peer) {
            // If that fails, the socket's buffer is the bound.
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
            // A slow socket holds little: it costs memory, and the file may change meanwhile. 0 is the system's
            // default.
            let room = rate.map_or(0, |rate| (rate / UNSENT_PART_OF_SECOND).max(UNSENT_MIN));
            let _ = SockRef::from(&fd).set_tcp_notsent_lowat(u32::try_from(room).unwrap_or(0));
            self.kernel_rate = rate;
        }
    }

    pub(super) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.raw.fd()
    }
}

impl Raw {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.is_drained) {
            self.register()?;
        }
        let length = buffer.len();
        self.poll_call(cx, Interest::READABLE, |fd| receive(fd, buffer), |read| read < length)
    }

    fn read_now(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match receive(self.fd()?, buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Poll::Pending
            }
            read => Poll::Ready(read),
        }
    }

    /// Makes a system call again until it has an outcome. Waits for the event loop if that is EAGAIN, and before the next
    /// one after a result for which `drains` is true: it left nothing to read.
    fn poll_call(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        drains: impl Fn(usize) -> bool,
    ) -> Poll<io::Result<usize>> {
        loop {
            let guard = match &self.state {
                State::Registered(fd) if interest.is_readable() => Some(ready!(fd.poll_read_ready(cx))?),
                State::Registered(fd) => Some(ready!(fd.poll_write_ready(cx))?),
                _ => None,
            };
            let done = call(self.fd()?);
            let is_drained = match &done {
                Err(error) => error.kind() == ErrorKind::WouldBlock,
                Ok(count) => drains(*count),
            };
            match guard {
                Some(mut guard) if is_drained => guard.clear_ready(),
                None if is_drained && done.is_err() => self.register()?,
                None if is_drained => self.is_drained = true,
                _ => {}
            }
            match done {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.state {
            State::Plain(fd) => Ok(fd.as_fd()),
            State::Registered(registered) => Ok(registered.get_ref().as_fd()),
            State::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn register(&mut self) -> io::Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Plain(fd) => State::Registered(register(fd, Interest::READABLE | Interest::WRITABLE)?),
            state => state,
        };
        Ok(())
    }
}

/// Bytes of ciphertext read and of plaintext sent at once: until they are read or sent they are memory of the
/// connection.
const READ_MAX: usize = RECORD;
const SEND_MAX: usize = 4 * RECORD;

/// On a busy machine the kernel was a fifth too slow at 100 MiB/s, and within one percent at this rate.
const KERNEL_RATE_MAX: u64 = 16 << 20;

/// Segments that the kernel sends before it begins to pace.
const UNPACED_SEGMENTS: u64 = 10;

/// They may take this part of a second at the rate.
const UNEVEN_PART_OF_SECOND: u64 = 4;

/// Bytes that a paced socket may hold unsent, as a part of a second of its rate.
const UNSENT_PART_OF_SECOND: u64 = 2;

/// Bytes that it may hold in any case.
const UNSENT_MIN: u64 = 64 * 1024;

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(fd, buffer, RecvFlags::empty())?.0)
}
