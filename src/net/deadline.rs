//! The moment by which a connection must have made progress.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// A moment, unlike an idle timeout, which restarts. Moving it costs one store: the timer is adjusted when it fires.
pub(super) struct Deadline {
    wanted: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn after(now: Instant, span: Duration) -> Self {
        Self { wanted: now + span, timer: None }
    }

    pub(super) fn set(&mut self, now: Instant, span: Duration) {
        self.wanted = now + span;
    }

    /// Returns true if a timer is running that fires at the moment or before it.
    pub(super) fn is_armed(&self) -> bool {
        self.timer
            .as_ref()
            .is_some_and(|timer| timer.deadline().into_std() <= self.wanted && !timer.is_elapsed())
    }

    /// Ready once the moment has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wanted = tokio::time::Instant::from_std(self.wanted);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(wanted)));
        if timer.deadline() > wanted {
            timer.as_mut().reset(wanted);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= wanted {
                return Poll::Ready(());
            }
            timer.as_mut().reset(wanted);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_moved_later_fires_at_the_later_moment() {
        let start = Instant::now();
        let mut deadline = Deadline::after(start, Duration::from_millis(10));
        let mut polls = 0;
        std::future::poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                assert!(deadline.poll(cx).is_pending());
                deadline.set(start, Duration::from_millis(60));
            }
            deadline.poll(cx)
        })
        .await;
        assert!(start.elapsed() >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn a_deadline_moved_sooner_fires_at_the_sooner_moment() {
        let start = Instant::now();
        let mut deadline = Deadline::after(start, Duration::from_secs(3600));
        std::future::poll_fn(|cx| {
            let _ = deadline.poll(cx);
            deadline.set(start, Duration::from_millis(10));
            deadline.poll(cx)
        })
        .await;
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
