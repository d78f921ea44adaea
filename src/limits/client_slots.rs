//! A client's share of places, so that one that dawdles does not keep the others out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::client_key::ClientKey;

/// How many places each client has. Only clients that have or want one are known. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClientSlots {
    each: usize,
    refused: Arc<AtomicU64>,
    clients: Arc<Mutex<HashMap<ClientKey, Arc<Semaphore>, foldhash::fast::RandomState>>>,
}

/// One of a client's places; returned when dropped.
pub(crate) struct ClientSlot {
    permit: Option<OwnedSemaphorePermit>,
    /// Forgotten with the last of its places.
    _known: Known,
}

/// Keeps a client known.
struct Known {
    places: ClientSlots,
    client: ClientKey,
    semaphore: Option<Arc<Semaphore>>,
}

impl ClientSlots {
    /// So many places for each.
    pub(crate) fn new(each: usize) -> Self {
        Self { each, refused: Arc::default(), clients: Arc::default() }
    }

    /// One of the client's places, if it has one left before the deadline.
    pub(crate) async fn take_before(&self, deadline: Instant, client: ClientKey) -> Option<ClientSlot> {
        let known = self.known(client);
        let place = Arc::clone(known.semaphore.as_ref()?).acquire_owned();
        let permit = tokio::time::timeout_at(deadline, place).await.ok().and_then(Result::ok);
        self.given(permit, known)
    }

    /// One of the client's places, if it has one left now.
    pub(crate) fn take(&self, client: ClientKey) -> Option<ClientSlot> {
        let known = self.known(client);
        let permit = Arc::clone(known.semaphore.as_ref()?).try_acquire_owned().ok();
        self.given(permit, known)
    }

    /// How often a client had no place left.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn given(&self, permit: Option<OwnedSemaphorePermit>, known: Known) -> Option<ClientSlot> {
        if permit.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        Some(ClientSlot { permit: Some(permit?), _known: known })
    }

    fn known(&self, client: ClientKey) -> Known {
        let mut clients = self.clients.lock();
        let semaphore = clients.entry(client).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        Known { places: self.clone(), client, semaphore: Some(Arc::clone(semaphore)) }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        // Before the client is forgotten: a permit holds on to its semaphore.
        self.permit = None;
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut clients = self.places.clients.lock();
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
    async fn each_client_has_so_many_places_and_who_has_none_is_forgotten() {
        let places = ClientSlots::new(2);
        let (one, other) = (ClientKey::V4(1), ClientKey::V4(2));
        let soon = Instant::now() + std::time::Duration::from_secs(60);
        let held = [places.take(one), places.take_before(soon, one).await];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        assert!(places.take_before(Instant::now(), one).await.is_none());
        assert_eq!(places.refused(), 2);
        let mut waiting = std::pin::pin!(places.take_before(soon, one));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(waiting.await.is_some());
        assert!(places.clients.lock().is_empty());
    }
}
