//! Who may have how much.
//!
//! | room          | what it knows                                                         |
//! |---------------|-----------------------------------------------------------------------|
//! | `bandwidth`   | how fast responses are sent                                           |
//! | `clients`     | what each client has now                                              |
//! | `connections` | how many connections there may be                                     |
//! | `gate`        | who is turned away before anything is looked up                       |

pub(crate) mod bandwidth;
pub(crate) mod clients;
pub(crate) mod connections;
pub(crate) mod gate;

use std::net::SocketAddr;
use std::sync::Arc;

use self::bandwidth::Bandwidth;
pub use self::bandwidth::BandwidthCounts;
use self::clients::{Client, Clients};
use crate::config::{Config, ProxyList};
use crate::http::client::{ClientKey, Prefixes};

/// What all workers know of the clients. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    prefixes: Prefixes,
    unlimited: ProxyList,
    clients: Clients,
    bandwidth: Bandwidth,
}

impl Guard {
    /// The guard as it is configured.
    pub fn new(config: &Config) -> Self {
        let bits = |count: u64| u8::try_from(count).unwrap_or(u8::MAX);
        let prefixes =
            Prefixes { v4: bits(config.client_v4_prefix.get()), v6: bits(config.client_v6_prefix.get()) };
        let clients = Clients::new(config.clients.as_usize());
        let bandwidth = Bandwidth::new(config);
        let inner = Inner { prefixes, unlimited: config.unlimited_clients.clone(), clients, bandwidth };
        Self { inner: Arc::new(inner) }
    }

    /// What the limits on bandwidth did.
    pub fn bandwidth_counts(&self) -> BandwidthCounts {
        self.inner.bandwidth.counts()
    }

    /// Shares the rate of all clients out among those who wait for it, for as long as it is polled.
    pub async fn share_bandwidth(&self) {
        self.inner.bandwidth.share().await;
    }

    pub(crate) fn bandwidth(&self) -> &Bandwidth {
        &self.inner.bandwidth
    }

    /// What is known of a client.
    pub(crate) fn client(&self, key: ClientKey) -> Arc<Client> {
        self.inner.clients.get(key)
    }

    /// Whether no limit holds for who is at that address; none is a unix socket.
    pub(crate) fn is_unlimited(&self, peer: Option<SocketAddr>) -> bool {
        let unlimited = &self.inner.unlimited;
        peer.map_or_else(|| unlimited.trusts_unix(), |peer| unlimited.trusts(peer.ip()))
    }

    /// The client at the other end of a connection; none is a unix socket.
    pub(crate) fn client_at(&self, peer: Option<SocketAddr>) -> ClientKey {
        ClientKey::of(peer.map(|peer| peer.ip()), self.inner.prefixes)
    }
}
