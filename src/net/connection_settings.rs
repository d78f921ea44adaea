//! Settings of connections.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ConnectionsGroup, Http2Group, RequestsGroup, SendingGroup, TlsGroup};

/// The groups of the configuration that connections use. A reload replaces them.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    pub(super) requests: Arc<RequestsGroup>,
    pub(super) connections: Arc<ConnectionsGroup>,
    pub(super) sending: Arc<SendingGroup>,
    pub(super) tls: Arc<TlsGroup>,
    pub(super) http2: Arc<Http2Group>,
}

impl ConnectionSettings {
    /// Takes the groups from `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            requests: Arc::clone(&config.requests),
            connections: Arc::clone(&config.connections),
            sending: Arc::clone(&config.sending),
            tls: Arc::clone(&config.tls),
            http2: Arc::clone(&config.http2),
        }
    }

    /// Interval at which a response under way is checked: whether its client takes it, fast enough, and whether the
    /// disk delivers it.
    pub(super) fn check_interval(&self) -> Duration {
        let connections = &self.connections;
        let rate_from = connections.min_rate.given().map(|_| connections.min_rate_after.get());
        let shortest = connections.stall_timeout.get().min(self.sending.disk_timeout.get());
        rate_from.map_or(shortest, |from| shortest.min(from)) / CHECKS_PER_TIMEOUT
    }
}

/// Number of checks within the stall timeout.
const CHECKS_PER_TIMEOUT: u32 = 4;
