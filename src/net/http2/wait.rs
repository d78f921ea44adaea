//! What an HTTP/2 response waits for, and for how long it may.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::open_stream::OpenStream;
use super::source::BodySource;
use crate::net::deadline::Deadline;
use crate::net::send_error::SendError;
use crate::telemetry::access_log::record::WaitKind;

/// What a response waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitReason {
    /// Nothing.
    None,
    Disk,
    /// The client, which gives it no flow-control window.
    Window {
        /// What the client had taken of the connection when the wait began.
        taken: u64,
        /// How often the connection has made progress meanwhile without this stream.
        rounds: usize,
    },
    /// Its turn, its pace, or the connection, which has a deadline of its own.
    Server,
}

impl WaitReason {
    /// A wait for a window that begins now.
    pub(super) const WINDOW: Self = Self::Window { taken: 0, rounds: 0 };

    /// The wait as the access log counts it.
    fn kind(self) -> Option<WaitKind> {
        match self {
            Self::None => None,
            Self::Disk => Some(WaitKind::Disk),
            Self::Window { .. } => Some(WaitKind::Client),
            Self::Server => Some(WaitKind::Throttle),
        }
    }
}

/// The present wait of a response.
pub(super) struct Wait {
    reason: WaitReason,
    deadline: Deadline,
}

impl Wait {
    pub(super) fn new(now: Instant) -> Self {
        Self { reason: WaitReason::None, deadline: Deadline::after(now, Duration::ZERO) }
    }

    /// Ends the wait: the response goes on.
    pub(super) fn end(&mut self, open: &mut OpenStream) {
        if self.reason != WaitReason::None {
            self.reason = WaitReason::None;
            open.tracked.note_wait(Instant::now, None);
        }
    }

    /// Waits for `reason`. Ready with the error of the response once it has waited for too long.
    pub(super) fn poll_overdue(
        &mut self,
        cx: &mut Context<'_>,
        reason: WaitReason,
        open: &mut OpenStream,
        source: &BodySource,
    ) -> Poll<SendError> {
        if std::mem::discriminant(&self.reason) != std::mem::discriminant(&reason) {
            self.begin(reason, open, source);
        }
        let worker = &open.connection.worker;
        loop {
            match self.reason {
                WaitReason::None | WaitReason::Server => return Poll::Pending,
                WaitReason::Disk => {
                    ready!(self.deadline.poll(cx));
                    worker.files.count_disk_timeout();
                    return Poll::Ready(match source.waits_for_disk_since() {
                        Some(_) => SendError::disk_timeout(),
                        None => SendError::chunk_timeout(),
                    });
                }
                WaitReason::Window { taken, rounds } => {
                    ready!(self.deadline.poll(cx));
                    // The window of the connection is shared: a stream that waits for it among others waits longer.
                    let now_taken = open.connection.taken();
                    if now_taken == taken || rounds >= open.connection.without_window.get() {
                        return Poll::Ready(SendError::Stalled);
                    }
                    self.reason = WaitReason::Window { taken: now_taken, rounds: rounds + 1 };
                    self.deadline.set(Instant::now(), worker.settings().connections.stall_timeout.get());
                }
            }
        }
    }

    fn begin(&mut self, reason: WaitReason, open: &mut OpenStream, source: &BodySource) {
        self.reason = reason;
        open.tracked.note_wait(Instant::now, reason.kind());
        let settings = open.connection.worker.settings();
        match reason {
            WaitReason::Disk => {
                let since = source.waits_for_disk_since().unwrap_or_else(Instant::now);
                self.deadline.set(since, settings.sending.disk_timeout.get());
            }
            WaitReason::Window { .. } => {
                self.reason = WaitReason::Window { taken: open.connection.taken(), rounds: 0 };
                self.deadline.set(Instant::now(), settings.connections.stall_timeout.get());
            }
            WaitReason::None | WaitReason::Server => {}
        }
    }
}
