//! Limits on requests: the rate of each client, the rate of all clients, and concurrent requests of one client.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::clients::{ClientState, CountedSlot};
use crate::config::{ClientsGroup, Config, Count};
use crate::http::client_key::{ClientKey, ClientPrefixes};
use crate::http::forwarded_for::{Attribution, ClientAddress};
use crate::limits::request_rate::{Rate, RequestBucket, seconds_up};
use crate::sys::gcra::RateClock;

/// Limits as configured.
pub(crate) struct RequestLimits {
    client: Option<Rate>,
    total: Option<Rate>,
    at_once: Option<usize>,
    /// Connections of one client; `None`: no limit.
    pub(crate) client_connections: Option<usize>,
    /// Sizes of the networks that count as one client.
    pub(crate) prefixes: ClientPrefixes,
    pub(crate) clients: Arc<ClientsGroup>,
}

/// The total request rate of all clients, and counters.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    clock: RateClock,
    total: RequestBucket,
    refused: [AtomicU64; 3],
    /// The highest number of concurrent requests of one client; 0 if they are not limited.
    pub(crate) most_at_once: AtomicUsize,
}

/// The limit that a refused request exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitExceeded {
    /// The rate of its client.
    Client,
    /// The rate of all clients.
    Total,
    /// The concurrent requests of its client.
    AtOnce,
}

/// Permission to serve a request. Held until its response was sent, so that it counts as in progress.
#[derive(Debug)]
pub(crate) struct RequestPermit {
    /// The client.
    pub(crate) key: ClientKey,
    /// No limit applies to the client.
    pub(crate) is_exempt: bool,
    /// `None` if no limit is active, or none applies to the client.
    pub(crate) _slot: Option<CountedSlot<Arc<ClientState>>>,
}

/// A refused request.
#[derive(Debug)]
pub(crate) struct RateLimited {
    pub(crate) why: LimitExceeded,
    /// Whole seconds for the `Retry-After` header.
    pub(crate) retry_after: u64,
}

impl RequestLimits {
    pub(crate) fn new(config: &Config) -> Self {
        let (rates, clients) = (&config.rates, &config.clients);
        let bits = |count: Count| u8::try_from(count.get()).unwrap_or(u8::MAX);
        Self {
            client: Rate::new("client", &rates.client_requests, &rates.client_requests_burst),
            total: Rate::new("total", &rates.total_requests, &rates.total_requests_burst),
            at_once: rates.client_requests_at_once.given().map(|count| count.as_usize()),
            client_connections: rates.client_connections.given().map(|count| count.as_usize()),
            prefixes: ClientPrefixes {
                v4: bits(clients.client_v4_prefix),
                v6: bits(clients.client_v6_prefix),
            },
            clients: Arc::clone(clients),
        }
    }

