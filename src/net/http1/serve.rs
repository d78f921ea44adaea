//! Runs an HTTP/1.1 connection: one exchange after the other.

use std::future::poll_fn;
use std::rc::Rc;

use super::connection::{ConnectionEnd, Http1Connection};
use super::read_head::Arrival;
use crate::http::canned_response::VERSION_NOT_SUPPORTED;
use crate::limits::client_limits::ClientConnectionPermit;
use crate::net::http2::{self, PREFACE};
use crate::net::{AppService, Linger, NewConnection, Worker};

/// Serves a connection until it ends, from its first request on. Never fails: whatever happens ends the connection and
/// is logged.
pub(in crate::net) async fn serve<S: AppService>(
    worker: Rc<Worker<S>>,
    connection: NewConnection,
    _permit: ClientConnectionPermit,
) {
    let mut connection = Http1Connection::new(connection);
    match connection.run(&worker.app).await {
        ConnectionEnd::Close => connection.socket.send_close_notify(),
        ConnectionEnd::Abort => {}
        ConnectionEnd::Linger => connection.linger().await,
        ConnectionEnd::Http2 => {
            let Http1Connection { registration, socket, input, now: since, deadline, .. } = connection;
            let connection = NewConnection { registration, socket, input, since, deadline };
            Box::pin(http2::serve(worker, connection)).await;
        }
    }
}

impl Http1Connection {
    async fn run<S: AppService>(&mut self, app: &S) -> ConnectionEnd {
        for count in 1_u64.. {
            if count.is_multiple_of(REQUESTS_BEFORE_YIELD) {
                // A client that pipelines without end must not keep the worker.
                tokio::task::yield_now().await;
            }
            let Some(arrival) = poll_fn(|cx| self.poll_arrival(cx)).await else {
                return ConnectionEnd::Close;
            };
            self.registration.set_answering();
            let head = match arrival {
                Arrival::Request(head) => head,
                Arrival::Http2 if count == 1 => return ConnectionEnd::Http2,
                Arrival::Http2 => {
                    let record = self.record_rejected(PREFACE);
                    return self.refuse_head(VERSION_NOT_SUPPORTED, false, record).await;
                }
                Arrival::Rejected(response, is_head, record) => {
                    return self.refuse_head(response, is_head, record).await;
                }
            };
            match self.exchange(app, head).await {
                Ok(None) if self.queue.segments.is_empty() => self.registration.set_reading(),
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return self.replace_or_abort(error).await,
            }
        }
        ConnectionEnd::Close
    }

    async fn linger(&mut self) {
        self.socket.shutdown();
        self.registration.set_closing();
        let context = Rc::clone(self.context());
        let mut linger = Linger::new(DISCARDED_MAX, context.settings().connections.linger_timeout.get());
        poll_fn(|cx| linger.poll(cx, &mut self.socket, &mut context.scratch.borrow_mut())).await;
    }
}

/// Requests of one connection after which other connections are served.
const REQUESTS_BEFORE_YIELD: u64 = 64;

/// Bytes discarded after the last response from a client that goes on sending.
const DISCARDED_MAX: usize = 16 * 1024 * 1024;
