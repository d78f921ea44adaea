//! The TLS handshake (RFC 8446 §2).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::sync::OwnedSemaphorePermit;

use super::config::Tls;
use super::session::{Session, VectoredSocket};
use crate::net::NewConnection;

/// Why there is no session.
#[derive(Debug)]
pub(in crate::net) enum HandshakeError {
    /// The client sent a request in plain HTTP. `is_head`: its response has no body.
    PlainHttp { is_head: bool },
    /// The client disconnected, its slot was needed, or the server stops.
    Gone,
    /// The handshake took too long.
    TimedOut,
    /// The client's messages are not acceptable.
    Rejected(String),
}

/// Negotiates a session with the client. All of the connection's input is taken as ciphertext.
///
/// The client has until the connection's deadline, waiting for other handshakes included. Meanwhile the connection
/// counts as one that has sent nothing.
pub(in crate::net) async fn handshake(
    connection: &mut NewConnection,
    tls: &Tls,
) -> Result<Session, HandshakeError> {
    let has_sent = !connection.input.is_empty();
    connection.registration.set_handshaking(true);
    let mut handshake = Handshake { connection, has_sent };
    let outcome = handshake.negotiate(tls).await;
    handshake.connection.registration.set_handshaking(false);
    match &outcome {
        Ok(_) => tls.count_handshake(),
        // A port scan is no failed handshake.
        Err(HandshakeError::Gone) if !handshake.has_sent => {}
        Err(error) => tls.count_failure(|| handshake.connection.socket.peer_name(), error.reason()),
    }
    outcome
}

// Decision: docs/decisions/044-tls-handshake-slots.md.
struct Handshake<'a> {
    connection: &'a mut NewConnection,
    /// The client has sent bytes.
    has_sent: bool,
}

