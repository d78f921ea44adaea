//! An answer for those for whom there is no room, or no more of it.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags};

use super::deadline::Deadline;
use super::socket::Socket;

/// Tells a client `answer` in cleartext, and closes so that it hears of it.
pub(crate) async fn turn_away(mut socket: Socket, answer: &'static [u8]) {
    let mut deadline = Deadline::after(Instant::now(), TURN_AWAY_TIMEOUT);
    let mut left = answer;
    let told = poll_fn(|cx| {
        while !left.is_empty() {
            match socket.poll_write(cx, |fd| Ok(rustix::net::send(fd, left, SendFlags::NOSIGNAL)?)) {
                Poll::Ready(Ok(sent)) => left = &left[sent..],
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return deadline.poll(cx).map(|()| false),
            }
        }
        Poll::Ready(true)
    });
    if !told.await {
        return;
    }
    socket.shutdown();
    let mut scratch = [0; 1024];
    let mut room = TURN_AWAY_READS;
    // What the client has sent is read, or its loss would destroy the answer.
    poll_fn(|cx| {
        while room > 0 {
            match socket.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(1..)) => room -= 1,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return deadline.poll(cx),
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Does the same within one call, where there is no room to wait either. What has been sent so far is read first, or the
/// close would be a reset; a request that comes later may still meet one.
pub(crate) fn turn_away_at_once(socket: &mut Socket, answer: &'static [u8]) {
    let Ok(fd) = socket.fd() else { return };
    let mut scratch = [0; 4096];
    for _ in 0..TURN_AWAY_READS {
        match rustix::net::recv(fd, &mut scratch, RecvFlags::DONTWAIT) {
            Ok((read, _)) if read == scratch.len() => {}
            _ => break,
        }
    }
    // A new socket has room for a few hundred bytes; where it has not, its client has gone.
    let _ = rustix::net::send(fd, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    socket.shutdown();
}

/// All places are taken.
pub(crate) const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
    content-length: 24\r\n\r\nBusy. Please try again.\n";

/// Its client has as many connections as it may.
pub(crate) const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
    content-length: 49\r\n\r\nToo many connections. Please close some of them.\n";

/// Either of the two, where TLS was to be spoken: a fatal alert (RFC 8446 §6.2, internal_error), since nothing can be said
/// in HTTP before a handshake, which there is no room for.
pub(crate) const NO_TLS: &[u8] = &[0x15, 3, 3, 0, 2, 2, 80];

/// A request came in cleartext to where TLS is spoken.
pub(crate) const CLEARTEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
    content-length: 40\r\n\r\nThis port speaks TLS. Please use https.\n";

/// The same without content, for HEAD.
pub(crate) const CLEARTEXT_HEAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
    content-length: 40\r\n\r\n";

const TURN_AWAY_TIMEOUT: Duration = Duration::from_millis(500);

const TURN_AWAY_READS: u32 = 64;
