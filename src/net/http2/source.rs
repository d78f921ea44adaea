//! Provides the body of an HTTP/2 response in chunks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::chunk::ChunkBytes;
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::net::{ResidencyCursor, Segment, SendError, WorkerContext, check_unchanged};

/// The part of a body that has not been sent. The default is empty.
pub(super) struct BodySource {
    segments: VecDeque<Segment>,
    pub(super) cursor: ResidencyCursor,
    /// A body that is generated while it is sent, behind the segments.
    stream: Option<BoxBody>,
    /// Bytes that are left. `None` if unknown.
    left: Option<u64>,
}

impl Default for BodySource {
    fn default() -> Self {
        Self::of_segments(VecDeque::new())
    }
}

impl BodySource {
    pub(super) fn of_segments(segments: VecDeque<Segment>) -> Self {
        let left = Some(segments.iter().map(Segment::length).sum());
        Self { segments, cursor: ResidencyCursor::default(), stream: None, left }
    }

    pub(super) fn of_bytes(bytes: Bytes) -> Self {
        Self::of_segments(VecDeque::from([bytes.into()]))
    }

    /// A body that is generated while it is sent, of `length` bytes if known.
    pub(super) fn of_stream(body: BoxBody, length: Option<u64>) -> Self {
        Self { stream: Some(body), left: length, ..Self::default() }
    }

    /// True if nothing is left as far as known.
    pub(super) fn is_empty(&self) -> bool {
        self.left == Some(0)
    }

    /// True if all of it is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        self.stream.is_none() && self.segments.iter().all(|segment| matches!(segment, Segment::Bytes(_)))
    }

    /// Bytes that are left. `u64::MAX` if unknown.
    pub(super) fn left(&self) -> u64 {
        self.left.unwrap_or(u64::MAX)
    }

    /// The file that is sent next.
    pub(super) fn file(&self) -> Option<&SitePath<'static>> {
        self.segments.iter().find_map(Segment::file)
    }

    /// True if the next chunk is copied from a file.
    pub(super) fn is_window(&self) -> bool {
        matches!(self.segments.front(), Some(Segment::Window(_)))
    }

    /// Checks that the file that is sent next is unchanged.
    pub(super) fn check(&self, worker: &WorkerContext) -> Result<(), SendError> {
        match self.segments.front() {
            Some(Segment::Window(window)) => check_unchanged(worker, window),
            _ => Ok(()),
        }
    }

    /// Returns how many bytes can be had at once. 0 is the end.
    pub(super) fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
        client: ClientKey,
    ) -> Poll<Result<usize, SendError>> {
        if self.segments.is_empty() {
            ready!(self.poll_generated(cx))?;
        }
        match self.segments.front() {
            Some(Segment::Window(window)) => {
                self.cursor.invalidate();
                self.cursor.poll(cx, worker, client, window)
            }
            Some(Segment::Bytes(bytes)) => Poll::Ready(Ok(bytes.len())),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Waits for the next chunk of a generated body, or its end.
    fn poll_generated(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while let Some(stream) = &mut self.stream {
            match ready!(Pin::new(stream).poll_next(cx)).transpose().map_err(SendError::of_body)? {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    if self.left.is_some_and(|left| left < bytes.len() as u64) {
                        return Poll::Ready(Err(SendError::Changed));
                    }
                    self.segments.push_back(bytes.into());
                    break;
                }
                None if self.left.is_some_and(|left| left > 0) => {
                    return Poll::Ready(Err(SendError::Changed));
                }
                None => (self.stream, self.left) = (None, Some(0)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next chunk, at most `limit` bytes, which `poll_ready` returned.
    pub(super) fn take(&mut self, limit: usize, worker: &WorkerContext) -> Result<ChunkBytes, SendError> {
        let (chunk, is_done) = match self.segments.front_mut() {
            None => return Ok(ChunkBytes::Shared(Bytes::new())),
            Some(Segment::Bytes(bytes)) => {
                let chunk = bytes.split_to(limit.min(bytes.len()));
                (ChunkBytes::Shared(chunk), bytes.is_empty())
            }
            Some(Segment::Window(window)) => {
                let length = limit.min(window.length());
                let bytes = worker.copy_buffers.filled(length, |buffer| window.read_resident(buffer))?;
                let chunk = ChunkBytes::Copied(bytes);
                // Checked after the read: the bytes are of the version that the file still has.
                check_unchanged(worker, window)?;
                window.range.start += chunk.len() as u64;
                (chunk, window.range.is_empty())
            }
        };
        if is_done && matches!(self.segments.pop_front(), Some(Segment::Window(_))) {
            self.cursor.next_window();
        }
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        Ok(chunk)
    }
}
