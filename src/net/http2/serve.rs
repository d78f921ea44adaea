//! Runs an HTTP/2 connection from its preface to its close.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use h2::server::Builder;

use super::chunk::ConnectionMeter;
use super::connection::{Http2Connection, Http2End};
use super::connection_waker::ConnectionWaker;
use super::flood_guard::FloodGuard;
use super::io::{FrameIo, Io};
use super::open_stream::ConnectionContext;
use crate::config::Config;
use crate::net::{AppService, Linger, NewConnection, Worker};
use crate::telemetry::metrics::exchange::ExchangeOutcome;

/// Serves a connection until it ends. Its input begins with the preface. Never fails: whatever happens ends the
/// connection and is logged.
pub(in crate::net) async fn serve<S: AppService>(worker: Rc<Worker<S>>, connection: NewConnection) {
    let context = Rc::clone(&worker.context);
    let (builder, resets) = {
        let settings = context.settings();
        (builder(&settings), settings.http2.http2_resets.get())
    };
    let now = Instant::now();
    let NewConnection { registration, socket, input, .. } = connection;
    // Bytes in the socket are ahead of every stream, so there may be few of them.
    socket.limit_unsent(UNSENT_MAX);
    let shared = ConnectionContext {
        client: context.limits.client_at(socket.peer),
        peer: socket.peer,
        io: Rc::new(RefCell::new(FrameIo::new(socket, &input, FloodGuard::new(resets, now), now))),
        meter: ConnectionMeter::new(Arc::clone(&context.metrics)),
        worker: Rc::clone(&context),
        bucket: Arc::default(),
        without_window: Rc::default(),
        paced: Rc::default(),
        end: Cell::new(ExchangeOutcome::Drained),
    };
    let handshake = builder.handshake(Io { io: Rc::clone(&shared.io), worker: context });
    let mut connection = Http2Connection::new(shared, registration, handshake, now);
    let wakeups = Arc::new(ConnectionWaker::default());
    let waker = Waker::from(Arc::clone(&wakeups));
    let end = poll_fn(|cx| {
        wakeups.begin_poll(cx);
        let cx = &mut Context::from_waker(&waker);
        let end = match connection.poll(cx, &worker, &wakeups) {
            Some(end) => Poll::Ready(end),
            None => connection.poll_deadline(cx),
        };
        wakeups.end_poll();
        end
    })
    .await;
    let (shared, registration, _counted) = connection.finish(&end);
    if matches!(end, Http2End::Linger) {
        registration.set_reading();
        linger(&shared).await;
    }
}

/// Settings of `h2`. Its limits on resets count over the lifetime of a connection; ours count over ten seconds.
fn builder(Config { requests, http2, .. }: &Config) -> Builder {
    let resets = http2.http2_resets.as_usize();
    let overhead = requests.head_fields.as_usize().saturating_mul(HEADER_OVERHEAD);
    let list = requests.head_bytes.as_usize().saturating_add(overhead);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(http2.http2_streams.get()).unwrap_or(u32::MAX))
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(Some(resets))
        .max_pending_accept_reset_streams(resets.min(PENDING_RESETS_MAX))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Reads on until the client has received the last frames, or its time is up: closing now could destroy them.
async fn linger(shared: &ConnectionContext) {
    let mut linger = Linger::new(DISCARDED_MAX, shared.worker.settings().connections.linger_timeout.get());
    poll_fn(|cx| {
        let io = &mut *shared.io.borrow_mut();
        match io.poll_send(cx) {
            Poll::Ready(Ok(())) => io.socket.shutdown(),
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => {}
        }
        linger.poll(cx, &mut io.socket, &mut shared.worker.scratch.borrow_mut())
    })
    .await;
}

/// Bytes that the kernel keeps unsent, beside those in flight.
const UNSENT_MAX: u32 = 256 * 1024;

/// Bytes that every header counts beyond its name and value (RFC 9113 §6.5.2).
const HEADER_OVERHEAD: usize = 32;

/// Bytes of one response that wait for frames to take them.
const SEND_BUFFER: usize = 128 * 1024;

/// Streams that were reset before they were accepted.
const PENDING_RESETS_MAX: usize = 128;

/// Bytes discarded after the last frame from a client that goes on sending.
const DISCARDED_MAX: usize = 1024 * 1024;
