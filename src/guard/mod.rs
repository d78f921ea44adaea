//! Who may have how much.
//!
//! | room          | what it knows                                                         |
//! |---------------|-----------------------------------------------------------------------|
//! | `clients`     | what each client has now                                              |
//! | `connections` | how many connections there may be                                     |
//! | `gate`        | who is turned away before anything is looked up                       |

pub(crate) mod clients;
pub(crate) mod connections;
pub(crate) mod gate;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::clients::Clients;
use crate::config::{Config, ProxyList};
use crate::http::client::{ClientKey, Prefixes};

/// What all workers know of the clients. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    limits: ArcSwap<ClientLimits>,
    clients: Clients,
}

/// What may change under way.
struct ClientLimits {
    prefixes: Prefixes,
    unlimited: ProxyList,
}

impl Guard {
    /// The guard as it is configured.
    pub fn new(config: &Config) -> Self {
        let clients = Clients::new(config.clients.as_usize());
        let inner = Inner { limits: ArcSwap::from_pointee(ClientLimits::of(config)), clients };
        Self { inner: Arc::new(inner) }
    }

    /// From now on the limits of `config` hold. What is known of each client stays.
    pub(crate) fn apply(&self, config: &Config) {
        self.inner.limits.store(Arc::new(ClientLimits::of(config)));
    }

    /// The client at the other end of a connection; none is a unix socket.
    pub(crate) fn client_at(&self, peer: Option<SocketAddr>) -> ClientKey {
        ClientKey::of(peer.map(|peer| peer.ip()), self.inner.limits.load().prefixes)
    }
}

impl ClientLimits {
    fn of(config: &Config) -> Self {
        let bits = |count: u64| u8::try_from(count).unwrap_or(u8::MAX);
        let prefixes =
            Prefixes { v4: bits(config.client_v4_prefix.get()), v6: bits(config.client_v6_prefix.get()) };
        Self { prefixes, unlimited: config.unlimited_clients.clone() }
    }
}
