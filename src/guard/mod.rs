//! Who may have how much.
//!
//! | room          | what it knows                                                         |
//! |---------------|-----------------------------------------------------------------------|
//! | `clients`     | what each client has now                                              |
//! | `connections` | how many connections there may be, and which goes for another         |
//! | `gate`        | who is turned away before anything is looked up                       |

pub(crate) mod clients;
pub(crate) mod connections;
pub(crate) mod gate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::clients::{Client, Clients, take};
pub use self::connections::ConnectionCounts;
use self::connections::Connections;
use crate::config::{Config, Limits, ProxyList};
use crate::http::client::{ClientKey, Prefixes};

/// What all workers know of the clients. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    prefixes: Prefixes,
    unlimited: ProxyList,
    proxies: ProxyList,
    clients: Clients,
    connections: Connections,
    /// Connections of one client; none for no bound.
    client_connections: Option<usize>,
    refused_clients: AtomicU64,
}

/// A connection's share of what its client may have; returned when dropped.
pub(crate) struct ClientShare {
    client: Option<Arc<Client>>,
}

/// A client has as many connections as it may.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Guard {
    /// The guard as it is configured, within `limits`.
    pub fn new(config: &Config, limits: &Limits) -> Self {
        let bits = |count: u64| u8::try_from(count).unwrap_or(u8::MAX);
        let prefixes =
            Prefixes { v4: bits(config.client_v4_prefix.get()), v6: bits(config.client_v6_prefix.get()) };
        let clients = Clients::new(config.clients.as_usize());
        let inner = Inner {
            prefixes,
            unlimited: config.unlimited_clients.clone(),
            proxies: config.trusted_proxies.clone(),
            clients,
            connections: Connections::new(limits.max_connections, limits.refusals),
            client_connections: config.client_connections.given().map(|count| count.as_usize()),
            refused_clients: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What became of the bound on connections.
    pub fn connection_counts(&self) -> ConnectionCounts {
        self.inner.connections.counts()
    }

    /// Connections that were refused since the start because their clients had as many as they may.
    pub fn refused_clients(&self) -> u64 {
        self.inner.refused_clients.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.inner.connections
    }

    /// The client at the other end of a connection; none is a unix socket.
    pub(crate) fn client_at(&self, peer: Option<SocketAddr>) -> ClientKey {
        ClientKey::of(peer.map(|peer| peer.ip()), self.inner.prefixes)
    }

    /// One more connection of the client at `peer`.
    ///
    /// # Errors
    /// Where it has as many as it may. Whoever is beyond limits, and whoever comes over a unix socket, is not counted.
    pub(crate) fn admit_client(&self, peer: Option<SocketAddr>) -> Result<ClientShare, TooMany> {
        let (Some(max), Some(key)) = (self.inner.client_connections, self.bounded(peer)) else {
            return Ok(ClientShare { client: None });
        };
        let client = self.inner.clients.get(key);
        if take(&client.connections, max) {
            return Ok(ClientShare { client: Some(client) });
        }
        let before = self.inner.refused_clients.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(TOLD_EVERY) {
            log::warn!("{key} has {max} connections: a further one was refused, number {}", before + 1);
        }
        Err(TooMany)
    }

    /// The client at the other end of a connection, where it is one whose connections and places are bounded: proxies that
    /// are trusted speak for many, some clients have no limits, and peers on unix sockets can't be told apart.
    pub(crate) fn bounded(&self, peer: Option<SocketAddr>) -> Option<ClientKey> {
        let address = peer?.ip();
        let is_exempt = self.inner.unlimited.trusts(address) || self.inner.proxies.trusts(address);
        (!is_exempt).then(|| self.client_at(peer))
    }
}

impl Drop for ClientShare {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            client.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

const TOLD_EVERY: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Count, OrOff};

    fn guard(max: u64) -> Guard {
        let config = Config {
            client_connections: OrOff::Given(Count::of(max)),
            unlimited_clients: "192.0.2.1".parse().unwrap(),
            trusted_proxies: "198.51.100.0/24".parse().unwrap(),
            ..Config::default()
        };
        Guard::new(&config, &Limits::default())
    }

    #[test]
    fn a_client_has_so_many_connections_and_no_more_until_one_ends() {
        let guard = guard(2);
        let at = |address: &str| guard.admit_client(Some(format!("{address}:1").parse().unwrap()));
        let first = at("192.0.2.7").unwrap();
        let _second = at("192.0.2.7").unwrap();
        assert!(at("192.0.2.7").is_err());
        assert!(at("192.0.2.8").is_ok(), "another client has its own");
        assert_eq!(guard.refused_clients(), 1);
        drop(first);
        assert!(at("192.0.2.7").is_ok());
    }

    #[test]
    fn proxies_those_without_limits_and_unix_sockets_are_not_counted() {
        let guard = guard(1);
        for peer in [Some("192.0.2.1:1"), Some("198.51.100.9:1"), Some("[::ffff:192.0.2.1]:1"), None] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            let shares = [guard.admit_client(peer), guard.admit_client(peer)];
            assert!(shares.iter().all(Result::is_ok), "{peer:?}");
        }
    }
}
