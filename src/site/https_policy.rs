//! Who is turned away before anything is looked up (requests over cleartext, queries that look like an attack), and what
//! those are told who came by https.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderName};
use actix_web::{HttpMessage, HttpRequest};

use crate::config::{Config, HostList, ProxyList};
use crate::http::forwarded::{https_location, is_https};
use crate::http::query_filter::is_suspicious;
use crate::http::transport_info::TransportInfo;
use crate::telemetry::log_throttle::SampledCounter;

/// The gate in front of a site. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct HttpsPolicy {
    inner: Arc<Inner>,
}

struct Inner {
    redirects: bool,
    hosts: HostList,
    proxies: ProxyList,
    /// The field line of Strict-Transport-Security.
    transport_security: Option<String>,
    filters_queries: bool,
    suspicious: Arc<SampledCounter>,
}

/// Where the gate sends a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The same over https.
    ToHttps(String),
    /// A host that this server does not answer for.
    UnknownHost,
    /// Its query is not accepted.
    BadQuery,
}

impl HttpsPolicy {
    /// The gate as it is configured.
    pub fn new(config: &Config) -> Self {
        Self::counting(config, Arc::default())
    }

    /// The gate as it is configured now, which counts on from this one.
    pub(crate) fn changed(&self, config: &Config) -> Self {
        Self::counting(config, Arc::clone(&self.inner.suspicious))
    }

    fn counting(config: &Config, suspicious: Arc<SampledCounter>) -> Self {
        let is_known_by_nobody =
            config.clients.trusted_proxies.is_empty() && config.tls.tls_listen.given().is_none();
        if config.security.https_redirect.is_on() && is_known_by_nobody {
            log::warn!(
                "every request is redirected to https: no proxy is trusted to say that one came by it"
            );
        }
        let transport_security = config.security.strict_transport_security.given();
        let inner = Inner {
            redirects: config.security.https_redirect.is_on(),
            hosts: config.security.https_hosts.clone(),
            proxies: config.clients.trusted_proxies.clone(),
            transport_security: transport_security
                .map(|value| format!("strict-transport-security: {value}\r\n")),
            filters_queries: config.security.query_filter.is_on(),
            suspicious,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Where the request is sent instead of being answered; none for most.
    pub fn turns(&self, request: &HttpRequest) -> Option<Rejection> {
        let Inner { redirects, filters_queries, .. } = *self.inner;
        if redirects && self.is_secure(request) != Some(true) {
            return Some(self.to_https(request));
        }
        if filters_queries && request.uri().query().is_some_and(|query| is_suspicious(query.as_bytes())) {
            self.count(request);
            return Some(Rejection::BadQuery);
        }
        None
    }

    /// The line of Vary for the response, where another X-Forwarded-Proto would have brought another one.
    pub fn vary(&self, request: &HttpRequest) -> Option<&'static str> {
        let tells = self.inner.redirects || self.inner.transport_security.is_some();
        (tells && self.trusts_peer_of(request)).then_some("vary: X-Forwarded-Proto\r\n")
    }

    /// The line of Strict-Transport-Security for the response, unless it goes over cleartext (RFC 6797 §7.2): a proxy says
    /// so, or none says otherwise where cleartext is redirected.
    pub fn transport_security(&self, request: &HttpRequest) -> Option<&str> {
        let line = self.inner.transport_security.as_deref()?;
        self.is_secure(request).unwrap_or(!self.inner.redirects).then_some(line)
    }

    /// Queries that were refused since the start.
    pub fn suspicious(&self) -> u64 {
        self.inner.suspicious.get()
    }

    /// How the client came: as a proxy says that is believed, else over TLS of ours; none where nobody knows.
    fn is_secure(&self, request: &HttpRequest) -> Option<bool> {
        let field = request.headers().get_all(X_FORWARDED_PROTO).last();
        let told = field.filter(|_| self.trusts_peer_of(request));
        let told = told.and_then(|field| is_https(Some(field.as_bytes())));
        told.or_else(|| {
            request.extensions().get::<TransportInfo>().filter(|carriage| carriage.is_secure).map(|_| true)
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

    /// Counts a refused query.
    fn count(&self, request: &HttpRequest) {
        let (number, is_told) = self.inner.suspicious.count();
        if is_told {
            let peer =
                request.peer_addr().map_or_else(|| "a local client".to_owned(), |peer| peer.to_string());
            log::warn!("a query that looks like an attack was refused, number {number}, from {peer}");
        }
    }
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
