//! An answer for those for whom there is no room.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use super::deadline::Deadline;
use super::socket::Socket;

/// Tells a client, for whom there is no room, to come back, and closes.
pub(crate) async fn turn_away(mut socket: Socket) {
    let mut deadline = Deadline::after(Instant::now(), TURN_AWAY_TIMEOUT);
    let mut left = TURN_AWAY;
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

const TURN_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
    content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
    content-length: 24\r\n\r\nBusy. Please try again.\n";

const TURN_AWAY_TIMEOUT: Duration = Duration::from_millis(500);

const TURN_AWAY_READS: u32 = 64;
