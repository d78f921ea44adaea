//! Opens a connection: PROXY header, limits per client, TLS handshake. Then HTTP/1.1 or HTTP/2 serves it.

use std::rc::Rc;
use std::sync::Arc;

use super::tls::config::Tls;
use super::tls::handshake::{HandshakeError, handshake};
use super::{http1, http2};
use crate::config::ProxyProtocol;
use crate::http::canned_response::{PLAIN_HTTP, TOO_MANY_CONNECTIONS};
use crate::net::{
    AppService, NewConnection, Socket, Worker, WorkerContext, reject, reject_at_once, rejection,
    rejection_message,
};

/// Serves one connection until it ends, encrypted if its listener has `tls`. Never fails: whatever happens ends the
/// connection and is logged.
pub async fn serve<S: AppService>(worker: Rc<Worker<S>>, socket: Socket, tls: Option<Arc<Tls>>) {
    let context = &worker.context;
    let mut connection = NewConnection::register(context, socket);
    if context.limits.proxy_protocol() != ProxyProtocol::Off {
        if !Box::pin(connection.read_proxy_header()).await {
            return;
        }
        connection.begin_phase(context.settings().connections.head_timeout.get());
        if !connection.input.is_empty() {
            connection.registration.set_reading();
        }
    }
    let Ok(permit) = context.limits.admit_client(connection.socket.peer) else {
        return Box::pin(reject_client(context, connection.socket, tls.is_some())).await;
    };
    if let Some(tls) = tls {
        connection.begin_phase(context.settings().tls.tls_handshake_timeout.get());
        match Box::pin(handshake(&mut connection, &tls)).await {
            Ok(session) => connection.socket.session = Some(Box::new(session)),
            Err(HandshakeError::PlainHttp { is_head }) => {
                let answer = rejection_message(PLAIN_HTTP, is_head);
                return Box::pin(reject(connection.socket, answer.as_bytes())).await;
            }
            // A reset must not destroy the alert that was sent.
            Err(HandshakeError::Rejected(_)) => return Box::pin(reject(connection.socket, b"")).await,
            Err(HandshakeError::Gone | HandshakeError::TimedOut) => return,
        }
        connection.begin_phase(context.settings().connections.head_timeout.get());
        if connection.socket.session().is_some_and(|session| session.is_http2()) {
            return Box::pin(http2::serve(worker, connection)).await;
        }
    }
    http1::serve(worker, connection, permit).await;
}

/// Rejects a client that has as many connections as it may. While connections run short, this takes no longer than one
/// call.
async fn reject_client(context: &WorkerContext, mut socket: Socket, is_tls: bool) {
    let answer = rejection(TOO_MANY_CONNECTIONS, is_tls);
    if context.limits.connections.is_short() {
        reject_at_once(&mut socket, &answer);
    } else {
        reject(socket, &answer).await;
    }
}
