//! The table of clients: a bounded cache of their state, by address or network.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use crate::http::client_key::ClientKey;
use crate::limits::attempts::FailedAttempts;
use crate::limits::client_bandwidth::ClientBuckets;
use crate::limits::request_rate::RequestBucket;

/// The most recently seen clients. A client whose state is in use is never evicted, even beyond the limit; the limit on
/// connections bounds those.
pub(crate) struct ClientTable {
    seen: Mutex<LinkedHashMap<ClientKey, Arc<ClientState>, RandomState>>,
    max: usize,
}

/// State of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientState {
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// Requests in progress.
    pub(crate) requests: AtomicUsize,
    /// What is left of its request rate.
    pub(crate) rate: RequestBucket,
    /// Wrong signed URLs, tokens and passwords.
    pub(crate) attempts: FailedAttempts,
    /// Its bandwidth.
    pub(crate) bandwidth: ClientBuckets,
}

impl ClientTable {
    /// A table of at most `max` clients that are not in use.
    pub(crate) fn new(max: usize) -> Self {
        Self { seen: Mutex::new(LinkedHashMap::with_hasher(RandomState::default())), max: max.max(1) }
    }

    /// The client with this key, created if needed, as the most recently seen one.
    pub(crate) fn get(&self, key: ClientKey) -> Arc<ClientState> {
        let mut seen = self.seen.lock();
        if let Some(known) = seen.to_back(&key) {
            return Arc::clone(known);
        }
        evict(&mut seen, self.max);
        let client = Arc::new(ClientState::default());
        seen.insert(key, Arc::clone(&client));
        client
    }

    /// Clients in the table.
    pub(crate) fn len(&self) -> usize {
        self.seen.lock().len()
    }
}

/// Evicts the least recently seen clients that are not in use until there is space for one more of `max`. That may be several:
/// an earlier call stops when it meets too many that are in use.
fn evict(seen: &mut LinkedHashMap<ClientKey, Arc<ClientState>, RandomState>, max: usize) {
    for _ in 0..EVICT_TRIES {
        if seen.len() < max {
            return;
        }
        let Some((key, client)) = seen.front() else { return };
        let (key, is_in_use) = (*key, Arc::strong_count(client) > 1);
        if is_in_use {
            seen.to_back(&key);
        } else {
            seen.remove(&key);
        }
    }
}

/// Clients examined for one that may be evicted.
const EVICT_TRIES: usize = 16;

/// One of a limited number, given back when dropped. The owner has the counter of those that are taken.
#[derive(Debug)]
pub(crate) struct CountedSlot<O: Deref> {
    owner: O,
    counter: fn(&O::Target) -> &AtomicUsize,
}

impl<O: Deref> CountedSlot<O> {
    /// Takes one unless `max` are taken.
    pub(crate) fn take(owner: O, counter: fn(&O::Target) -> &AtomicUsize, max: usize) -> Option<Self> {
        let taken = counter(&owner).fetch_add(1, Ordering::Relaxed);
        let slot = Self { owner, counter };
        (taken < max).then_some(slot)
    }
}

impl<O: Deref> Drop for CountedSlot<O> {
    fn drop(&mut self) {
        (self.counter)(&self.owner).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_seen_are_evicted_unless_in_use() {
        let clients = ClientTable::new(2);
        let held = clients.get(ClientKey::V4(1));
        held.requests.store(7, Ordering::Relaxed);
        clients.get(ClientKey::V4(2)).requests.store(7, Ordering::Relaxed);
        clients.get(ClientKey::V4(3));
        assert_eq!(clients.len(), 2);
        assert_eq!(clients.get(ClientKey::V4(1)).requests.load(Ordering::Relaxed), 7);
        assert_eq!(clients.get(ClientKey::V4(2)).requests.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn clients_in_use_do_not_make_others_accumulate() {
        let clients = ClientTable::new(16);
        let held: Vec<_> = (0..1000).map(|number| clients.get(ClientKey::V4(number))).collect();
        (1000..60_000).for_each(|number| drop(clients.get(ClientKey::V4(number))));
        let beyond = clients.len() - held.len();
        assert!(beyond <= 16 + held.len() / EVICT_TRIES, "{beyond}");
    }
}