    /// Whether no limit on requests is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.client.is_none() && self.total.is_none() && self.at_once.is_none()
    }

    /// Whether any limit on requests or a trusted proxy is configured.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_empty() || !self.clients.trusted_proxies.is_empty()
    }

    /// Whether the client is exempt from limits. A client that is not known for certain is not, even if its proxy is.
    pub(crate) fn exempt(&self, client: ClientAddress) -> bool {
        client.attribution == Attribution::Resolved && self.exempt_address(client.address)
    }

    /// Whether an address is exempt; `None` is a unix socket.
    pub(crate) fn exempt_address(&self, address: Option<IpAddr>) -> bool {
        self.clients.unlimited_clients.trusts_peer(address)
    }

    /// Admits or refuses a request of `client`, and returns `RateLimit` header lines for its response.
    ///
    /// Requests over the concurrency limit are not charged to a rate. Requests over the total rate are charged to the client.
    pub(crate) fn admit(
        &self,
        key: ClientKey,
        client: Arc<ClientState>,
        requests: &Requests,
    ) -> (Result<RequestPermit, RateLimited>, String) {
        let max = self.at_once.unwrap_or(usize::MAX);
        let Some(slot) = CountedSlot::take(Arc::clone(&client), |client| &client.requests, max) else {
            return (Err(requests.refuse(LimitExceeded::AtOnce, Duration::ZERO)), String::new());
        };
        if self.at_once.is_some() {
            requests.most_at_once.fetch_max(client.requests.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let mut lines = String::new();
        if let Some(rate) = &self.client {
            match client.rate.take(rate, requests.clock.now()) {
                Ok(left) => lines = rate.lines(left, rate.until_full(left)),
                Err(wait) => return (Err(requests.refuse(LimitExceeded::Client, wait)), rate.lines(0, wait)),
            }
        }
        if let Some(rate) = &self.total
            && let Err(wait) = requests.total.take(rate, requests.clock.now())
        {
            return (Err(requests.refuse(LimitExceeded::Total, wait)), rate.lines(0, wait));
        }
        (Ok(RequestPermit { key, is_exempt: false, _slot: Some(slot) }), lines)
    }
}

impl Requests {
    /// Requests refused since the start because of this limit.
    pub(crate) fn refused(&self, why: LimitExceeded) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    fn refuse(&self, why: LimitExceeded, wait: Duration) -> RateLimited {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        RateLimited { why, retry_after: seconds_up(wait) }
    }
}

impl LimitExceeded {
    /// For the log, after the client's name.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Client => "exceeds client_requests",
            Self::Total => "was refused: all clients together exceed total_requests",
            Self::AtOnce => "exceeds client_requests_at_once",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auto, RatesGroup, RequestRate, Toggle};
    use crate::limits::clients::ClientTable;

    fn limits(client: Option<&str>, total: Option<&str>, at_once: Option<u64>) -> RequestLimits {
        let rate = |text: Option<&str>| {
            text.map_or(Toggle::Off, |text| Toggle::<RequestRate>::Given(text.parse().unwrap()))
        };
        RequestLimits::new(&Config {
            rates: RatesGroup {
                client_requests: rate(client),
                total_requests: rate(total),
                client_requests_at_once: at_once.map_or(Toggle::Off, |count| Toggle::Given(Count::of(count))),
                client_requests_burst: Auto::Auto,
                ..RatesGroup::default()
            }
            .into(),
            clients: ClientsGroup {
                unlimited_clients: "192.0.2.0/24,unix".parse().unwrap(),
                ..ClientsGroup::default()
            }
            .into(),
            ..Config::default()
        })
    }

    /// Admits a request of each of these clients, keeping all permits, and compares which limits refuse them.
    #[track_caller]
    fn check(limits: &RequestLimits, clients: &[u32], expected: &[Option<LimitExceeded>]) {
        let (table, requests) = (ClientTable::new(16), Requests::default());
        let mut held = Vec::new();
        let seen: Vec<_> = clients
            .iter()
            .map(|&client| {
                let key = ClientKey::V4(client);
                match limits.admit(key, table.get(key), &requests).0 {
                    Ok(permit) => {
                        held.push(permit);
                        None
                    }
                    Err(refusal) => Some(refusal.why),
                }
            })
            .collect();
        assert_eq!(seen, expected);
        for why in [LimitExceeded::Client, LimitExceeded::Total, LimitExceeded::AtOnce] {
            let count = expected.iter().filter(|seen| **seen == Some(why)).count();
            assert_eq!(requests.refused(why), count as u64, "{why:?}");
        }
    }

    #[test]
    fn each_limit_refuses_requests_above_it() {
        use LimitExceeded::{AtOnce, Client, Total};
        check(&limits(Some("2/h"), None, None), &[1, 1, 1, 2], &[None, None, Some(Client), None]);
        check(&limits(None, Some("2/h"), None), &[1, 2, 3, 1], &[None, None, Some(Total), Some(Total)]);
        check(&limits(None, None, Some(1)), &[1, 2, 1], &[None, None, Some(AtOnce)]);
        check(
            &limits(Some("1/h"), Some("2/h"), None),
            &[1, 1, 2, 3],
            &[None, Some(Client), None, Some(Total)],
        );
    }

    #[test]
    fn dropped_permits_and_refused_requests_are_not_in_progress() {
        let (table, requests, limits) =
            (ClientTable::new(16), Requests::default(), limits(Some("2/h"), None, Some(1)));
        let admit = || limits.admit(ClientKey::V4(1), table.get(ClientKey::V4(1)), &requests).0;
        for _ in 0..2 {
            assert!(admit().is_ok());
        }
        for _ in 0..2 {
            assert_eq!(admit().unwrap_err().why, LimitExceeded::Client);
        }
        assert_eq!(table.get(ClientKey::V4(1)).requests.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_a_client_known_for_certain_is_exempt() {
        let limits = limits(None, None, None);
        for (address, attribution, expected) in [
            (Some("192.0.2.7"), Attribution::Resolved, true),
            (Some("192.0.2.7"), Attribution::Truncated, false),
            (Some("192.0.2.7"), Attribution::Conflicting, false),
            (Some("198.51.100.1"), Attribution::Resolved, false),
            (None, Attribution::Resolved, true),
        ] {
            let address = address.map(|text| text.parse().unwrap());
            assert_eq!(
                limits.exempt(ClientAddress { address, attribution }),
                expected,
                "{address:?} {attribution:?}"
            );
        }
    }
}
