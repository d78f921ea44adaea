//! The handle on all limits: who a request or connection is from, and how much of the server it may use.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use arc_swap::ArcSwap;

use crate::config::{ClientsGroup, Config, ProxyProtocol, ResolvedLimits};
use crate::http::client_key::{ClientKey, peer_name};
use crate::http::forwarded_for::{Attribution, ClientAddress};
use crate::limits::bandwidth::Bandwidth;
use crate::limits::clients::{ClientState, ClientTable, CountedSlot};
use crate::limits::connections::Connections;
pub(crate) use crate::limits::requests::RequestPermit;
use crate::limits::requests::{RateLimited, RequestLimits, Requests};
use crate::limits::trusted_proxies::client_address;
use crate::telemetry::log_throttle::{LogThrottle, SampledCounter};

/// Limits of clients, shared by all workers. Clones are cheap and share one state.
///
/// Decision: docs/decisions/027-admission.md.
#[derive(Clone)]
pub struct Limits {
    shared: Arc<SharedLimits>,
}

/// The state of the limits, and what they count since the start.
pub struct SharedLimits {
    /// Replaced by a reload.
    settings: ArcSwap<RequestLimits>,
    /// Copy of [`RequestLimits::is_active`], read without the settings.
    is_active: AtomicBool,
    pub(crate) clients: ClientTable,
    pub(crate) connections: Arc<Connections>,
    pub(crate) requests: Requests,
    pub(crate) bandwidth: Bandwidth,
    log_throttle: LogThrottle,
    /// Requests whose `Forwarded` and `X-Forwarded-For` name different clients.
    pub(crate) conflicting: SampledCounter,
    /// Connections closed because of an invalid, missing or unexpected PROXY protocol header.
    pub(crate) refused_proxy_headers: SampledCounter,
    refused_frames: SampledCounter,
    /// Connections refused because their client had too many.
    pub(crate) refused_clients: SampledCounter,
    /// The highest number of connections that one client had at once; 0 if they are not limited.
    pub(crate) most_connections: AtomicUsize,
}

/// The decision on one request.
pub(crate) struct AdmissionOutcome {
    pub(crate) outcome: Result<RequestPermit, RateLimited>,
    /// `RateLimit` header lines for the response, or empty.
    pub(crate) lines: String,
}

/// The client behind a connection, for the log.
pub(crate) struct ConnectionPeer {
    /// In full, also behind a trusted proxy. `None` for a unix socket.
    pub(crate) address: Option<IpAddr>,
    /// The peer is a trusted proxy.
    pub(crate) is_trusted: bool,
}

/// One of a client's connections. `None` if they are not counted.
pub(crate) type ClientConnectionPermit = Option<CountedSlot<Arc<ClientState>>>;

/// The client has as many connections as it may have.
#[derive(Debug)]
pub(crate) struct TooManyConnections;

impl Deref for Limits {
    type Target = SharedLimits;

    fn deref(&self) -> &SharedLimits {
        &self.shared
    }
}

