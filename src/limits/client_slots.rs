//! Concurrency slots for slow work, a fixed number for each client, so that one client cannot take them all.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::client_key::ClientKey;
use crate::telemetry::metrics::counter::Counter;

/// Slots of all clients. Stores at most about four times as many clients as held or waited for one at the peak.
pub(crate) struct ClientSlots {
    each: usize,
    /// How often a client got no slot.
    pub(crate) refused: Counter,
    clients: Mutex<HashMap<ClientKey, Arc<Semaphore>, foldhash::fast::RandomState>>,
}

/// One of a client's slots, released when dropped.
pub(crate) type ClientSlot = OwnedSemaphorePermit;

impl ClientSlots {
    /// `each` slots for every client.
    pub(crate) fn new(each: usize) -> Self {
        Self { each, refused: Counter::default(), clients: Mutex::default() }
    }

    /// Takes one of the client's slots, waiting until the deadline. `None` if there was none.
    pub(crate) async fn take_before(&self, deadline: Instant, client: ClientKey) -> Option<ClientSlot> {
        let slot = self.semaphore(client).acquire_owned();
        let slot = tokio::time::timeout_at(deadline, slot).await.ok().and_then(Result::ok);
        self.count_refusal(slot)
    }

    /// Takes one of the client's slots if there is one now.
    pub(crate) fn take(&self, client: ClientKey) -> Option<ClientSlot> {
        self.count_refusal(self.semaphore(client).try_acquire_owned().ok())
    }

    fn count_refusal(&self, slot: Option<ClientSlot>) -> Option<ClientSlot> {
        if slot.is_none() {
            self.refused.add_shared(1);
        }
        slot
    }

    fn semaphore(&self, client: ClientKey) -> Arc<Semaphore> {
        let mut clients = self.clients.lock();
        if clients.len() == clients.capacity() {
            // Before the map grows, clients that neither hold nor wait for a slot are removed.
            clients.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            // Nearly full again, each of the next calls would search the whole map.
            if clients.len() > clients.capacity() / 2 {
                let more = clients.len();
                clients.reserve(more);
            }
        }
        Arc::clone(clients.entry(client).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_client_has_its_own_slots() {
        let slots = ClientSlots::new(2);
        let (one, other) = (ClientKey::V4(1), ClientKey::V4(2));
        let soon = Instant::now() + std::time::Duration::from_secs(60);
        let held = [slots.take(one), slots.take_before(soon, one).await];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take(one).is_none());
        assert!(slots.take(other).is_some());
        assert!(slots.take_before(Instant::now(), one).await.is_none());
        assert_eq!(slots.refused.get(), 2);
        let mut waiting = std::pin::pin!(slots.take_before(soon, one));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(waiting.await.is_some());
    }

    #[tokio::test]
    async fn clients_without_slots_are_forgotten() {
        let slots = ClientSlots::new(1);
        let held = slots.take(ClientKey::V4(0));
        for client in 1..1000 {
            assert!(slots.take(ClientKey::V4(client)).is_some());
        }
        assert!(slots.take(ClientKey::V4(0)).is_none(), "its slot is still held");
        assert!(slots.clients.lock().len() < 10);
        drop(held);
    }
}
