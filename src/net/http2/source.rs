//! Where the bytes of a response come from, a piece at a time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::response::OutgoingBody;
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::net::abort::why_broken;
use crate::net::http2::chunk::ChunkBytes;
use crate::net::residency_cursor::{ResidencyCursor, copy};
use crate::net::segments::{Segment, Window};
use crate::net::send::SendError;
use crate::net::worker::Worker;

/// The content of one response, as far as it has not been sent.
pub(super) struct BodySource {
    segments: VecDeque<Segment>,
    front: ResidencyCursor,
    /// What comes as it is made, behind the segments.
    stream: Option<BoxBody>,
    /// Bytes of all that is left; none where nobody knows.
    left: Option<u64>,
}

impl BodySource {
    /// All of `content`.
    pub(super) fn of(content: OutgoingBody) -> Self {
        let (segments, stream, left) = match content {
            OutgoingBody::None => (VecDeque::new(), None, Some(0)),
            OutgoingBody::Segments(segments) => {
                let length = segments.iter().map(Segment::length).sum();
                (segments, None, Some(length))
            }
            OutgoingBody::Stream(body, left) => (VecDeque::new(), Some(body), left),
        };
        Self { segments, front: ResidencyCursor::default(), stream, left }
    }

    /// Whether nothing is left, as far as that can be known.
    pub(super) fn is_empty(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether all of it is in memory.
    pub(super) fn is_at_hand(&self) -> bool {
        self.stream.is_none() && self.segments.iter().all(|segment| matches!(segment, Segment::Bytes(_)))
    }

    /// Bytes that are left, as far as that is known.
    pub(super) fn left(&self) -> u64 {
        self.left.unwrap_or(u64::MAX)
    }

    /// The file that is to be sent next.
    pub(super) fn file(&self) -> Option<&SitePath<'static>> {
        self.segments.iter().find_map(|segment| match segment {
            Segment::Bytes(_) => None,
            Segment::Window(window) => Some(&window.asset.path),
        })
    }

    /// Whether the next piece is copied from a file.
    pub(super) fn is_window(&self) -> bool {
        matches!(self.segments.front(), Some(Segment::Window(_)))
    }

    /// Since when the disk keeps a window waiting.
    pub(super) fn waits_for_disk_since(&self) -> Option<Instant> {
        self.front.waits_since()
    }

    /// How many bytes were asked of the disk since this was last asked.
    pub(super) fn take_cold_bytes(&mut self) -> u64 {
        self.front.take_cold_bytes()
    }

    /// Whether the file that is sent next is still what it was.
    pub(super) fn check<S>(&self, worker: &Worker<S>) -> Result<(), SendError> {
        match self.segments.front() {
            Some(Segment::Window(window)) => check(worker, window),
            _ => Ok(()),
        }
    }

    /// How many bytes there are to be had at once; 0 is the end.
    pub(super) fn poll_ready<S>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        client: ClientKey,
    ) -> Poll<Result<usize, SendError>> {
        while self.segments.is_empty() {
            let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
            match ready!(Pin::new(stream).poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    if self.left.is_some_and(|left| left < bytes.len() as u64) {
                        return Poll::Ready(Err(SendError::Changed));
                    }
                    self.segments.push_back(bytes.into());
                }
                Some(Err(error)) => return Poll::Ready(Err(SendError::Disk(why_broken(error)))),
                None if self.left.is_some_and(|left| left > 0) => {
                    return Poll::Ready(Err(SendError::Changed));
                }
                None => {
                    self.stream = None;
                    self.left = Some(0);
                }
            }
        }
        match self.segments.front() {
            Some(Segment::Window(window)) => {
                self.front.doubt();
                self.front.poll(cx, worker, client, window)
            }
            Some(Segment::Bytes(bytes)) => Poll::Ready(Ok(bytes.len())),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// The next piece, of `most` bytes that were said to be ready.
    pub(super) fn take<S>(&mut self, most: usize, worker: &Worker<S>) -> Result<ChunkBytes, SendError> {
        let (piece, is_done) = match self.segments.front_mut() {
            None => return Ok(ChunkBytes::Shared(Bytes::new())),
            Some(Segment::Bytes(bytes)) => {
                let piece = bytes.split_to(most.min(bytes.len()));
                (ChunkBytes::Shared(piece), bytes.is_empty())
            }
            Some(Segment::Window(window)) => {
                let start = window.range.start;
                let left = usize::try_from(window.range.end - start).unwrap_or(usize::MAX);
                let piece = worker.buffers.filled(most.min(left), |buffer| copy(window, start, buffer))?;
                // Looked at afterwards: what was read is of the version that it still is.
                check(worker, window)?;
                window.range.start += piece.len() as u64;
                (piece, window.range.is_empty())
            }
        };
        if is_done && matches!(self.segments.pop_front(), Some(Segment::Window(_))) {
            self.front.pass();
        }
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        Ok(piece)
    }
}

fn check<S>(worker: &Worker<S>, window: &Window) -> Result<(), SendError> {
    match worker.files.is_unchanged(&window.asset, window.handle.as_deref()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(SendError::Changed),
        Err(errno) => Err(SendError::Disk(errno.into())),
    }
}
