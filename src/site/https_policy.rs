//! The https policy: redirects plain HTTP to https, filters queries, and says when `Strict-Transport-Security` is sent.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpMessage, HttpRequest};

use crate::config::{Config, HostList, ProxyList};
use crate::http::forwarded::{https_location, is_https};
use crate::http::query_filter::is_suspicious;
use crate::http::transport_info::TransportInfo;
use crate::telemetry::log_throttle::SampledCounter;

/// The https policy of a site. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct HttpsPolicy {
    inner: Arc<Inner>,
}

struct Inner {
    redirects: bool,
    hosts: HostList,
    proxies: ProxyList,
    /// The header line of `Strict-Transport-Security`.
    transport_security: Option<String>,
    filters_queries: bool,
    suspicious: Arc<SampledCounter>,
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It came over plain HTTP; the location is the same over https.
    ToHttps(String),
    /// It came over plain HTTP for a host that is not in `https_hosts`.
    UnknownHost,
    /// Its query looks like an attack.
    BadQuery,
}

impl HttpsPolicy {
    /// Builds the policy that `config` describes.
    pub fn new(config: &Config) -> Self {
        Self::with_counter(config, Arc::default())
    }

    /// Builds the policy of another configuration. The count of rejected queries is kept.
    pub(crate) fn reconfigured(&self, config: &Config) -> Self {
        Self::with_counter(config, Arc::clone(&self.inner.suspicious))
    }

    fn with_counter(config: &Config, suspicious: Arc<SampledCounter>) -> Self {
        let security = &config.security;
        let transport_security = security.strict_transport_security.given();
        // A socket that was inherited may speak TLS without tls_listen, but not without a certificate.
        if config.clients.trusted_proxies.is_empty() && config.tls.tls_cert.given().is_none() {
            if security.https_redirect.is_on() {
                log::warn!(
                    "https_redirect redirects every request: there is no TLS listener and no trusted proxy"
                );
            }
            if transport_security.is_some() {
                log::warn!(
                    "strict_transport_security is never sent: there is no TLS listener and no trusted proxy, and \
                     over plain HTTP it must not be sent (RFC 6797)"
                );
            }
        }
        let inner = Inner {
            redirects: security.https_redirect.is_on(),
            hosts: security.https_hosts.clone(),
            proxies: config.clients.trusted_proxies.clone(),
            transport_security: transport_security
                .map(|value| format!("strict-transport-security: {value}\r\n")),
            filters_queries: security.query_filter.is_on(),
            suspicious,
        };
        Self { inner: Arc::new(inner) }
    }

    /// True if [`check`](Self::check) may reject a request.
    pub fn rejects(&self) -> bool {
        self.inner.redirects || self.inner.filters_queries
    }

    /// True if responses may get headers of the policy.
    pub fn adds_headers(&self) -> bool {
        self.inner.redirects || self.inner.transport_security.is_some()
    }

    /// Returns why the request is not served; `None` for most.
    pub fn check(&self, request: &HttpRequest) -> Option<Rejection> {
        let Inner { redirects, filters_queries, .. } = *self.inner;
        if redirects && self.is_secure(request) != Some(true) {
            return Some(self.to_https(request));
        }
        if filters_queries && request.uri().query().is_some_and(|query| is_suspicious(query.as_bytes())) {
            self.count_suspicious(request);
            return Some(Rejection::BadQuery);
        }
        None
    }

    /// Returns the `Vary` line for the response, if another `X-Forwarded-Proto` would have led to another response.
    pub fn vary(&self, request: &HttpRequest) -> Option<&'static str> {
        (self.adds_headers() && self.trusts_peer_of(request)).then_some("vary: X-Forwarded-Proto\r\n")
    }

    /// Returns the `Strict-Transport-Security` line for the response. It must not go out over plain HTTP (RFC 6797 §7.2).
    pub fn transport_security(&self, request: &HttpRequest) -> Option<&str> {
        let line = self.inner.transport_security.as_deref()?;
        (self.is_secure(request) == Some(true)).then_some(line)
    }

    /// Returns how many queries were rejected since the start.
    pub fn suspicious(&self) -> u64 {
        self.inner.suspicious.get()
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
        self.inner.proxies.trusts_peer(request.peer_addr().map(|peer| peer.ip()))
    }

    fn to_https(&self, request: &HttpRequest) -> Rejection {
        let uri = request.uri();
        let host = match uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request.headers().get(header::HOST).map_or(&b""[..], |host| host.as_bytes()),
        };
        let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
        https_location(host, path_and_query.as_bytes(), self.inner.hosts.as_slice())
            .map_or(Rejection::UnknownHost, Rejection::ToHttps)
    }

    fn count_suspicious(&self, request: &HttpRequest) {
        let (number, is_told) = self.inner.suspicious.count();
        if is_told {
            let peer =
                request.peer_addr().map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string());
            log::warn!("suspicious query rejected: number {number}, from {peer}");
        }
    }
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
