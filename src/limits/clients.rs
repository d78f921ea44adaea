//! What is known of each client, bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use super::rate::RequestBucket;
use crate::http::client_key::ClientKey;
use crate::limits::attempts::FailedAttempts;
use crate::limits::client_bandwidth::ClientBuckets;
use crate::telemetry::log_throttle::LastLogged;

/// The clients that were seen last. Those that somebody holds on to stay, beyond the bound where need be: the connections
/// bound them.
pub(crate) struct ClientTable {
    seen: Mutex<LinkedHashMap<ClientKey, Arc<ClientState>, RandomState>>,
    max: usize,
}

/// What one client has now.
#[derive(Debug, Default)]
pub(crate) struct ClientState {
    /// Connections that are open.
    pub(crate) connections: AtomicUsize,
    /// Requests that are under way.
    pub(crate) requests: AtomicUsize,
    /// Requests that it may still make.
    pub(crate) rate: RequestBucket,
    /// Links, tokens and passwords of it that were wrong.
    pub(crate) attempts: FailedAttempts,
    /// When the log last heard of it.
    pub(crate) told: LastLogged,
    /// What it may be sent.
    pub(crate) allowances: ClientBuckets,
}

impl ClientTable {
    /// At most `max` clients that nobody holds on to are remembered.
    pub(crate) fn new(max: usize) -> Self {
        Self { seen: Mutex::new(LinkedHashMap::with_hasher(RandomState::default())), max: max.max(1) }
    }

    /// The client of that key, which is now the one that was seen last.
    pub(crate) fn get(&self, key: ClientKey) -> Arc<ClientState> {
        let mut seen = self.seen.lock();
        if let Some(known) = seen.to_back(&key) {
            return Arc::clone(known);
        }
        make_room(&mut seen, self.max);
        let client = Arc::new(ClientState::default());
        seen.insert(key, Arc::clone(&client));
        client
    }

    /// Clients that are remembered now.
    pub(crate) fn len(&self) -> usize {
        self.seen.lock().len()
    }
}

/// Forgets clients that were seen least recently, of those that nobody holds on to, until there is room for one more of
/// `max`: more than one where others have been in the way before.
fn make_room(seen: &mut LinkedHashMap<ClientKey, Arc<ClientState>, RandomState>, max: usize) {
    for _ in 0..FORGET_TRIES {
        if seen.len() < max {
            return;
        }
        let Some((key, client)) = seen.front() else { return };
        let (key, is_held) = (*key, Arc::strong_count(client) > 1);
        if is_held {
            seen.to_back(&key);
        } else {
            seen.remove(&key);
        }
    }
}

/// Clients that are looked at for some that may be forgotten.
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
    fn clients_that_are_held_on_to_do_not_let_the_others_pile_up() {
        let clients = ClientTable::new(16);
        let held: Vec<_> = (0..1000).map(|number| clients.get(ClientKey::V4(number))).collect();
        (1000..60_000).for_each(|number| drop(clients.get(ClientKey::V4(number))));
        let beyond = clients.len() - held.len();
        assert!(beyond <= 16 + held.len() / FORGET_TRIES, "{beyond}");
    }
}
