//! How many requests clients may make: each of them and all together, in a span of time and at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::clients::{ClientState, take};
use super::rate::{Rate, RequestBucket, seconds_up};
use crate::config::{Auto, Config, Count, ProxyList};
use crate::http::client_key::ClientKey;
use crate::http::forwarded_for::{Attribution, ClientAddress};

/// What the configuration allows.
pub(crate) struct RequestLimits {
    client: Option<Rate>,
    total: Option<Rate>,
    at_once: Option<usize>,
    client_connections: Option<usize>,
    unlimited: ProxyList,
}

/// What is left of it, and what was refused.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    total: RequestBucket,
    refused: [AtomicU64; 3],
    /// The most that one client had under way at once.
    most_at_once: AtomicUsize,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitExceeded {
    /// The client makes too many.
    Client,
    /// All clients together do.
    Total,
    /// The client has too many under way.
    AtOnce,
}

/// A request that may be served. Held until its response has left: then others may have its place.
#[derive(Debug)]
pub(crate) struct RequestPermit {
    /// For whom it is.
    pub(crate) key: ClientKey,
    /// What that client has; none where no limit asks for it.
    pub(crate) client: Option<Arc<ClientState>>,
    /// No limit applies to it.
    pub(crate) is_exempt: bool,
    is_counted: bool,
}

/// A request that may not be served.
#[derive(Debug)]
pub(crate) struct RateLimited {
    pub(crate) why: LimitExceeded,
    /// Whole seconds after which it is worth another try.
    pub(crate) retry_after: u64,
}

impl RequestLimits {
    pub(crate) fn new(config: &Config) -> Self {
        let burst = |given: Auto<Count>| given.given().map(Count::get);
        let (client_burst, total_burst) =
            (burst(config.rates.client_requests_burst), burst(config.rates.total_requests_burst));
        let (client, total) = (config.rates.client_requests.given(), config.rates.total_requests.given());
        Self {
            client: client.and_then(|rate| Rate::new("client", *rate, client_burst)),
            total: total.and_then(|rate| Rate::new("total", *rate, total_burst)),
            at_once: config.rates.client_requests_at_once.given().map(|count| count.as_usize()),
            client_connections: config.rates.client_connections.given().map(|count| count.as_usize()),
            unlimited: config.clients.unlimited_clients.clone(),
        }
    }

    /// Connections of one client; none for no bound.
    pub(crate) fn client_connections(&self) -> Option<usize> {
        self.client_connections
    }

    /// Whether there is no limit.
    pub(crate) fn is_empty(&self) -> bool {
        self.client.is_none() && self.total.is_none() && self.at_once.is_none()
    }

    /// Whether no limit applies to who asks. Who is not known for certain has none of the privileges of its proxy.
    pub(crate) fn exempt(&self, asker: ClientAddress) -> bool {
        asker.word == Attribution::Good && self.exempt_address(asker.address)
    }

    /// The same of an address; none is a unix socket.
    pub(crate) fn exempt_address(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => self.unlimited.trusts(address),
            None => self.unlimited.trusts_unix(),
        }
    }

    /// Lets a request of `client` pass, or refuses it; and field lines for its response.
    ///
    /// What is refused because too many are under way costs nothing of a rate; what the total rate refuses has cost the
    /// client's.
    pub(crate) fn admit(
        &self,
        key: ClientKey,
        client: Arc<ClientState>,
        requests: &Requests,
    ) -> (Result<RequestPermit, RateLimited>, String) {
        let max = self.at_once.unwrap_or(usize::MAX);
        let is_beyond = self.at_once.is_some() && !take(&client.requests, max);
        if self.at_once.is_some() && !is_beyond {
            requests.most_at_once.fetch_max(client.requests.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if is_beyond {
            return (Err(requests.refuse(LimitExceeded::AtOnce, Duration::ZERO)), String::new());
        }
        let pass =
            RequestPermit { key, client: Some(client), is_exempt: false, is_counted: self.at_once.is_some() };
        let mut lines = String::new();
        if let (Some(rate), Some(client)) = (&self.client, &pass.client) {
            match client.rate.take(rate) {
                Ok(left) => lines = rate.lines(left, rate.until_full(left)),
                Err(wait) => return (Err(requests.refuse(LimitExceeded::Client, wait)), rate.lines(0, wait)),
            }
        }
        if let Some(rate) = &self.total
            && let Err(wait) = requests.total.take(rate)
        {
            return (Err(requests.refuse(LimitExceeded::Total, wait)), rate.lines(0, wait));
        }
        (Ok(pass), lines)
    }
}

impl Requests {
    /// Requests refused since the start, for that reason.
    pub(crate) fn refused(&self, why: LimitExceeded) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// The most requests that one client had under way at once, where they are bounded.
    pub(crate) fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::Relaxed)
    }

    fn refuse(&self, why: LimitExceeded, wait: Duration) -> RateLimited {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        RateLimited { why, retry_after: seconds_up(wait) }
    }
}

impl RequestPermit {
    /// A pass that no limit was asked for.
    pub(crate) fn uncounted(key: ClientKey, is_exempt: bool) -> Self {
        Self { key, client: None, is_exempt, is_counted: false }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        if let Some(client) = self.client.as_ref().filter(|_| self.is_counted) {
            client.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl LimitExceeded {
    /// For the log, behind the client's name.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Client => "makes more requests than client_requests",
            Self::Total => "is refused: all clients together make more requests than total_requests",
            Self::AtOnce => "has more requests under way than client_requests_at_once",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientsGroup, RatesGroup, RequestRate, Toggle};
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

    /// Who of these clients is let pass, all passes being held; and then why others are not.
    #[track_caller]
    fn check(limits: &RequestLimits, clients: &[u32], expected: &[Option<LimitExceeded>]) {
        let (table, requests) = (ClientTable::new(16), Requests::default());
        let mut held = Vec::new();
        let seen: Vec<_> = clients
            .iter()
            .map(|&client| {
                let key = ClientKey::V4(client);
                match limits.admit(key, table.get(key), &requests).0 {
                    Ok(pass) => {
                        held.push(pass);
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
    fn each_limit_refuses_what_is_beyond_it() {
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
    fn a_pass_that_is_dropped_gives_its_place_back_and_a_refused_one_keeps_none() {
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
    fn who_is_exempt_must_be_known_for_certain() {
        let limits = limits(None, None, None);
        for (address, word, expected) in [
            (Some("192.0.2.7"), Attribution::Good, true),
            (Some("192.0.2.7"), Attribution::Short, false),
            (Some("192.0.2.7"), Attribution::Contradictory, false),
            (Some("198.51.100.1"), Attribution::Good, false),
            (None, Attribution::Good, true),
        ] {
            let address = address.map(|text| text.parse().unwrap());
            assert_eq!(limits.exempt(ClientAddress { address, word }), expected, "{address:?} {word:?}");
        }
    }
}
