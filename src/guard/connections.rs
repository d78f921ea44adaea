//! How many connections there may be, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clients::take;

/// A bound on connections, shared by the workers.
#[derive(Clone)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    open: AtomicUsize,
    refusing: AtomicUsize,
    max: AtomicUsize,
    refusing_max: usize,
}

/// A connection's share of the bound; returned when dropped.
pub(crate) struct Share {
    shared: Arc<Shared>,
    is_refusal: bool,
}

/// What a newcomer gets.
pub(crate) enum Admission {
    /// It is served.
    Serve(Share),
    /// The bound is reached: it is told so.
    Refuse(Share),
    /// Too many are being told already: it is closed.
    Drop,
}

impl Connections {
    /// At most `max` connections are served; beyond them `refusing_max` are told to come back.
    pub(crate) fn new(max: usize, refusing_max: usize) -> Self {
        let (open, refusing) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let max = AtomicUsize::new(max);
        Self { shared: Arc::new(Shared { open, refusing, max, refusing_max }) }
    }

    /// From now on at most `max` connections are served. Those beyond it that are being served stay.
    pub(crate) fn set_max(&self, max: usize) {
        self.shared.max.store(max, Ordering::Relaxed);
    }

    pub(crate) fn admit(&self) -> Admission {
        let share = |is_refusal| Share { shared: Arc::clone(&self.shared), is_refusal };
        if take(&self.shared.open, self.shared.max.load(Ordering::Relaxed)) {
            Admission::Serve(share(false))
        } else if take(&self.shared.refusing, self.shared.refusing_max) {
            Admission::Refuse(share(true))
        } else {
            Admission::Drop
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let count = if self.is_refusal { &self.shared.refusing } else { &self.shared.open };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_served_then_told_then_dropped_and_a_share_comes_back() {
        let connections = Connections::new(1, 1);
        let Admission::Serve(served) = connections.admit() else { panic!("the first is served") };
        let Admission::Refuse(_told) = connections.admit() else { panic!("the second is told") };
        assert!(matches!(connections.admit(), Admission::Drop));
        drop(served);
        assert!(matches!(connections.admit(), Admission::Serve(_)));
    }

    #[test]
    fn a_lower_bound_lets_those_stay_who_are_served_and_a_higher_one_newcomers_in() {
        let connections = Connections::new(2, 1);
        let (Admission::Serve(one), Admission::Serve(_other)) = (connections.admit(), connections.admit())
        else {
            panic!("both are served")
        };
        connections.set_max(1);
        drop(one);
        assert!(matches!(connections.admit(), Admission::Refuse(_)));
        connections.set_max(2);
        assert!(matches!(connections.admit(), Admission::Serve(_)));
    }
}
