//! How a session begins (RFC 8446 §2).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::sync::OwnedSemaphorePermit;

use super::session::{Session, VectoredSocket};
use crate::net::deadline::Deadline;
use crate::net::socket::Socket;
use crate::net::tls::config::Tls;
use crate::net::worker::WorkerRegistration;

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// What came is a request in cleartext; with whether it is one whose answer has no content.
    Cleartext { is_head: bool },
    /// The client went before it was done, its place was wanted, or the server ends.
    Gone,
    /// Its time ran out.
    TimedOut,
    /// What it wants, says or offers will not do.
    Refused(String),
}

/// Agrees with the client on a session. `input` is ciphertext that has arrived already; all of it is taken.
///
/// The client has `tls_handshake_timeout` for all of it, its wait among other handshakes included. As long as it lasts the
/// connection counts as one that has said nothing.
pub(in crate::net) async fn shake_hands<S>(
    socket: &mut Socket,
    input: Vec<u8>,
    place: &WorkerRegistration<S>,
    tls: &Tls,
) -> Result<Session, HandshakeError> {
    let since = Instant::now();
    let deadline = Deadline::after(since, place.worker().bounds().tls_handshake_timeout);
    let has_spoken = !input.is_empty();
    let mut client = HandshakePeer { socket: &mut *socket, input, has_spoken, place, since, deadline };
    place.set_handshaking(true);
    let outcome = client.agree(tls).await;
    place.set_handshaking(false);
    match &outcome {
        Ok(_) => tls.count_handshake(),
        // Whoever looks whether the port is open wants no session.
        Err(HandshakeError::Gone) if !client.has_spoken => {}
        Err(failure) => tls.count_failure(|| socket.who(), failure.words()),
    }
    outcome
}

/// Who is at the other end meanwhile.
struct HandshakePeer<'a, S> {
    socket: &'a mut Socket,
    /// Ciphertext that has arrived and was not taken in.
    input: Vec<u8>,
    has_spoken: bool,
    place: &'a WorkerRegistration<S>,
    since: Instant,
    deadline: Deadline,
}

