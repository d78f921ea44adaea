//! Sends what is queued, and gives up clients that take nothing or too little.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::connection::Http1Connection;
use crate::limits::bandwidth::ResponsePace;
use crate::net::{SendError, StallTimer, WorkerContext};

impl Http1Connection {
    /// Sends all that is queued.
    pub(super) async fn flush(&mut self) -> Result<(), SendError> {
        if self.queue.segments.is_empty() {
            self.restart_idle_timeout();
            return Ok(());
        }
        let context = Rc::clone(self.context());
        let mut stall = StallTimer::new(self.now);
        self.deadline.set(self.now, context.check_interval.get());
        poll_fn(|cx| self.poll_flush(cx, &context, &mut stall)).await?;
        self.now = Instant::now();
        let (now, cold) = (self.now, self.queue.cursor.take_cold_bytes());
        self.exchanges.set_wait(|| now, None);
        if cold > 0 {
            self.exchanges.add_cold_bytes(cold);
        }
        self.exchanges.settle(self.queue.sent(), now);
        self.restart_idle_timeout();
        Ok(())
    }

    /// Applies `pace` to what is pushed from now on. What was pushed before is sent first if its pace is another.
    pub(super) async fn set_pace(&mut self, pace: ResponsePace) -> Result<(), SendError> {
        if !self.queue.has_pace(&pace) || self.socket.lags_behind(pace.connection) {
            self.flush().await?;
            let context = Rc::clone(self.context());
            self.queue.set_pace(pace, &context.limits, &mut self.socket);
        }
        Ok(())
    }

    /// Sends; while that has to wait, records it, checks the client's progress and gives up if there is none.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        stall: &mut StallTimer,
    ) -> Poll<Result<(), SendError>> {
        let mut sent = 0;
        let flushed = self.queue.poll_send(cx, context, &mut self.socket, |bytes| sent += bytes);
        self.receive_rate.sent(sent);
        if flushed.is_ready() {
            if self.receive_rate.is_waiting() {
                self.receive_rate.set_waiting(Instant::now(), false);
            }
            return flushed;
        }
        let waits_for_server = self.queue.cursor.waits_since().is_some() || self.queue.waits_for_pace();
        if waits_for_server && self.socket.poll_broken(cx).is_ready() {
            // No client is left to read for, or to take the next share of a rate.
            return Poll::Ready(Err(SendError::reset()));
        }
        self.note_waiting(context, sent, stall);
        let is_checked = self.run_due_checks(cx, context, stall)?;
        let is_too_slow = (sent > 0 || is_checked)
            && self.receive_rate.is_too_slow(
                &context.settings().connections,
                &context.limits.connections,
                || self.socket.untaken(),
            );
        if is_too_slow { Poll::Ready(Err(SendError::TooSlow)) } else { Poll::Pending }
    }

    /// Records that the response waits after `sent` bytes, which are progress of the client unless a pace makes them
    /// take long.
    fn note_waiting(&mut self, context: &WorkerContext, sent: usize, stall: &mut StallTimer) {
        let now = Instant::now();
        let Self { queue, exchanges, .. } = self;
        self.receive_rate.set_waiting(now, queue.waits_for_client);
        exchanges.list_waiting(queue.sent(), now, queue.client, || queue.file().cloned());
        exchanges.set_wait(|| now, Some(queue.waits_for()));
        if sent == 0 {
            return;
        }
        self.now = now;
        if queue.is_paced() {
            // A socket takes bytes at that pace for long without a client at the other end.
            stall.sent(sent);
        } else {
            *stall = StallTimer::new(now);
            self.deadline.set(now, context.check_interval.get());
        }
    }

    /// Checks the disk and the client if it is time to. Returns true if they were checked.
    ///
    /// # Errors
    /// Why the response is given up.
    fn run_due_checks(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        stall: &mut StallTimer,
    ) -> Result<bool, SendError> {
        let mut is_checked = false;
        while self.deadline.poll(cx).is_ready() {
            let (now, settings) = (Instant::now(), context.settings());
            let disk_since = self.queue.cursor.waits_since();
            if disk_since
                .is_some_and(|since| now.duration_since(since) >= settings.sending.disk_timeout.get())
            {
                context.files.count_disk_timeout();
                return Err(SendError::disk_timeout());
            }
            let untaken = self.socket.untaken();
            if untaken.is_none() && self.queue.waits_for_pace() {
                *stall = StallTimer::new(now);
            } else if stall.is_expired(now, untaken, settings.connections.stall_timeout.get()) {
                return Err(SendError::Stalled);
            }
            self.deadline.set(now, context.check_interval.get());
            is_checked = true;
        }
        Ok(is_checked)
    }
}
