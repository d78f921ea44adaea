//! starting → warming → ready → draining or retiring → closing, and who is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all of it stands yet.
    Starting,
    /// It serves, and reads what was hot before; load balancers are told to wait.
    Warming,
    /// It serves.
    Ready,
    /// It still serves, and tells load balancers to go elsewhere.
    Draining,
    /// A successor has the listeners. Every response is its connection's last; idle connections are kept for a request that
    /// may be on its way.
    Retiring,
    /// Listeners are closed; responses under way finish.
    Closing,
    /// What has not finished by now is cut.
    Ended,
}

impl Phase {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Starting,
        Self::Warming,
        Self::Ready,
        Self::Draining,
        Self::Retiring,
        Self::Closing,
        Self::Ended,
    ];

    /// Its name among gauges.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Retiring => "retiring",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}

/// The phase, shared by everybody who asks or waits for it.
#[derive(Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    is_drained: Arc<AtomicBool>,
    is_succeeded: Arc<AtomicBool>,
}

impl Lifecycle {
    /// A server that is starting.
    #[allow(clippy::new_without_default, reason = "a lifecycle begins; it is not a neutral value")]
    pub fn new() -> Self {
        let phase = Arc::new(watch::Sender::new(Phase::Starting));
        Self { phase, is_drained: Arc::default(), is_succeeded: Arc::default() }
    }

    /// How far the server is now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether an operator has load balancers go elsewhere, whatever the phase. Unlike a stop, that can be taken back.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// Load balancers are told to go elsewhere, or not any more; says whether that is news.
    pub(crate) fn set_drained(&self, is_drained: bool) -> bool {
        self.is_drained.swap(is_drained, Ordering::Relaxed) != is_drained
    }

    /// Whether a successor has the listeners, or had them before this server closed.
    pub(crate) fn is_succeeded(&self) -> bool {
        self.is_succeeded.load(Ordering::Acquire)
    }

    /// Goes on to `phase`; never back.
    pub(crate) fn advance(&self, phase: Phase) {
        if phase == Phase::Retiring {
            self.is_succeeded.store(true, Ordering::Release);
        }
        self.phase.send_if_modified(|current| {
            let is_later = phase > *current;
            *current = phase.max(*current);
            is_later
        });
    }

    /// Waits until the server is at least at `phase`.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }
}
