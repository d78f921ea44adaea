//! Who may have how much.
//!
//! | room          | what it knows                                                         |
//! |---------------|-----------------------------------------------------------------------|
//! | `access`      | who may have what is not for all                                      |
//! | `bandwidth`   | how fast responses are sent                                           |
//! | `clients`     | what each client has now                                              |
//! | `connections` | how many connections there may be, and which goes for another         |
//! | `gate`        | who is turned away before anything is looked up                       |
//! | `proxies`     | whose word is taken for who the client is                             |
//! | `rate`        | a token bucket, and what clients are told of it                       |
//! | `requests`    | how many requests there may be                                        |
//! | `telling`     | how often the log hears of a client                                   |

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use arc_swap::ArcSwap;

use crate::config::{Config, ProxyProtocol, ResolvedLimits};
use crate::http::client_key::{ClientKey, ClientPrefixes};
use crate::http::forwarded_for::{Attribution, ClientAddress};
use crate::limits::bandwidth::Bandwidth;
pub use crate::limits::bandwidth::BandwidthCounts;
use crate::limits::clients::{ClientState, ClientTable, take};
pub use crate::limits::connections::ConnectionCounts;
use crate::limits::connections::{ActivityCounts, Connections};
pub(crate) use crate::limits::requests::RequestPermit;
use crate::limits::requests::{LimitExceeded, RateLimited, RequestLimits, Requests};
use crate::limits::trusted_proxies::TrustedProxies;
use crate::telemetry::log_throttle::{LogThrottle, SampledCounter};

/// What all workers know of the clients. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Limits {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ArcSwap<LiveSettings>,
    /// Whether anything has to be known of a request before it is served.
    asks: AtomicBool,
    clients: ClientTable,
    connections: Connections,
    requests: Requests,
    bandwidth: Bandwidth,
    telling: LogThrottle,
    contradictions: SampledCounter,
    proxy_headers_refused: SampledCounter,
    frames_refused: SampledCounter,
    refused_clients: SampledCounter,
    /// The most that one client had at once.
    most_connections: AtomicUsize,
}

/// What may change under way.
struct LiveSettings {
    prefixes: ClientPrefixes,
    proxies: TrustedProxies,
    limits: RequestLimits,
}

impl LiveSettings {
    fn of(config: &Config) -> Self {
        let bits = |count: u64| u8::try_from(count).unwrap_or(u8::MAX);
        let prefixes = ClientPrefixes {
            v4: bits(config.clients.client_v4_prefix.get()),
            v6: bits(config.clients.client_v6_prefix.get()),
        };
        Self { prefixes, proxies: TrustedProxies::new(config), limits: RequestLimits::new(config) }
    }

    fn asks(&self) -> bool {
        !self.limits.is_empty() || !self.proxies.is_empty()
    }
}

/// What the guard has counted since the start, and remembers now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Clients that are remembered.
    pub clients: usize,
    /// Requests refused by the rate of a client.
    pub refused_by_client_rate: u64,
    /// Requests refused by the rate of all clients together.
    pub refused_by_total_rate: u64,
    /// Requests refused because their client had too many under way.
    pub refused_at_once: u64,
    /// Connections refused because their client had as many as it may.
    pub refused_connections: u64,
    /// The most connections that one client had at once since the start, where they are bounded.
    pub most_connections: usize,
    /// The most requests that one client had under way at once since the start, where they are bounded.
    pub most_requests: usize,
    /// Requests whose `Forwarded` and `X-Forwarded-For` name different clients.
    pub contradictions: u64,
    /// Connections closed for the header of the PROXY protocol that they began with, or did not.
    pub proxy_headers_refused: u64,
}

/// What was decided of one request before it is served.
pub(crate) struct AdmissionOutcome {
    pub(crate) outcome: Result<RequestPermit, RateLimited>,
    /// Field lines for the response.
    pub(crate) lines: String,
}

