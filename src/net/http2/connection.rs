//! One HTTP/2 connection: reads frames, begins streams and writes what they send.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::{Connection as Frames, Handshake};

use super::chunk::BodyChunk;
use super::connection_waker::ConnectionWaker;
use super::flood_guard::ConnectionError;
use super::io::{Io, READ_PER_POLL};
use super::open_stream::{ConnectionContext, OpenStream};
use super::stream::{self, IncomingStream};
use crate::net::{AppService, Deadline, ReceiveRate, SendError, StallTimer, Worker, WorkerRegistration};
use crate::telemetry::metrics::exchange::ExchangeOutcome;
use crate::telemetry::metrics::http2::{ConnectionState, CountedConnection};
use crate::telemetry::metrics::kind::{ProtocolViolation, SendPath};

/// The state of one connection.
///
/// Decision: docs/decisions/003-http2-connection.md.
pub(super) struct Http2Connection {
    pub(super) stage: Stage,
    pub(super) shared: Rc<ConnectionContext>,
    pub(super) registration: WorkerRegistration,
    counted: CountedConnection,
    streams: FuturesUnordered<LocalBoxFuture<'static, OpenStream>>,
    /// Exchanges whose response is being sent.
    pub(super) sending: VecDeque<OpenStream>,
    /// Bytes of frames written that are no content, as far as counted.
    overhead: u64,
    pub(super) deadline: Deadline,
    /// When the client's progress was last checked.
    pub(super) checked: Instant,
    /// Since when no stream is open. `None` if one is.
    pub(super) idle_since: Option<Instant>,
    /// When the client was first sent GOAWAY.
    pub(super) leaving_since: Option<Instant>,
    /// The last GOAWAY was sent: no frames are read any more.
    pub(super) is_ending: bool,
    pub(super) stall: Option<StallTimer>,
    /// How fast the client takes the responses since the connection was last idle.
    pub(super) receive_rate: ReceiveRate,
}

pub(super) enum Stage {
    Preface(Handshake<Io, BodyChunk>),
    Open(Frames<Io, BodyChunk>),
}

/// How a connection ends.
#[derive(Debug)]
pub(super) enum Http2End {
    /// GOAWAY was or will be sent.
    Linger,
    /// The client is gone, or is owed nothing.
    Gone,
    /// The server gives the client up.
    Abort(SendError),
}

impl Http2Connection {
    pub(super) fn new(
        shared: ConnectionContext,
        registration: WorkerRegistration,
        handshake: Handshake<Io, BodyChunk>,
        now: Instant,
    ) -> Self {
        let worker = Rc::clone(&shared.worker);
        Self {
            stage: Stage::Preface(handshake),
            counted: CountedConnection::new(&worker.metrics),
            deadline: Deadline::after(now, worker.settings().connections.head_timeout.get()),
            shared: Rc::new(shared),
            registration,
            streams: FuturesUnordered::new(),
            sending: VecDeque::new(),
            overhead: 0,
            checked: now,
            idle_since: Some(now),
            leaving_since: None,
            is_ending: false,
            stall: None,
            receive_rate: ReceiveRate::default(),
        }
    }

