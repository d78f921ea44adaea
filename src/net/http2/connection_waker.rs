//! Wakes the task of an HTTP/2 connection: its socket, its timers, its streams and `h2` do, the latter for whatever a
//! stream hands it.
//!
//! Within a poll no wakeup is needed, since the poll checks again by itself. Without this each poll would be followed
//! by another one that has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Wake};

use futures_util::task::AtomicWaker;

/// Wakes the task of one connection. Everything in a poll is polled with it as its [`Waker`].
#[derive(Default)]
pub(super) struct ConnectionWaker {
    task: AtomicWaker,
    state: AtomicU8,
}

impl ConnectionWaker {
    /// Begins a poll of the task of `cx`.
    pub(super) fn begin_poll(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.clear();
    }

    /// Forgets wakeups: everything is polled from now on.
    pub(super) fn clear(&self) {
        self.state.store(POLLED, Ordering::SeqCst);
    }

    /// True if there was a wakeup since the last `clear`.
    pub(super) fn was_woken(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WOKEN
    }

    /// Ends a poll. A wakeup since the last `clear`, or from now on, causes another.
    pub(super) fn end_poll(&self) {
        if self.state.swap(RESTING, Ordering::SeqCst) == WOKEN {
            self.task.wake();
        }
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.compare_exchange(POLLED, WOKEN, Ordering::SeqCst, Ordering::SeqCst);
        if noted == Err(RESTING) {
            self.task.wake();
        }
    }
}

const RESTING: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_task_is_woken_for_what_a_poll_has_not_seen() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let wakeups = Arc::new(ConnectionWaker::default());
        let waker = Waker::from(Arc::clone(&wakeups));
        let woken = || count.0.load(Ordering::SeqCst);
        wakeups.begin_poll(&Context::from_waker(&task));
        waker.wake_by_ref();
        assert!(wakeups.was_woken() && woken() == 0);
        wakeups.clear();
        assert!(!wakeups.was_woken());
        wakeups.end_poll();
        assert_eq!(woken(), 0, "everything was polled");
        waker.wake_by_ref();
        assert_eq!(woken(), 1, "between two polls");
        wakeups.begin_poll(&Context::from_waker(&task));
        waker.wake_by_ref();
        wakeups.end_poll();
        assert_eq!(woken(), 2, "after the last clear");
    }
}