impl Handshake<'_> {
    async fn negotiate(&mut self, tls: &Tls) -> Result<Session, HandshakeError> {
        let accepted = self.read_client_hello().await?;
        // The number is limited from here on: signing takes longer than all else that a small request does.
        let permit = self.acquire(tls).await?;
        let connection = accepted.into_connection(tls.config());
        let mut connection = connection.map_err(|(error, alert)| self.reject(&error, alert))?;
        self.finish(&mut connection, permit).await?;
        Ok(Session::new(connection))
    }

    /// Reads the ClientHello.
    async fn read_client_hello(&mut self) -> Result<Accepted, HandshakeError> {
        let mut acceptor = Acceptor::default();
        let mut is_first = true;
        loop {
            if self.connection.input.is_empty() {
                self.read_more(None).await?;
            }
            let input = &mut self.connection.input;
            if std::mem::take(&mut is_first) && is_plain_http(input) {
                return Err(HandshakeError::PlainHttp { is_head: input.starts_with(b"HEAD ") });
            }
            let mut left = input.as_slice();
            let mut hello = None;
            while hello.is_none() && !left.is_empty() {
                acceptor.read_tls(&mut left).map_err(|error| HandshakeError::Rejected(error.to_string()))?;
                hello = acceptor.accept().transpose();
            }
            let taken = input.len() - left.len();
            input.drain(..taken);
            match hello {
                None => {}
                Some(Ok(accepted)) => return Ok(accepted),
                Some(Err((error, alert))) => return Err(self.reject(&error, alert)),
            }
        }
    }

    /// Waits for a permit: the number of handshakes under way is limited.
    async fn acquire(&mut self, tls: &Tls) -> Result<OwnedSemaphorePermit, HandshakeError> {
        let mut permit = pin!(tls.acquire());
        poll_fn(|cx| match permit.as_mut().poll(cx) {
            Poll::Ready(permit) => Poll::Ready(permit.ok_or(HandshakeError::Gone)),
            Poll::Pending => self.poll_end(cx).map(Err),
        })
        .await
    }

    /// Completes the handshake after the ClientHello. A client that takes long loses its permit to others.
    async fn finish(
        &mut self,
        connection: &mut ServerConnection,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), HandshakeError> {
        let mut permit = Some(permit);
        let permit_until = Instant::now() + PERMIT_HELD;
        loop {
            let processed = self.process_input(connection);
            // Sent in any case: an alert tells the client what is wrong.
            let sent = self.send(connection).await;
            processed?;
            sent?;
            if !connection.is_handshaking() {
                return self.process_input(connection);
            }
            let until = permit.is_some().then_some(permit_until);
            if !self.read_more(until).await? {
                permit = None;
            }
        }
    }

    fn process_input(&mut self, connection: &mut ServerConnection) -> Result<(), HandshakeError> {
        let rejected = |error: &dyn std::fmt::Display| HandshakeError::Rejected(error.to_string());
        let mut left = self.connection.input.as_slice();
        while !left.is_empty() {
            let taken = connection.read_tls(&mut left).map_err(|error| rejected(&error))?;
            connection.process_new_packets().map_err(|error| rejected(&error))?;
            if taken == 0 {
                return Err(HandshakeError::Gone);
            }
        }
        self.connection.input = Vec::new();
        Ok(())
    }

    /// Sends the messages of the handshake. Session tickets, which follow it, are sent with the first response.
    async fn send(&mut self, connection: &mut ServerConnection) -> Result<(), HandshakeError> {
        poll_fn(|cx| {
            while connection.wants_write() && (connection.is_handshaking() || is_tls12(connection)) {
                match self
                    .connection
                    .socket
                    .poll_write(cx, |fd| connection.write_tls(&mut VectoredSocket(fd)))
                {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(HandshakeError::Gone)),
                    Poll::Pending => return self.poll_end(cx).map(Err),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits for more ciphertext. Returns false if none has come by `until`.
    async fn read_more(&mut self, until: Option<Instant>) -> Result<bool, HandshakeError> {
        let mut timer = pin!(until.map(|until| tokio::time::sleep_until(until.into())));
        poll_fn(|cx| {
            if let Poll::Ready(read) = self.poll_read(cx) {
                return Poll::Ready(read.map(|()| true));
            }
            if let Poll::Ready(error) = self.poll_end(cx) {
                return Poll::Ready(Err(error));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| Ok(false)),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let NewConnection { registration, socket, input, .. } = &mut *self.connection;
        let mut scratch = registration.context.scratch.borrow_mut();
        let room = scratch.len().min(READ_MAX);
        match ready!(socket.poll_read_raw(cx, &mut scratch[..room])) {
            Ok(length @ 1..) => {
                input.extend_from_slice(&scratch[..length]);
                self.has_sent = true;
                Poll::Ready(Ok(()))
            }
            _ => Poll::Ready(Err(HandshakeError::Gone)),
        }
    }

    /// Ready once the connection must end: its time is up, its slot is needed, or the server stops.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<HandshakeError> {
        let NewConnection { registration, since, deadline, .. } = &mut *self.connection;
        registration.await_request(cx, *since);
        if registration.is_evicted() {
            return Poll::Ready(HandshakeError::Gone);
        }
        let is_closing = registration.closes_after(*since, deadline);
        let error = || if is_closing { HandshakeError::Gone } else { HandshakeError::TimedOut };
        deadline.poll(cx).map(|()| error())
    }

    /// Sends the alert to the client.
    fn reject(&mut self, error: &rustls::Error, mut alert: AcceptedAlert) -> HandshakeError {
        if let Ok(fd) = self.connection.socket.fd() {
            let _: io::Result<()> = alert.write_all(&mut VectoredSocket(fd));
        }
        HandshakeError::Rejected(error.to_string())
    }
}

/// In TLS 1.2 the server's last message is part of the handshake.
fn is_tls12(connection: &ServerConnection) -> bool {
    connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3)
}

/// Returns true if the first bytes of a connection are the method of a request: a TLS record begins with another byte.
fn is_plain_http(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic())
}

/// Time after which a client that does not answer no longer keeps others from their handshakes.
const PERMIT_HELD: Duration = Duration::from_secs(1);

/// More than a client sends at once.
const READ_MAX: usize = 16 * 1024;

impl HandshakeError {
    /// The reason, for the log.
    fn reason(&self) -> &str {
        match self {
            Self::PlainHttp { .. } => "the client sent plain HTTP",
            Self::Gone => "the client disconnected, or its slot was needed",
            Self::TimedOut => "it took longer than tls_handshake_timeout",
            Self::Rejected(reason) => reason,
        }
    }
}
