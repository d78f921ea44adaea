//! The TLS handshake (RFC 8446 §2).

use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use socket2::SockRef;
use tokio::sync::SemaphorePermit;

use super::config::Tls;
use super::session::Session;
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
        Ok(_) => {
            tls.handshakes.fetch_add(1, Ordering::Relaxed);
        }
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
        let mut permit = pin!(tls.permits.acquire());
        let permit = self.wait(|_, cx| permit.as_mut().poll(cx).map_err(|_| HandshakeError::Gone)).await?;
        let connection = accepted.into_connection(Arc::clone(&tls.config));
        let mut connection = connection.map_err(|refused| self.reject(refused))?;
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
                acceptor.read_tls(&mut left).map_err(HandshakeError::rejected)?;
                hello = acceptor.accept().transpose();
            }
            let taken = input.len() - left.len();
            input.drain(..taken);
            match hello {
                None => {}
                Some(Ok(accepted)) => return Ok(accepted),
                Some(Err(refused)) => return Err(self.reject(refused)),
            }
        }
    }

    /// Completes the handshake after the ClientHello. A client that takes long loses its permit to others.
    async fn finish(
        &mut self,
        connection: &mut ServerConnection,
        permit: SemaphorePermit<'_>,
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
        let mut left = self.connection.input.as_slice();
        while !left.is_empty() {
            let taken = connection.read_tls(&mut left).map_err(HandshakeError::rejected)?;
            connection.process_new_packets().map_err(HandshakeError::rejected)?;
            if taken == 0 {
                return Err(HandshakeError::Gone);
            }
        }
        self.connection.input = Vec::new();
        Ok(())
    }

    /// Sends the messages of the handshake. Session tickets, which follow it, are sent with the first response.
    async fn send(&mut self, connection: &mut ServerConnection) -> Result<(), HandshakeError> {
        self.wait(|handshake, cx| {
            let socket = &mut handshake.connection.socket;
            while connection.wants_write() && (connection.is_handshaking() || is_tls12(connection)) {
                let sent = socket.poll_write(cx, |fd| connection.write_tls(&mut &*SockRef::from(&fd)));
                ready!(sent).map_err(|_| HandshakeError::Gone)?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits for more ciphertext. Returns false if none has come by `until`.
    async fn read_more(&mut self, until: Option<Instant>) -> Result<bool, HandshakeError> {
        let mut timer = pin!(until.map(|until| tokio::time::sleep_until(until.into())));
        self.wait(|handshake, cx| match (handshake.poll_read(cx), timer.as_mut().as_pin_mut()) {
            (Poll::Pending, Some(timer)) => timer.poll(cx).map(|()| Ok(false)),
            (read, _) => read.map_ok(|()| true),
        })
        .await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let NewConnection { registration, socket, input, .. } = &mut *self.connection;
        let mut scratch = registration.context.scratch.borrow_mut();
        let room = scratch.len().min(READ_MAX);
        let Ok(length @ 1..) = ready!(socket.raw.poll_read(cx, &mut scratch[..room])) else {
            return Poll::Ready(Err(HandshakeError::Gone));
        };
        input.extend_from_slice(&scratch[..length]);
        self.has_sent = true;
        Poll::Ready(Ok(()))
    }

    /// Waits for what `poll` waits for, until the connection must end: its time is up, its slot is needed, or the server
    /// stops.
    async fn wait<T>(
        &mut self,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<Result<T, HandshakeError>>,
    ) -> Result<T, HandshakeError> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = poll(self, cx) {
                return Poll::Ready(done);
            }
            let NewConnection { registration, since, deadline, .. } = &mut *self.connection;
            registration.await_request(cx, *since);
            if registration.is_evicted() {
                return Poll::Ready(Err(HandshakeError::Gone));
            }
            let is_closing = registration.closes_after(*since, deadline);
            ready!(deadline.poll(cx));
            Poll::Ready(Err(if is_closing { HandshakeError::Gone } else { HandshakeError::TimedOut }))
        })
        .await
    }

    /// Sends the alert to the client.
    fn reject(&mut self, (error, mut alert): (rustls::Error, AcceptedAlert)) -> HandshakeError {
        if let Ok(fd) = self.connection.socket.fd() {
            let _: io::Result<()> = alert.write_all(&mut &*SockRef::from(&fd));
        }
        HandshakeError::rejected(error)
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
    fn rejected(error: impl Display) -> Self {
        Self::Rejected(error.to_string())
    }

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
