//! What is known of each client, bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use super::bandwidth::allowance::Allowances;
use super::rate::Bucket;
use super::telling::Told;
use crate::http::client::ClientKey;

/// The clients that were seen last. Those that somebody holds on to stay, beyond the bound where need be: the connections
/// bound them.
pub(crate) struct Clients {
    seen: Mutex<LinkedHashMap<ClientKey, Arc<Client>, RandomState>>,
    max: usize,
}

/// What one client has now.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Connections that are open.
    pub(crate) connections: AtomicUsize,
    /// Requests that are under way.
    pub(crate) requests: AtomicUsize,
    /// Requests that it may still make.
    pub(crate) rate: Bucket,
    /// When the log last heard of it.
    pub(crate) told: Told,
    /// What it may be sent.
    pub(crate) allowances: Allowances,
}

impl Clients {
    /// At most `max` clients that nobody holds on to are remembered.
    pub(crate) fn new(max: usize) -> Self {
        Self { seen: Mutex::new(LinkedHashMap::with_hasher(RandomState::default())), max: max.max(1) }
    }

    /// The client of that key, which is now the one that was seen last.
    pub(crate) fn get(&self, key: ClientKey) -> Arc<Client> {
        let mut seen = self.seen.lock();
        if let Some(known) = seen.to_back(&key) {
            return Arc::clone(known);
        }
        if seen.len() >= self.max {
            forget_one(&mut seen);
        }
        let client = Arc::new(Client::default());
        seen.insert(key, Arc::clone(&client));
        client
    }

    /// Clients that are remembered now.
    pub(crate) fn len(&self) -> usize {
        self.seen.lock().len()
    }
}

/// Forgets the client that was seen least recently, of those that nobody holds on to.
fn forget_one(seen: &mut LinkedHashMap<ClientKey, Arc<Client>, RandomState>) {
    for _ in 0..FORGET_TRIES {
        let Some((key, client)) = seen.front() else { return };
        let (key, is_held) = (*key, Arc::strong_count(client) > 1);
        if is_held {
            seen.to_back(&key);
        } else {
            seen.remove(&key);
            return;
        }
    }
}

/// Clients that are looked at for one that may be forgotten.
const FORGET_TRIES: usize = 16;

/// Takes one of `max`, if there is one left.
pub(crate) fn take(count: &AtomicUsize, max: usize) -> bool {
    if count.fetch_add(1, Ordering::Relaxed) < max {
        return true;
    }
    count.fetch_sub(1, Ordering::Relaxed);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_seen_go_and_those_held_on_to_stay() {
        let clients = Clients::new(2);
        let held = clients.get(ClientKey::V4(1));
        held.requests.store(7, Ordering::Relaxed);
        clients.get(ClientKey::V4(2)).requests.store(7, Ordering::Relaxed);
        clients.get(ClientKey::V4(3));
        assert_eq!(clients.len(), 2);
        assert_eq!(clients.get(ClientKey::V4(1)).requests.load(Ordering::Relaxed), 7);
        assert_eq!(clients.get(ClientKey::V4(2)).requests.load(Ordering::Relaxed), 0);
    }
}
