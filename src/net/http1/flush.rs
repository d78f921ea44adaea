//! Sends what is queued, and gives up clients that take nothing or too little.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::connection::Http1Connection;
use crate::limits::bandwidth::ResponsePace;
use crate::net::{Pacer, SendError, StallTimer};

impl Http1Connection {
    /// Sends all that is queued.
    pub(super) async fn flush(&mut self) -> Result<(), SendError> {
        if self.queue.segments.is_empty() {
            self.restart_idle_timeout();
            return Ok(());
        }
        self.stall = StallTimer::new(self.now);
        self.deadline.set(self.now, self.context().check_interval.get());
        poll_fn(|cx| self.poll_flush(cx)).await?;
        self.now = Instant::now();
        let now = self.now;
        self.exchanges.set_wait(|| now, None);
        self.exchanges.add_cold_bytes(self.queue.cursor.take_cold_bytes());
        self.exchanges.end_sent(self.queue.sent(), now);
        self.restart_idle_timeout();
        Ok(())
    }

    /// Applies `pace` to what is pushed from now on. What was pushed before is sent first if its pace is another.
    pub(super) async fn set_pace(&mut self, pace: ResponsePace) -> Result<(), SendError> {
        let is_present = match &self.queue.pacer {
            Some(pacer) => pacer.has_pace(&pace, self.queue.client),
            None => pace == ResponsePace::default(),
        };
        if !is_present || self.socket.lags_behind(pace.connection) {
            self.flush().await?;
            let by_kernel = self.socket.pace(pace.connection);
            let new = || Box::new(Pacer::new(&self.registration.context.limits, Arc::default()));
            self.queue.pacer.get_or_insert_with(new).begin(pace, self.queue.client, by_kernel);
        }
        Ok(())
    }

    /// Sends; while that has to wait, records it, checks the client's progress and gives up if there is none.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let flushed = self.queue.poll_send(cx, &self.registration.context, &mut self.socket);
        let sent = std::mem::take(&mut self.queue.taken);
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
        self.record_wait(sent);
        let is_checked = self.run_due_checks(cx)?;
        let context = &self.registration.context;
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
    fn record_wait(&mut self, sent: usize) {
        let now = Instant::now();
        self.receive_rate.set_waiting(now, self.queue.waits_for_client);
        self.exchanges.list_waiting(&self.queue, now);
        if sent == 0 {
            return;
        }
        self.now = now;
        if self.queue.is_paced() {
            // A socket takes bytes at that pace for long without a client at the other end.
            self.stall.sent(sent);
        } else {
            self.stall = StallTimer::new(now);
            self.deadline.set(now, self.context().check_interval.get());
        }
    }

    /// Checks the disk and the client if it is time to. Returns true if they were checked.
    ///
    /// # Errors
    /// Why the response is given up.
    fn run_due_checks(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        let context = &self.registration.context;
        let mut is_checked = false;
        while self.deadline.poll(cx).is_ready() {
            let (now, settings) = (Instant::now(), context.settings());
            let disk_timeout = settings.sending.disk_timeout.get();
            if self.queue.cursor.waits_since().is_some_and(|since| now.duration_since(since) >= disk_timeout)
            {
                context.files.count_disk_timeout();
                return Err(SendError::disk_timeout());
            }
            let untaken = self.socket.untaken();
            if untaken.is_none() && self.queue.waits_for_pace() {
                self.stall = StallTimer::new(now);
            } else if self.stall.is_expired(now, untaken, settings.connections.stall_timeout.get()) {
                return Err(SendError::Stalled);
            }
            self.deadline.set(now, context.check_interval.get());
            is_checked = true;
        }
        Ok(is_checked)
    }
}