    /// Reads what has arrived, lets responses go on and sends all there is to send at once. Returns how the connection
    /// ends, or `None` if it goes on.
    pub(super) fn poll<S: AppService>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Rc<Worker<S>>,
        wakeups: &ConnectionWaker,
    ) -> Option<Http2End> {
        self.leave_if_retiring();
        self.shared.io.borrow_mut().allowance = READ_PER_POLL;
        let before = self.shared.io.borrow().sent();
        let mut is_done = false;
        let mut is_full = false;
        for _ in 0..ROUNDS_MAX {
            if let Some(end) = self.poll_frames(cx, worker, wakeups) {
                return Some(end);
            }
            while let Poll::Ready(Some(open)) = self.streams.poll_next_unpin(cx) {
                self.sending.push_back(open);
            }
            if wakeups.was_woken() {
                continue;
            }
            let mut io = self.shared.io.borrow_mut();
            is_full = match io.poll_send(cx) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(_)) => return Some(Http2End::Gone),
                Poll::Pending => true,
            };
            if std::mem::take(&mut io.is_blocked) && !is_full {
                continue;
            }
            is_done = true;
            break;
        }
        if !is_done || self.shared.io.borrow().allowance == 0 {
            // Lets the tasks of other connections run.
            cx.waker().wake_by_ref();
        }
        self.end_sent();
        self.report_state();
        let sent = self.shared.io.borrow().sent() - before;
        self.record_sent(usize::try_from(sent).unwrap_or(usize::MAX), is_full);
        None
    }

    /// Reads frames, begins streams and writes frames, until none of that can be done at once.
    fn poll_frames<S: AppService>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Rc<Worker<S>>,
        wakeups: &ConnectionWaker,
    ) -> Option<Http2End> {
        loop {
            wakeups.clear();
            let frames = match &mut self.stage {
                Stage::Open(frames) => frames,
                Stage::Preface(preface) => match Pin::new(preface).poll(cx) {
                    Poll::Ready(Ok(frames)) => {
                        self.stage = Stage::Open(frames);
                        self.leave_if_retiring();
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Some(self.end_after(&error)),
                    Poll::Pending => return None,
                },
            };
            match frames.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin_stream(cx, Rc::clone(worker), (request, respond));
                }
                Poll::Ready(Some(Err(error))) => return Some(self.end_after(&error)),
                Poll::Ready(None) => return Some(Http2End::Linger),
                Poll::Pending => {
                    let ConnectionError { violation, reason } =
                        self.shared.io.borrow_mut().take_violation()?;
                    self.count_violation(violation, reason.description());
                    self.send_goaway(reason);
                }
            }
        }
    }

    /// Begins a stream. Most requests are answered at once.
    fn begin_stream<S: AppService>(
        &mut self,
        cx: &mut Context<'_>,
        worker: Rc<Worker<S>>,
        incoming: IncomingStream,
    ) {
        if self.idle_since.take().is_some() {
            self.registration.set_answering();
            self.checked = self.shared.io.borrow().now;
        }
        let shared = Rc::clone(&self.shared);
        let mut stream: LocalBoxFuture<'static, OpenStream> =
            Box::pin(async move { stream::serve(&worker.app, shared, incoming).await });
        match stream.as_mut().poll(cx) {
            Poll::Ready(open) => self.sending.push_back(open),
            Poll::Pending => self.streams.push(stream),
        }
    }

    /// Ends the exchanges whose responses were sent.
    fn end_sent(&mut self) {
        let (pushed, sent) = {
            let io = self.shared.io.borrow();
            (io.pushed, io.sent())
        };
        self.sending.retain_mut(|open| !open.end_if_sent(sent, pushed));
        let overhead = pushed.saturating_sub(self.shared.meter.taken.get());
        let more = overhead.saturating_sub(self.overhead);
        self.overhead = overhead.max(self.overhead);
        self.shared.worker.metrics.counts.sent[SendPath::Heap as usize].add(more);
    }

    fn report_state(&mut self) {
        let io = self.shared.io.borrow();
        self.counted.update(ConnectionState {
            streams: (self.streams.len() + self.sending.len()) as u64,
            resets: io.flood_guard.resets_seen,
            recent_resets: io.flood_guard.recent_resets(io.now),
        });
    }

    /// Records the client's progress: `sent` bytes were sent, and the socket is full or not.
    fn record_sent(&mut self, sent: usize, is_full: bool) {
        let now = self.shared.io.borrow().now;
        self.receive_rate.sent(sent);
        let for_client = is_full || self.shared.without_window() > 0;
        if for_client || self.receive_rate.is_waiting() {
            self.receive_rate.set_waiting(Instant::now(), for_client);
        }
        if !is_full {
            self.stall = None;
            return;
        }
        let stall = self.stall.get_or_insert_with(|| StallTimer::new(now));
        if sent > 0 && Rc::strong_count(&self.shared.paced) > 1 {
            // A socket takes bytes at that pace for long without a client at the other end.
            stall.sent(sent);
        } else if sent > 0 {
            *stall = StallTimer::new(now);
        }
    }

    /// True if a stream is open or its response is being sent.
    pub(super) fn is_busy(&self) -> bool {
        !self.streams.is_empty() || !self.sending.is_empty()
    }

    /// Sends a first GOAWAY if the worker retires: streams that are open are finished.
    fn leave_if_retiring(&mut self) {
        if self.leaving_since.is_some() || !self.shared.worker.is_retiring.get() {
            return;
        }
        if let Stage::Open(frames) = &mut self.stage {
            frames.graceful_shutdown();
            self.leaving_since = Some(Instant::now());
        }
    }

    /// Sends GOAWAY with `reason` and reads no more frames.
    pub(super) fn send_goaway(&mut self, reason: Reason) {
        if let Stage::Open(frames) = &mut self.stage {
            frames.abrupt_shutdown(reason);
        }
        self.leaving_since = Some(Instant::now());
        self.is_ending = true;
    }

    /// How the connection ends after `error` of `h2`.
    fn end_after(&self, error: &h2::Error) -> Http2End {
        match error.reason() {
            Some(reason) if error.is_library() && error.is_go_away() => {
                self.count_violation(ConnectionError::of(reason).violation, reason.description());
            }
            _ => log::debug!("{}: the connection ended: {error}", self.shared.peer_name()),
        }
        if error.is_io() { Http2End::Gone } else { Http2End::Linger }
    }

    fn count_violation(&self, violation: ProtocolViolation, reason: &str) {
        self.counted.count_violation(violation);
        self.shared.worker.limits.count_refused_frames(&self.shared.peer_name(), reason);
    }

    /// Drops the streams: their exchanges end as the connection does.
    ///
    /// The connection is counted until the last value is dropped.
    pub(super) fn finish(
        self,
        end: &Http2End,
    ) -> (Rc<ConnectionContext>, WorkerRegistration, CountedConnection) {
        self.shared.end.set(match end {
            Http2End::Linger | Http2End::Gone => ExchangeOutcome::ClientGone,
            Http2End::Abort(error) => error.outcome(),
        });
        (self.shared, self.registration, self.counted)
    }
}

/// Rounds of one connection before other connections are served.
const ROUNDS_MAX: usize = 8;
