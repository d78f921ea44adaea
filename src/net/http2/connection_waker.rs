//! Wakes the task of an HTTP/2 connection: its socket, its timers, its streams and `h2` do, the latter for whatever a
//! stream hands it.
//!
//! Within a poll no wakeup is needed, since the poll checks again by itself. Without this each poll would be followed
//! by another one that has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The waker of one connection.
pub(super) struct ConnectionWaker {
    inner: Arc<Inner>,
    waker: Waker,
}

struct Inner {
    task: AtomicWaker,
    state: AtomicU8,
}

impl ConnectionWaker {
    pub(super) fn new() -> Self {
        let inner = Arc::new(Inner { task: AtomicWaker::new(), state: AtomicU8::new(RESTING) });
        let waker = Waker::from(Arc::clone(&inner));
        Self { inner, waker }
    }

    /// Begins a poll of the task of `cx`.
    pub(super) fn begin_poll(&self, cx: &Context<'_>) {
        self.inner.task.register(cx.waker());
        self.inner.state.store(POLLED, Ordering::SeqCst);
    }

    /// The waker with which everything in a poll is polled.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Forgets wakeups: everything is polled from now on.
    pub(super) fn clear(&self) {
        self.inner.state.store(POLLED, Ordering::SeqCst);
    }

    /// True if there was a wakeup since the last `clear`.
    pub(super) fn was_woken(&self) -> bool {
        self.inner.state.load(Ordering::SeqCst) == WOKEN
    }

    /// Ends a poll. A wakeup since the last `clear`, or from now on, causes another.
    pub(super) fn end_poll(&self) {
        if self.inner.state.swap(RESTING, Ordering::SeqCst) == WOKEN {
            self.inner.task.wake();
        }
    }
}

impl Wake for Inner {
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
        let waker = ConnectionWaker::new();
        let woken = || count.0.load(Ordering::SeqCst);
        waker.begin_poll(&Context::from_waker(&task));
        waker.waker().wake();
        assert!(waker.was_woken() && woken() == 0);
        waker.clear();
        assert!(!waker.was_woken());
        waker.end_poll();
        assert_eq!(woken(), 0, "everything was polled");
        waker.waker().wake();
        assert_eq!(woken(), 1, "between two polls");
        waker.begin_poll(&Context::from_waker(&task));
        waker.waker().wake();
        waker.end_poll();
        assert_eq!(woken(), 2, "after the last clear");
    }
}
