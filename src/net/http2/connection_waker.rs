//! Who wakes a connection: its socket, its timers, its streams, and `h2`, which is woken by whatever a stream hands it.
//!
//! Within a turn nobody needs to: the turn looks again by itself. Without this each turn would be followed by another one in
//! which there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The waker of one connection's turns.
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

    /// A turn of the task of `cx` begins.
    pub(super) fn begin(&self, cx: &Context<'_>) {
        self.inner.task.register(cx.waker());
        self.inner.state.store(IN_TURN, Ordering::SeqCst);
    }

    /// What is polled in a turn is polled with this.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// All is looked at from now on.
    pub(super) fn look(&self) {
        self.inner.state.store(IN_TURN, Ordering::SeqCst);
    }

    /// Whether somebody has called since.
    pub(super) fn was_woken(&self) -> bool {
        self.inner.state.load(Ordering::SeqCst) == WOKEN
    }

    /// The turn ends. Who has called since the last look, or calls from now on, begins another.
    pub(super) fn end(&self) {
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
        let noted = self.state.compare_exchange(IN_TURN, WOKEN, Ordering::SeqCst, Ordering::SeqCst);
        if noted == Err(RESTING) {
            self.task.wake();
        }
    }
}

const RESTING: u8 = 0;
const IN_TURN: u8 = 1;
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
    fn the_task_is_woken_for_what_the_turn_has_not_looked_at() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let turn = ConnectionWaker::new();
        let woken = || count.0.load(Ordering::SeqCst);
        turn.begin(&Context::from_waker(&task));
        turn.waker().wake();
        assert!(turn.was_woken() && woken() == 0);
        turn.look();
        assert!(!turn.was_woken());
        turn.end();
        assert_eq!(woken(), 0, "all was looked at");
        turn.waker().wake();
        assert_eq!(woken(), 1, "between two turns");
        turn.begin(&Context::from_waker(&task));
        turn.waker().wake();
        turn.end();
        assert_eq!(woken(), 2, "after the last look");
    }
}