/// Who speaks through a connection.
pub(crate) struct ConnectionPeer {
    /// In full, behind trusted proxies as well; none came over a unix socket.
    pub(crate) address: Option<IpAddr>,
    /// The peer is a trusted proxy.
    pub(crate) is_trusted: bool,
}

/// A connection's share of what its client may have; returned when dropped.
pub(crate) struct ClientConnectionPermit {
    client: Option<Arc<ClientState>>,
}

/// A client has as many connections as it may.
#[derive(Debug)]
pub(crate) struct TooManyConnections;

impl Limits {
    /// The guard as it is configured, within `limits`.
    pub fn new(config: &Config, limits: &ResolvedLimits) -> Self {
        let settings = LiveSettings::of(config);
        let inner = Inner {
            asks: AtomicBool::new(settings.asks()),
            settings: ArcSwap::from_pointee(settings),
            clients: ClientTable::new(config.clients.clients.as_usize()),
            connections: Connections::new(limits.max_connections, limits.refusals),
            requests: Requests::default(),
            bandwidth: Bandwidth::new(config),
            telling: LogThrottle::new(),
            contradictions: SampledCounter::default(),
            proxy_headers_refused: SampledCounter::default(),
            frames_refused: SampledCounter::default(),
            refused_clients: SampledCounter::default(),
            most_connections: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on the limits of `config` hold: who is trusted and exempt, rates, bursts, requests at once, connections,
    /// bandwidth. What is known of the clients stays; a client whose rate is another one now begins with all of it.
    pub(crate) fn apply(&self, config: &Config) {
        let settings = LiveSettings::of(config);
        self.inner.asks.store(settings.asks(), Ordering::Relaxed);
        self.inner.settings.store(Arc::new(settings));
        self.inner.bandwidth.apply(config);
    }

    /// What was counted.
    pub fn counts(&self) -> LimitCounts {
        let Inner { clients, requests, .. } = &*self.inner;
        LimitCounts {
            clients: clients.len(),
            refused_by_client_rate: requests.refused(LimitExceeded::Client),
            refused_by_total_rate: requests.refused(LimitExceeded::Total),
            refused_at_once: requests.refused(LimitExceeded::AtOnce),
            refused_connections: self.inner.refused_clients.get(),
            most_connections: self.inner.most_connections.load(Ordering::Relaxed),
            most_requests: requests.most_at_once(),
            contradictions: self.inner.contradictions.get(),
            proxy_headers_refused: self.inner.proxy_headers_refused.get(),
        }
    }

    /// What became of the bound on connections.
    pub fn connection_counts(&self) -> ConnectionCounts {
        self.inner.connections.counts()
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.inner.connections
    }

    /// How many connections do what.
    pub(crate) fn activities(&self) -> ActivityCounts {
        self.inner.connections.activities()
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
    pub(crate) fn client(&self, key: ClientKey) -> Arc<ClientState> {
        self.inner.clients.get(key)
    }

    /// Whether no limit holds for who is at that address; none is a unix socket.
    pub(crate) fn is_unlimited(&self, peer: Option<SocketAddr>) -> bool {
        self.inner.settings.load().limits.exempt_address(peer.map(|peer| peer.ip()))
    }

    /// The client at the other end of a connection; none is a unix socket.
    pub(crate) fn client_at(&self, peer: Option<SocketAddr>) -> ClientKey {
        ClientKey::of(peer.map(|peer| peer.ip()), self.inner.settings.load().prefixes)
    }

    /// Whether requests have to be admitted. Where they have not, a client is who is at the other end of its connection.
    pub(crate) fn asks(&self) -> bool {
        self.inner.asks.load(Ordering::Relaxed)
    }

    /// Decides whether a request is served; none where nothing has to be decided.
    pub(crate) fn admit(&self, request: &HttpRequest) -> Option<Box<AdmissionOutcome>> {
        if !self.asks() {
            return None;
        }
        let settings = self.inner.settings.load();
        let LiveSettings { prefixes, proxies, limits } = &**settings;
        let asker = self.asker(proxies, request);
        let key = ClientKey::of(asker.address, *prefixes);
        let is_exempt = limits.exempt(asker);
        if limits.is_empty() || is_exempt {
            let pass = RequestPermit::uncounted(key, is_exempt);
            return Some(Box::new(AdmissionOutcome { outcome: Ok(pass), lines: String::new() }));
        }
        let client = self.inner.clients.get(key);
        let (outcome, lines) = limits.admit(key, Arc::clone(&client), &self.inner.requests);
        if let Err(refusal) = &outcome
            && self.inner.telling.is_due(&client.told)
        {
            log::warn!("client {key} {}", refusal.why.words());
        }
        Some(Box::new(AdmissionOutcome { outcome, lines }))
    }

    /// Who speaks through a connection from `peer`, as the log tells it; none is a unix socket.
    pub(crate) fn speaker(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> ConnectionPeer {
        let settings = self.inner.settings.load();
        let peer = peer.map(|peer| peer.ip());
        let is_trusted = settings.proxies.trust(peer);
        let address = if is_trusted { settings.proxies.asker(peer, headers).address } else { peer };
        ConnectionPeer { address, is_trusted }
    }

    /// The client that makes a request, and its address where that is sure; none is a unix socket too.
    pub(crate) fn who_asks(&self, request: &HttpRequest) -> (ClientKey, Option<IpAddr>) {
        let settings = self.inner.settings.load();
        let peer = request.peer_addr().map(|peer| peer.ip());
        let ClientAddress { address, word } = settings.proxies.asker(peer, request.headers());
        (ClientKey::of(address, settings.prefixes), address.filter(|_| word == Attribution::Good))
    }

    /// Whether the log is to hear of a client now.
    pub(crate) fn is_worth_telling(&self, client: &ClientState) -> bool {
        self.inner.telling.is_due(&client.told)
    }

    /// Whether connections begin with a header of the PROXY protocol.
    pub(crate) fn proxy_protocol(&self) -> ProxyProtocol {
        self.inner.settings.load().proxies.protocol()
    }

    /// Whether the peer is a trusted proxy.
    pub(crate) fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        self.inner.settings.load().proxies.trust(peer.map(|peer| peer.ip()))
    }

    /// Counts a connection closed for its header of the PROXY protocol. The client hears nothing, so the log hears of the
    /// first, and then of every thousandth.
    pub(crate) fn note_refused_proxy_header(&self, who: &str, why: &str) {
        tell_now_and_then(&self.inner.proxy_headers_refused, who, why);
    }

    /// The same of a connection that ends for its frames (RFC 9113 §5.4.1).
    pub(crate) fn note_refused_frames(&self, who: &str, why: &str) {
        tell_now_and_then(&self.inner.frames_refused, who, &format!("its frames of HTTP/2: {why}"));
    }

    fn asker(&self, proxies: &TrustedProxies, request: &HttpRequest) -> ClientAddress {
        let peer: Option<IpAddr> = request.peer_addr().map(|peer| peer.ip());
        let asker = proxies.asker(peer, request.headers());
        if asker.word == Attribution::Contradictory {
            let (number, is_told) = self.inner.contradictions.count();
            if is_told {
                let peer = peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string());
                log::warn!(
                    "Forwarded and X-Forwarded-For name different clients, number {number}, from {peer}: neither is \
                     believed unless client_field says which"
                );
            }
        }
        asker
    }

    /// One more connection of the client at `peer`.
    ///
    /// # Errors
    /// Where it has as many as it may. Whoever is beyond limits, and whoever comes over a unix socket, is not counted.
    pub(crate) fn admit_client(
        &self,
        peer: Option<SocketAddr>,
    ) -> Result<ClientConnectionPermit, TooManyConnections> {
        let max = self.inner.settings.load().limits.client_connections();
        let (Some(max), Some(key)) = (max, self.bounded(peer)) else {
            return Ok(ClientConnectionPermit { client: None });
        };
        let client = self.inner.clients.get(key);
        if take(&client.connections, max) {
            let has = client.connections.load(Ordering::Relaxed);
            self.inner.most_connections.fetch_max(has, Ordering::Relaxed);
            return Ok(ClientConnectionPermit { client: Some(client) });
        }
        let (number, is_told) = self.inner.refused_clients.count();
        if is_told {
            log::warn!("{key} has {max} connections: a further one was refused, number {number}");
        }
        Err(TooManyConnections)
    }

    /// The client at the other end of a connection, where it is one whose connections and places are bounded: proxies that
    /// are trusted speak for many, some clients have no limits, and peers on unix sockets can't be told apart.
    pub(crate) fn bounded(&self, peer: Option<SocketAddr>) -> Option<ClientKey> {
        let address = peer?.ip();
        let settings = self.inner.settings.load();
        let is_exempt =
            settings.limits.exempt_address(Some(address)) || settings.proxies.trust(Some(address));
        (!is_exempt).then(|| ClientKey::of(Some(address), settings.prefixes))
    }
}

impl Drop for ClientConnectionPermit {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            client.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One more connection that is closed.
fn tell_now_and_then(tally: &SampledCounter, who: &str, why: &str) {
    let (number, is_told) = tally.count();
    let level = if is_told { log::Level::Warn } else { log::Level::Debug };
    log::log!(level, "{who}: closed, number {number}: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientsGroup, Count, RatesGroup, Toggle};
    use actix_web::test::TestRequest;

    fn guard(max: u64) -> Limits {
        let config = Config {
            rates: RatesGroup { client_connections: Toggle::Given(Count::of(max)), ..RatesGroup::default() }
                .into(),
            clients: ClientsGroup {
                unlimited_clients: "192.0.2.1".parse().unwrap(),
                trusted_proxies: "198.51.100.0/24".parse().unwrap(),
                ..ClientsGroup::default()
            }
            .into(),
            ..Config::default()
        };
        Limits::new(&config, &ResolvedLimits::default())
    }

    #[test]
    fn a_client_has_so_many_connections_and_no_more_until_one_ends() {
        let guard = guard(2);
        let at = |address: &str| guard.admit_client(Some(format!("{address}:1").parse().unwrap()));
        let first = at("192.0.2.7").unwrap();
        let _second = at("192.0.2.7").unwrap();
        assert!(at("192.0.2.7").is_err());
        assert!(at("192.0.2.8").is_ok(), "another client has its own");
        assert_eq!(guard.counts().refused_connections, 1);
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

    /// Whether a request may be served; none where nobody asks.
    fn admits(guard: &Limits) -> Option<bool> {
        let request = TestRequest::default().peer_addr(([192, 0, 2, 1], 4711).into()).to_http_request();
        guard.admit(&request).map(|admission| admission.outcome.is_ok())
    }

    #[test]
    fn limits_change_under_way_and_what_is_known_of_clients_stays() {
        let open = Config::default();
        let limited = Config {
            rates: RatesGroup {
                client_requests: Toggle::Given("1/h".parse().unwrap()),
                ..RatesGroup::default()
            }
            .into(),
            ..Config::default()
        };
        let exempting = Config {
            clients: ClientsGroup {
                unlimited_clients: "192.0.2.0/24".parse().unwrap(),
                ..limited.clients.as_ref().clone()
            }
            .into(),
            ..limited.clone()
        };
        let guard = Limits::new(&open, &ResolvedLimits::default());
        for (config, expected) in [
            (&open, [None, None]),
            (&limited, [Some(true), Some(false)]),
            (&exempting, [Some(true), Some(true)]),
            (&limited, [Some(false), Some(false)]),
            (&open, [None, None]),
        ] {
            guard.apply(config);
            assert_eq!([admits(&guard), admits(&guard)], expected);
        }
        let expected = LimitCounts { clients: 1, refused_by_client_rate: 3, ..LimitCounts::default() };
        assert_eq!(guard.counts(), expected);
    }
}
