//! Answers clients whose connections are not served.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use crate::http::canned_response::CannedResponse;
use crate::net::{Linger, Socket, status_of};

/// The bytes sent to a rejected client: `response` in plain HTTP, or a fatal TLS alert (RFC 8446 §6.2, internal_error),
/// since there is no HTTP before a handshake.
pub(crate) fn rejection(response: CannedResponse, is_tls: bool) -> Cow<'static, [u8]> {
    if is_tls {
        Cow::Borrowed(TLS_ALERT)
    } else {
        Cow::Owned(rejection_message(response, false).into_bytes())
    }
}

/// `response` as a message in plain HTTP, without content for HEAD.
pub(super) fn rejection_message(response: CannedResponse, is_head: bool) -> String {
    response.message(status_of(response).canonical_reason().unwrap_or_default(), is_head)
}

/// Sends `answer` unencrypted and closes such that the client receives it.
pub(crate) async fn reject(mut socket: Socket, answer: &[u8]) {
    let mut linger = Linger::new(DISCARDED_MAX, TIMEOUT);
    let mut left = answer;
    let is_sent = poll_fn(|cx| {
        while !left.is_empty() {
            match socket.poll_write(cx, |fd| Ok(rustix::net::send(fd, left, SendFlags::NOSIGNAL)?)) {
                Poll::Ready(Ok(sent)) => left = &left[sent..],
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return linger.deadline.poll(cx).map(|()| false),
            }
        }
        Poll::Ready(true)
    });
    if is_sent.await {
        socket.shutdown();
        let mut scratch = [0; 1024];
        poll_fn(|cx| linger.poll(cx, &mut socket, &mut scratch)).await;
    }
}

/// Does the same within one call, for when there is no room to wait either. Input received so far is read first, or the
/// close would be a reset; a request that arrives later may still meet one.
pub(crate) fn reject_at_once(socket: &mut Socket, answer: &[u8]) {
    let Ok(fd) = socket.fd() else { return };
    let mut scratch = [0; 4096];
    for _ in 0..READS_MAX {
        match rustix::net::recv(fd, &mut scratch, RecvFlags::DONTWAIT) {
            Ok((read, _)) if read == scratch.len() => {}
            _ => break,
        }
    }
    // A new socket takes a few hundred bytes; if it does not, the client is gone.
    let _ = rustix::net::send(fd, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    socket.shutdown();
}

const TLS_ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 80];

const TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes that are read and discarded.
const DISCARDED_MAX: usize = 64 * 1024;

const READS_MAX: u32 = 64;
