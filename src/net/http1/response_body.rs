//! Sends a body that is generated while it is sent.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use bytes::Bytes;

use super::connection::Http1Connection;
use crate::net::{SendError, StreamFraming};
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::Exchange;

impl Http1Connection {
    /// Sends `body` to its end.
    pub(super) async fn send_body(&mut self, body: BoxBody, framing: StreamFraming) -> Result<(), SendError> {
        let ends_by_close = framing == StreamFraming::UntilClose;
        if ends_by_close {
            // A clean end would say that such a body is complete: whatever aborts it, even a panic, must not look like
            // one.
            self.socket.reset_on_close(true);
        }
        self.send_chunks(body, framing).await?;
        self.exchanges.end_response(self.queue.pushed);
        if ends_by_close {
            self.flush().await?;
            self.socket.reset_on_close(false);
        }
        Ok(())
    }

    async fn send_chunks(&mut self, mut body: BoxBody, framing: StreamFraming) -> Result<(), SendError> {
        let mut left = match framing {
            StreamFraming::Length(length) => length,
            StreamFraming::Chunked | StreamFraming::UntilClose => u64::MAX,
        };
        let is_chunked = framing == StreamFraming::Chunked;
        while let Some(bytes) = self.next_chunk(&mut body).await? {
            if bytes.is_empty() {
                continue;
            }
            let length = bytes.len() as u64;
            left = left.checked_sub(length).ok_or(SendError::Changed)?;
            let start = self.queue.pushed;
            if is_chunked {
                self.queue.push(Bytes::from(format!("{length:x}\r\n")));
            }
            self.queue.push(bytes);
            if is_chunked {
                self.queue.push(Bytes::from_static(b"\r\n"));
                self.note_overhead(start, length);
            }
            self.now = Instant::now();
            self.flush().await?;
        }
        if matches!(framing, StreamFraming::Length(_)) && left > 0 {
            return Err(SendError::Changed);
        }
        if is_chunked {
            let start = self.queue.pushed;
            self.queue.push(Bytes::from_static(LAST_CHUNK));
            self.note_overhead(start, 0);
        }
        Ok(())
    }

    /// Waits for the next chunk of the body. A body that is not ready waits for a disk.
    async fn next_chunk(&mut self, body: &mut BoxBody) -> Result<Option<Bytes>, SendError> {
        let context = Rc::clone(self.context());
        self.deadline.set(Instant::now(), context.settings().sending.disk_timeout.get());
        poll_fn(|cx| {
            if let Poll::Ready(next) = Pin::new(&mut *body).poll_next(cx) {
                self.exchanges.set_wait(Instant::now, None);
                return Poll::Ready(next.transpose().map_err(SendError::of_body));
            }
            self.exchanges.set_wait(Instant::now, Some(WaitKind::Disk));
            if self.socket.poll_broken(cx).is_ready() {
                return Poll::Ready(Err(SendError::reset()));
            }
            ready!(self.deadline.poll(cx));
            context.files.count_disk_timeout();
            Poll::Ready(Err(SendError::chunk_timeout()))
        })
        .await
    }

    /// Records how many of the bytes pushed since `start` are not among the `content` bytes of the body.
    pub(super) fn note_overhead(&mut self, start: u64, content: u64) {
        let pushed = self.queue.pushed.saturating_sub(start);
        if let Some(record) = self.exchanges.last().and_then(Exchange::record) {
            record.frame_bytes += pushed.saturating_sub(content);
        }
    }
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
