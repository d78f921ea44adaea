//! A connection up to its first request: for whom it is, and what encrypts it.

use std::rc::Rc;
use std::time::Instant;

use actix_http::Request;
use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;

use super::deadline::Deadline;
use super::proxied::hear;
use super::socket::Socket;
use super::tls::handshake::{HandshakeError, shake_hands};
use super::worker::{Worker, WorkerRegistration};
use super::{http1, http2};
use crate::config::ProxyProtocol;
use crate::limits::client_limits::ClientConnectionPermit;
use crate::net::reject::{CLEARTEXT, CLEARTEXT_HEAD, NO_TLS, TOO_MANY, turn_away, turn_away_at_once};
use crate::net::tls::config::Tls;

/// A connection whose first request is awaited.
pub(super) struct OpenedConnection<S> {
    pub(super) place: WorkerRegistration<S>,
    pub(super) socket: Socket,
    /// Bytes that have arrived and belong to no request yet.
    pub(super) input: Vec<u8>,
    /// Its place among those of its client, until it is dropped.
    pub(super) share: ClientConnectionPermit,
    /// Since when the request is awaited.
    pub(super) now: Instant,
}

/// Serves one connection in cleartext until it ends. Never fails: whatever happens ends the connection and is logged.
pub async fn serve<S, B>(worker: Rc<Worker<S>>, socket: Socket)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    serve_over(worker, socket, None).await;
}

/// The same of one that is to be encrypted with the `tls` of its listener, where that has any.
pub(crate) async fn serve_over<S, B>(worker: Rc<Worker<S>>, mut socket: Socket, tls: Option<Tls>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error> + 'static,
    B: MessageBody + 'static,
{
    let mut now = Instant::now();
    let place = worker.register(now);
    let mut input = Vec::new();
    if worker.guard.proxy_protocol() != ProxyProtocol::Off {
        let mut deadline = Deadline::after(now, worker.bounds().head_timeout);
        if !Box::pin(hear(&mut socket, &mut input, &mut deadline, &place)).await {
            return;
        }
        now = Instant::now();
        if !input.is_empty() {
            place.set_reading();
        }
    }
    let Ok(share) = worker.guard.admit_client(socket.peer) else {
        return Box::pin(refuse_client(&worker, socket, tls.is_some())).await;
    };
    if let Some(tls) = tls {
        match Box::pin(shake_hands(&mut socket, std::mem::take(&mut input), &place, &tls)).await {
            Ok(session) => socket.encrypt_by(session),
            Err(failure) => return Box::pin(part(socket, &failure)).await,
        }
        now = Instant::now();
        if socket.session().is_some_and(|session| session.speaks_http2()) {
            let client = worker.guard.client_at(socket.peer);
            return Box::pin(http2::serve(place, socket, client, input)).await;
        }
    }
    http1::serve(OpenedConnection { place, socket, input, share, now }).await;
}

/// Tells a client that it has as many connections as it may. Where places run short, this takes none for longer than a call.
async fn refuse_client<S>(worker: &Worker<S>, mut socket: Socket, is_tls: bool) {
    let answer = if is_tls { NO_TLS } else { TOO_MANY };
    if worker.guard.connections().is_short() {
        turn_away_at_once(&mut socket, answer);
    } else {
        turn_away(socket, answer).await;
    }
}

/// Ends a connection without a session.
async fn part(socket: Socket, failure: &HandshakeError) {
    match failure {
        HandshakeError::Cleartext { is_head: false } => turn_away(socket, CLEARTEXT).await,
        HandshakeError::Cleartext { is_head: true } => turn_away(socket, CLEARTEXT_HEAD).await,
        // What it was told must not be destroyed by a reset.
        HandshakeError::Refused(_) => turn_away(socket, b"").await,
        HandshakeError::Gone | HandshakeError::TimedOut => {}
    }
}
