//! The https policy: redirects plain HTTP to https, filters queries, and says when `Strict-Transport-Security` is sent.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpMessage, HttpRequest};

use crate::config::{ClientsGroup, Config, SecurityGroup};
use crate::http::canned_response::{BAD_QUERY, UNKNOWN_HOST};
use crate::http::client_key::peer_name;
use crate::http::error::HttpError;
use crate::http::forwarded::{https_location, is_https};
use crate::http::query_filter::is_suspicious;
use crate::http::transport_info::TransportInfo;
use crate::telemetry::log_throttle::SampledCounter;

/// The https policy of a site. Cheap to clone; clones share the count.
#[derive(Clone)]
pub struct HttpsPolicy {
    security: Arc<SecurityGroup>,
    clients: Arc<ClientsGroup>,
    /// The header line of `Strict-Transport-Security`.
    transport_security: Option<Arc<str>>,
    /// A listener is for TLS.
    has_tls: bool,
    /// Queries rejected since the start.
    pub(crate) suspicious: Arc<SampledCounter>,
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It came over plain HTTP; the location is the same over https.
    ToHttps(String),
    /// It came over plain HTTP for a host that is not in `https_hosts`, or its query looks like an attack.
    Error(HttpError),
}

impl HttpsPolicy {
    /// Builds the policy that `config` describes; `has_tls` if a listener is for TLS.
    pub(crate) fn new(config: &Config, has_tls: bool) -> Self {
        Self::build(config, has_tls, Arc::default())
    }

    /// Builds the policy for another `config`. Listeners and the count stay.
    pub(crate) fn reconfigured(&self, config: &Config) -> Self {
        Self::build(config, self.has_tls, Arc::clone(&self.suspicious))
    }

    fn build(config: &Config, has_tls: bool, suspicious: Arc<SampledCounter>) -> Self {
        let (security, clients) = (Arc::clone(&config.security), Arc::clone(&config.clients));
        let header = security.strict_transport_security.given();
        if clients.trusted_proxies.is_empty() && !has_tls {
            if security.https_redirect.is_on() {
                log::warn!(
                    "https_redirect redirects every request: there is no TLS listener and no trusted proxy"
                );
            }
            if header.is_some() {
                log::warn!(
                    "strict_transport_security is never sent: there is no TLS listener and no trusted proxy, and \
                     over plain HTTP it must not be sent (RFC 6797)"
                );
            }
        }
        let line = header.map(|value| format!("strict-transport-security: {value}\r\n").into());
        Self { security, clients, transport_security: line, has_tls, suspicious }
    }

    /// True if [`check`](Self::check) may reject a request.
    pub(crate) fn rejects(&self) -> bool {
        self.security.https_redirect.is_on() || self.security.query_filter.is_on()
    }

    /// True if responses may get headers of the policy.
    pub(crate) fn adds_headers(&self) -> bool {
        self.security.https_redirect.is_on() || self.transport_security.is_some()
    }

    /// Returns why the request is not served; `None` for most.
    pub(crate) fn check(&self, request: &HttpRequest) -> Option<Rejection> {
        if self.security.https_redirect.is_on() && self.is_secure(request) != Some(true) {
            return Some(self.to_https(request));
        }
        let query = request.uri().query().filter(|_| self.security.query_filter.is_on())?;
        if !is_suspicious(query.as_bytes()) {
            return None;
        }
        if let (number, true) = self.suspicious.count() {
            let peer = peer_name(request.peer_addr());
            log::warn!("suspicious query rejected: number {number}, from {peer}");
        }
        Some(Rejection::Error(HttpError::Fixed(&BAD_QUERY)))
    }

    /// Returns the `Vary` line for the response, if another `X-Forwarded-Proto` would have led to another response.
    pub(crate) fn vary(&self, request: &HttpRequest) -> Option<&'static str> {
        (self.adds_headers() && self.trusts_peer_of(request)).then_some("vary: X-Forwarded-Proto\r\n")
    }

    /// Returns the `Strict-Transport-Security` line for the response. It must not go out over plain HTTP (RFC 6797 §7.2).
    pub(crate) fn transport_security(&self, request: &HttpRequest) -> Option<&str> {
        let line = self.transport_security.as_deref()?;
        (self.is_secure(request) == Some(true)).then_some(line)
    }

    /// `Some(true)` for HTTPS: a trusted proxy's `X-Forwarded-Proto`, else our TLS listener. `None` if unknown.
    fn is_secure(&self, request: &HttpRequest) -> Option<bool> {
        let value = request.headers().get_all(X_FORWARDED_PROTO).last();
        let by_proxy = value.filter(|_| self.trusts_peer_of(request));
        by_proxy.and_then(|value| is_https(Some(value.as_bytes()))).or_else(|| {
            request.extensions().get::<TransportInfo>().filter(|transport| transport.is_secure).map(|_| true)
        })
    }

    fn trusts_peer_of(&self, request: &HttpRequest) -> bool {
        self.clients.trusted_proxies.trusts_peer(request.peer_addr().map(|peer| peer.ip()))
    }

    fn to_https(&self, request: &HttpRequest) -> Rejection {
        let uri = request.uri();
        let host = match uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request.headers().get(header::HOST).map_or(&b""[..], |host| host.as_bytes()),
        };
        let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
        https_location(host, path_and_query.as_bytes(), self.security.https_hosts.as_slice())
            .map_or(Rejection::Error(HttpError::Fixed(&UNKNOWN_HOST)), Rejection::ToHttps)
    }
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
