//! Concurrency slots for slow work, a fixed number for each client, so that one client cannot take them all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::client_key::ClientKey;

/// Slots of all clients. Only clients that hold or wait for one are stored. Clones are cheap and share one state.
#[derive(Clone)]
pub(crate) struct ClientSlots {
    each: usize,
    refused: Arc<AtomicU64>,
    clients: Arc<Mutex<HashMap<ClientKey, Arc<Semaphore>, foldhash::fast::RandomState>>>,
}

/// One of a client's slots, released when dropped.
pub(crate) struct ClientSlot {
    // Dropped first: it refers to the semaphore, which the entry counts.
    _permit: OwnedSemaphorePermit,
    _entry: ClientEntry,
}

/// Keeps a client in the map; the last one of a client removes it.
struct ClientEntry {
    slots: ClientSlots,
    client: ClientKey,
    /// `None` once it is being dropped.
    semaphore: Option<Arc<Semaphore>>,
}

impl ClientSlots {
    /// `each` slots for every client.
    pub(crate) fn new(each: usize) -> Self {
        Self { each, refused: Arc::default(), clients: Arc::default() }
    }

    /// Takes one of the client's slots, waiting until the deadline. `None` if there was none.
    pub(crate) async fn take_before(&self, deadline: Instant, client: ClientKey) -> Option<ClientSlot> {
        let entry = self.entry(client);
        let slot = Arc::clone(entry.semaphore.as_ref()?).acquire_owned();
        let permit = tokio::time::timeout_at(deadline, slot).await.ok().and_then(Result::ok);
        self.slot(permit, entry)
    }

    /// Takes one of the client's slots if there is one now.
    pub(crate) fn take(&self, client: ClientKey) -> Option<ClientSlot> {
        let entry = self.entry(client);
        let permit = Arc::clone(entry.semaphore.as_ref()?).try_acquire_owned().ok();
        self.slot(permit, entry)
    }

    /// How often a client got no slot.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn slot(&self, permit: Option<OwnedSemaphorePermit>, entry: ClientEntry) -> Option<ClientSlot> {
        if permit.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Some(ClientSlot { _permit: permit?, _entry: entry })
    }

    fn entry(&self, client: ClientKey) -> ClientEntry {
        let mut clients = self.clients.lock();
        let semaphore = clients.entry(client).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        ClientEntry { slots: self.clone(), client, semaphore: Some(Arc::clone(semaphore)) }
    }
}

impl Drop for ClientEntry {
    fn drop(&mut self) {
        let mut clients = self.slots.clients.lock();
        // Under the lock, so that of two entries that are dropped at once the second one sees that it is the last.
        self.semaphore = None;
        if clients.get(&self.client).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_client_has_its_slots_and_is_removed_with_the_last() {
        let slots = ClientSlots::new(2);
        let (one, other) = (ClientKey::V4(1), ClientKey::V4(2));
        let soon = Instant::now() + std::time::Duration::from_secs(60);
        let held = [slots.take(one), slots.take_before(soon, one).await];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take(one).is_none());
        assert!(slots.take(other).is_some());
        assert!(slots.take_before(Instant::now(), one).await.is_none());
        assert_eq!(slots.refused(), 2);
        let mut waiting = std::pin::pin!(slots.take_before(soon, one));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(waiting.await.is_some());
        assert!(slots.clients.lock().is_empty());
    }
}
