//! Who is turned away before anything is looked up: requests over cleartext, queries that look like an attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderName};

use crate::config::{Config, HostList, ProxyList};
use crate::http::forwarded::{https_location, is_https};
use crate::http::query_filter::is_suspicious;

/// The gate in front of a site. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Gate {
    https: Option<Arc<Https>>,
    filters_queries: bool,
    suspicious: Arc<AtomicU64>,
}

/// Where the gate sends a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Turned {
    /// The same over https.
    ToHttps(String),
    /// A host that this server does not answer for.
    UnknownHost,
    /// Its query is not accepted.
    BadQuery,
}

struct Https {
    hosts: HostList,
    proxies: ProxyList,
}

impl Gate {
    /// The gate as it is configured.
    pub fn new(config: &Config) -> Self {
        let https =
            || Arc::new(Https { hosts: config.https_hosts.clone(), proxies: config.trusted_proxies.clone() });
        Self {
            https: config.https_redirect.is_on().then(https),
            filters_queries: config.query_filter.is_on(),
            suspicious: Arc::default(),
        }
    }

    /// Where the request is sent instead of being answered; none for most.
    pub fn turns(&self, request: &HttpRequest) -> Option<Turned> {
        if let Some(https) = &self.https
            && !https.is_secure(request)
        {
            return Some(https.redirect(request));
        }
        if self.filters_queries && request.uri().query().is_some_and(|query| is_suspicious(query.as_bytes()))
        {
            self.count(request);
            return Some(Turned::BadQuery);
        }
        None
    }

    /// Queries that were refused since the start.
    pub fn suspicious(&self) -> u64 {
        self.suspicious.load(Ordering::Relaxed)
    }

    /// Counts a refused query. The log hears of the first, and then of every thousandth.
    fn count(&self, request: &HttpRequest) {
        let before = self.suspicious.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(TOLD_EVERY) {
            let peer =
                request.peer_addr().map_or_else(|| "a local client".to_owned(), |peer| peer.to_string());
            log::warn!("a query that looks like an attack was refused, number {}, from {peer}", before + 1);
        }
    }
}

impl Https {
    fn is_secure(&self, request: &HttpRequest) -> bool {
        let is_trusted = match request.peer_addr() {
            Some(peer) => self.proxies.trusts(peer.ip()),
            None => self.proxies.trusts_unix(),
        };
        let field = request.headers().get_all(X_FORWARDED_PROTO).last();
        is_trusted && is_https(field.map(|value| value.as_bytes())) == Some(true)
    }

    fn redirect(&self, request: &HttpRequest) -> Turned {
        let uri = request.uri();
        let host = match uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request.headers().get(header::HOST).map_or(&b""[..], |host| host.as_bytes()),
        };
        let path_and_query = uri.path_and_query().map_or("/", |target| target.as_str());
        https_location(host, path_and_query.as_bytes(), self.hosts.as_slice())
            .map_or(Turned::UnknownHost, Turned::ToHttps)
    }
}

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const TOLD_EVERY: u64 = 1000;