impl<S> HandshakePeer<'_, S> {
    async fn agree(&mut self, tls: &Tls) -> Result<Session, HandshakeError> {
        let accepted = self.hear_hello().await?;
        // From here on it costs: signing takes longer than all else that a small request does.
        let permit = self.await_turn(tls).await?;
        let begun = accepted.into_connection(tls.config());
        let mut connection = begun.map_err(|(error, alert)| self.refuse(&error, alert))?;
        self.finish(&mut connection, permit).await?;
        Ok(Session::new(connection))
    }

    /// The client's first message, whole.
    async fn hear_hello(&mut self) -> Result<Accepted, HandshakeError> {
        let mut acceptor = Acceptor::default();
        let mut is_first = true;
        loop {
            if self.input.is_empty() {
                self.read_more(None).await?;
            }
            if std::mem::take(&mut is_first) && speaks_cleartext(&self.input) {
                return Err(HandshakeError::Cleartext { is_head: self.input.starts_with(b"HEAD ") });
            }
            let mut left = self.input.as_slice();
            let mut heard = None;
            while heard.is_none() && !left.is_empty() {
                acceptor.read_tls(&mut left).map_err(|error| HandshakeError::Refused(error.to_string()))?;
                heard = acceptor.accept().transpose();
            }
            let taken = self.input.len() - left.len();
            self.input.drain(..taken);
            match heard {
                None => {}
                Some(Ok(accepted)) => return Ok(accepted),
                Some(Err((error, alert))) => return Err(self.refuse(&error, alert)),
            }
        }
    }

    /// A place among the handshakes under way.
    async fn await_turn(&mut self, tls: &Tls) -> Result<OwnedSemaphorePermit, HandshakeError> {
        let mut turn = pin!(tls.turn());
        poll_fn(|cx| match turn.as_mut().poll(cx) {
            Poll::Ready(permit) => Poll::Ready(permit.ok_or(HandshakeError::Gone)),
            Poll::Pending => self.poll_end(cx).map(Err),
        })
        .await
    }

    /// Everything after the client's first message. A client that keeps the others waiting for long gives its place up.
    async fn finish(
        &mut self,
        connection: &mut ServerConnection,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), HandshakeError> {
        let mut permit = Some(permit);
        let held_until = Instant::now() + HELD_FOR;
        loop {
            let taken = self.take_in(connection);
            // What there is to be said leaves in any case: an alert tells the client what is wrong.
            let left = self.send(connection).await;
            taken?;
            left?;
            if !connection.is_handshaking() {
                return self.take_in(connection);
            }
            let lets_go = permit.is_some().then_some(held_until);
            if !self.read_more(lets_go).await? {
                permit = None;
            }
        }
    }

    fn take_in(&mut self, connection: &mut ServerConnection) -> Result<(), HandshakeError> {
        let refused = |error: &dyn std::fmt::Display| HandshakeError::Refused(error.to_string());
        let mut left = self.input.as_slice();
        while !left.is_empty() {
            let taken = connection.read_tls(&mut left).map_err(|error| refused(&error))?;
            connection.process_new_packets().map_err(|error| refused(&error))?;
            if taken == 0 {
                return Err(HandshakeError::Gone);
            }
        }
        self.input = Vec::new();
        Ok(())
    }

    /// Sends what the handshake wants to say. What it says once it is over, tickets that is, leaves with the first response.
    async fn send(&mut self, connection: &mut ServerConnection) -> Result<(), HandshakeError> {
        poll_fn(|cx| {
            while connection.wants_write() && (connection.is_handshaking() || is_tls12(connection)) {
                match self.socket.poll_write(cx, |fd| connection.write_tls(&mut VectoredSocket(fd))) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(HandshakeError::Gone)),
                    Poll::Pending => return self.poll_end(cx).map(Err),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits for more ciphertext; false where it is `until` before that.
    async fn read_more(&mut self, until: Option<Instant>) -> Result<bool, HandshakeError> {
        let mut timer = pin!(until.map(|until| tokio::time::sleep_until(until.into())));
        poll_fn(|cx| {
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(read.map(|()| true));
            }
            if let Poll::Ready(failure) = self.poll_end(cx) {
                return Poll::Ready(Err(failure));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| Ok(false)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let mut scratch = self.place.worker().scratch.borrow_mut();
        let room = scratch.len().min(READ_MAX);
        match ready!(self.socket.poll_read_raw(cx, &mut scratch[..room])) {
            Ok(length @ 1..) => {
                self.input.extend_from_slice(&scratch[..length]);
                self.has_spoken = true;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(HandshakeError::Gone)),
        }
    }

    /// Ready once the connection must end: its time is up, its place is wanted, or the server closes.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<HandshakeError> {
        self.place.waits(cx, self.since);
        if self.place.is_evicted() {
            return Poll::Ready(HandshakeError::Gone);
        }
        if self.place.closes_after(self.since, &mut self.deadline) {
            return self.deadline.poll(cx).map(|()| HandshakeError::Gone);
        }
        self.deadline.poll(cx).map(|()| HandshakeError::TimedOut)
    }

    /// Tells the client what is wrong, if it is still there to hear.
    fn refuse(&mut self, error: &rustls::Error, mut alert: AcceptedAlert) -> HandshakeError {
        if let Ok(fd) = self.socket.fd() {
            let _: io::Result<()> = alert.write_all(&mut VectoredSocket(fd));
        }
        HandshakeError::Refused(error.to_string())
    }
}

/// Where the client speaks TLS 1.2 the server's last message is part of the handshake.
fn is_tls12(connection: &ServerConnection) -> bool {
    connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3)
}

/// Whether what a connection begins with is the method of a request: a record of TLS begins with another byte.
fn speaks_cleartext(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic())
}

/// A client that has had its answer for so long keeps nobody else from a handshake.
const HELD_FOR: Duration = Duration::from_secs(1);

/// More than a client has to say at once.
const READ_MAX: usize = 16 * 1024;

impl HandshakeError {
    /// In words, for the log.
    fn words(&self) -> &str {
        match self {
            Self::Cleartext { .. } => "it came in cleartext",
            Self::Gone => "the client went, or its place was wanted",
            Self::TimedOut => "it took too long",
            Self::Refused(why) => why,
        }
    }
}
