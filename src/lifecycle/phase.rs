//! Phases of the server: starting → warming → ready → draining or retiring → closing → ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::http::named_enum::named_enum;

named_enum! {
    /// A phase of the server.
    #[derive(PartialOrd, Ord)]
    pub enum Phase {
        /// Components and workers are starting.
        Starting => "starting",
        /// It serves, and reads recently used files into the caches; readiness checks fail.
        Warming => "warming",
        /// It serves.
        Ready => "ready",
        /// It still serves; readiness checks fail.
        Draining => "draining",
        /// A successor has the listeners. Every response is the last on its connection; idle connections are kept for a request that
        /// may be on its way.
        Retiring => "retiring",
        /// Listeners are closed; responses under way finish.
        Closing => "closing",
        /// Responses that have not finished are cut.
        Ended => "ended",
    }
}

/// The current phase. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    /// An operator has made readiness checks fail, whatever the phase. Unlike a stop, that can be undone.
    pub(crate) is_drained: Arc<AtomicBool>,
    /// A successor has the listeners, or had them before this server closed.
    pub(crate) is_succeeded: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Creates the lifecycle of a server that is starting.
    #[allow(clippy::new_without_default, reason = "a lifecycle begins; it is not a neutral value")]
    pub fn new() -> Self {
        let phase = Arc::new(watch::Sender::new(Phase::Starting));
        Self { phase, is_drained: Arc::default(), is_succeeded: Arc::default() }
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters `phase`; does nothing if it was passed already.
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

    /// Waits until the server is in `phase` or a later one.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }
}