impl Limits {
    /// Limits as configured, within what the system allows.
    pub fn new(config: &Config, limits: &ResolvedLimits) -> Self {
        let settings = RequestLimits::new(config);
        let shared = SharedLimits {
            is_active: AtomicBool::new(settings.is_active()),
            settings: ArcSwap::from_pointee(settings),
            clients: ClientTable::new(config.clients.clients.as_usize()),
            connections: Connections::new(limits.max_connections, limits.refusals),
            requests: Requests::default(),
            bandwidth: Bandwidth::new(config),
            log_throttle: LogThrottle::per_minute(LINES_PER_MINUTE),
            conflicting: SampledCounter::default(),
            refused_proxy_headers: SampledCounter::default(),
            refused_frames: SampledCounter::default(),
            refused_clients: SampledCounter::default(),
            most_connections: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Applies the limits of `config`: trusted proxies, exempt clients, rates, bursts, concurrent requests, connections,
    /// bandwidth. The state of clients is kept, but a client whose rate changed starts with a full bucket.
    pub(crate) fn apply(&self, config: &Config) {
        let settings = RequestLimits::new(config);
        self.is_active.store(settings.is_active(), Ordering::Relaxed);
        self.settings.store(Arc::new(settings));
        self.bandwidth.apply(config);
    }

    /// Whether the peer is exempt from all limits; `None` is a unix socket.
    pub(crate) fn is_unlimited(&self, peer: Option<SocketAddr>) -> bool {
        self.settings.load().exempt_address(peer.map(|peer| peer.ip()))
    }

    /// The client at the other end of a connection; `None` is a unix socket.
    pub(crate) fn client_at(&self, peer: Option<SocketAddr>) -> ClientKey {
        ClientKey::of(peer.map(|peer| peer.ip()), self.settings.load().prefixes)
    }

    /// True if any per-request limit or trusted proxy is configured. If false, callers skip [`Limits::admit`] and the TCP
    /// peer is the client.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Decides whether a request is served. `None` if no limit is active.
    pub(crate) fn admit(&self, request: &HttpRequest) -> Option<Box<AdmissionOutcome>> {
        if !self.is_active() {
            return None;
        }
        let settings = self.settings.load();
        let client = self.client_address(&settings.clients, request);
        let key = ClientKey::of(client.address, settings.prefixes);
        let is_exempt = settings.exempt(client);
        if settings.is_empty() || is_exempt {
            let permit = RequestPermit { key, is_exempt, _slot: None };
            return Some(Box::new(AdmissionOutcome { outcome: Ok(permit), lines: String::new() }));
        }
        let (outcome, lines) = settings.admit(key, self.clients.get(key), &self.requests);
        if let Err(refusal) = &outcome
            && self.may_log(key)
        {
            log::warn!("client {key} {}", refusal.why.message());
        }
        Some(Box::new(AdmissionOutcome { outcome, lines }))
    }

    /// The client behind a request on a connection from `peer`; `None` is a unix socket.
    pub(crate) fn connection_peer(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> ConnectionPeer {
        let settings = self.settings.load();
        let peer = peer.map(|peer| peer.ip());
        let is_trusted = settings.clients.trusted_proxies.trusts_peer(peer);
        ConnectionPeer { address: client_address(&settings.clients, peer, headers).address, is_trusted }
    }

    /// The client that makes a request, and its address if that is certain and not a unix socket.
    pub(crate) fn requester(&self, request: &HttpRequest) -> (ClientKey, Option<IpAddr>) {
        let settings = self.settings.load();
        let peer = request.peer_addr().map(|peer| peer.ip());
        let ClientAddress { address, attribution } =
            client_address(&settings.clients, peer, request.headers());
        let certain = address.filter(|_| attribution == Attribution::Resolved);
        (ClientKey::of(address, settings.prefixes), certain)
    }

    /// True if a line about the client may be logged now: one a minute for each client, and a few for all of them.
    pub(crate) fn may_log(&self, client: ClientKey) -> bool {
        self.log_throttle.admits(client, Instant::now())
    }

    /// Whether connections start with a PROXY protocol header.
    pub(crate) fn proxy_protocol(&self) -> ProxyProtocol {
        self.settings.load().clients.proxy_protocol
    }

    /// Whether the peer is a trusted proxy.
    pub(crate) fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        self.settings.load().clients.trusted_proxies.trusts_peer(peer.map(|peer| peer.ip()))
    }

    /// Counts a connection closed because of its PROXY protocol header. The client gets no answer, so the first one and
    /// every thousandth is logged as a warning.
    pub(crate) fn count_refused_proxy_header(&self, peer: &str, why: &str) {
        log_closed(&self.refused_proxy_headers, peer, why);
    }

    /// Counts a connection closed because of an HTTP/2 connection error (RFC 9113 §5.4.1).
    pub(crate) fn count_refused_frames(&self, peer: &str, why: &str) {
        log_closed(&self.refused_frames, peer, &format!("its HTTP/2 frames: {why}"));
    }

    fn client_address(&self, settings: &ClientsGroup, request: &HttpRequest) -> ClientAddress {
        let peer: Option<IpAddr> = request.peer_addr().map(|peer| peer.ip());
        let client = client_address(settings, peer, request.headers());
        if client.attribution == Attribution::Conflicting {
            let (number, is_due) = self.conflicting.count();
            if is_due {
                let peer = peer_name(peer);
                log::warn!(
                    "Forwarded and X-Forwarded-For name different clients, number {number}, from {peer}: both are \
                     ignored unless client_field names one of them"
                );
            }
        }
        client
    }

    /// Counts one more connection of the client at `peer`. Exempt clients, trusted proxies and unix sockets are not counted.
    ///
    /// # Errors
    /// The client has as many as it may have.
    pub(crate) fn admit_client(
        &self,
        peer: Option<SocketAddr>,
    ) -> Result<ClientConnectionPermit, TooManyConnections> {
        let max = self.settings.load().client_connections;
        let (Some(max), Some(key)) = (max, self.limited_client(peer)) else {
            return Ok(None);
        };
        let client = self.clients.get(key);
        if let Some(slot) = CountedSlot::take(Arc::clone(&client), |client| &client.connections, max) {
            let has = client.connections.load(Ordering::Relaxed);
            self.most_connections.fetch_max(has, Ordering::Relaxed);
            return Ok(Some(slot));
        }
        let (number, is_due) = self.refused_clients.count();
        if is_due {
            log::warn!("{key} has {max} connections: another one was refused, number {number}");
        }
        Err(TooManyConnections)
    }

    /// The client at the other end of a connection if its connections and slots are limited. `None` for trusted proxies, which
    /// speak for many clients, for exempt clients, and for unix sockets, whose peers cannot be distinguished.
    pub(crate) fn limited_client(&self, peer: Option<SocketAddr>) -> Option<ClientKey> {
        let address = peer?.ip();
        let settings = self.settings.load();
        let is_exempt =
            settings.exempt_address(Some(address)) || settings.clients.trusted_proxies.trusts(address);
        (!is_exempt).then(|| ClientKey::of(Some(address), settings.prefixes))
    }
}

/// Log lines about clients per minute.
const LINES_PER_MINUTE: usize = 60;

fn log_closed(counter: &SampledCounter, peer: &str, why: &str) {
    let (number, is_due) = counter.count();
    let level = if is_due { log::Level::Warn } else { log::Level::Debug };
    log::log!(level, "{peer}: closed, number {number}: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientsGroup, Count, RatesGroup, Toggle};
    use crate::limits::requests::LimitExceeded;
    use actix_web::test::TestRequest;

    fn limits(max: u64) -> Limits {
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
    fn a_client_at_its_limit_gets_a_connection_when_another_ends() {
        let limits = limits(2);
        let at = |address: &str| limits.admit_client(Some(format!("{address}:1").parse().unwrap()));
        let first = at("192.0.2.7").unwrap();
        let _second = at("192.0.2.7").unwrap();
        assert!(at("192.0.2.7").is_err());
        assert!(at("192.0.2.8").is_ok(), "another client has its own limit");
        assert_eq!(limits.refused_clients.get(), 1);
        drop(first);
        assert!(at("192.0.2.7").is_ok());
    }

    #[test]
    fn proxies_exempt_clients_and_unix_sockets_are_not_counted() {
        let limits = limits(1);
        for peer in [Some("192.0.2.1:1"), Some("198.51.100.9:1"), Some("[::ffff:192.0.2.1]:1"), None] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            let shares = [limits.admit_client(peer), limits.admit_client(peer)];
            assert!(shares.iter().all(Result::is_ok), "{peer:?}");
        }
    }

    /// Whether a request is admitted; `None` if no limit is active.
    fn admits(limits: &Limits) -> Option<bool> {
        let request = TestRequest::default().peer_addr(([192, 0, 2, 1], 4711).into()).to_http_request();
        limits.admit(&request).map(|admission| admission.outcome.is_ok())
    }

    #[test]
    fn a_reload_changes_the_limits_and_keeps_the_state_of_clients() {
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
        let limits = Limits::new(&open, &ResolvedLimits::default());
        for (config, expected) in [
            (&open, [None, None]),
            (&limited, [Some(true), Some(false)]),
            (&exempting, [Some(true), Some(true)]),
            (&limited, [Some(false), Some(false)]),
            (&open, [None, None]),
        ] {
            limits.apply(config);
            assert_eq!([admits(&limits), admits(&limits)], expected);
        }
        assert_eq!(limits.clients.len(), 1);
        let refused = [LimitExceeded::Client, LimitExceeded::Total, LimitExceeded::AtOnce];
        assert_eq!(refused.map(|why| limits.requests.refused(why)), [3, 0, 0]);
    }
}
