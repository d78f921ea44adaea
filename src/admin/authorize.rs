//! Authorization of requests to the admin listener: its token if it has one, and protection against pages of other sites.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::respond::uncached;
use crate::config::{Config, Secret};
use crate::http::authority::host_of;
use crate::http::client_key::{ClientKey, ClientPrefixes};
use crate::limits::attempts::{AttemptRate, FailedAttemptTable};
use crate::sys::gcra::RateClock;
use crate::telemetry::log_throttle::SampledCounter;

/// Authorization of the admin listener. Clones share the state.
///
/// Decision: docs/decisions/037-admin-port-and-browsers.md.
#[derive(Clone)]
pub(crate) struct AdminAuth {
    policy: Arc<AdminPolicy>,
}

struct AdminPolicy {
    /// SHA-256 of the token, so that comparing does not reveal its length. `None` without a token.
    token: Option<[u8; 32]>,
    attempts: FailedAttemptTable,
    clock: RateClock,
    rejected: RejectedCounters,
}

/// Rejected requests since the start.
#[derive(Debug, Default)]
struct RejectedCounters {
    tokens: SampledCounter,
    too_many: AtomicU64,
    pages: SampledCounter,
}

/// Requests rejected by the admin listener since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AdminAuthCounts {
    /// Wrong tokens.
    pub(crate) tokens: u64,
    /// Tokens that were not checked after too many wrong ones.
    pub(crate) too_many: u64,
    /// Requests from pages of other sites, or with a Host that is not that of the listener.
    pub(crate) pages: u64,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthFailure {
    NoToken,
    WrongToken,
    TooManyAttempts { wait_seconds: u64 },
    ForeignHost,
    ForeignPage,
}

/// Facts on which authorization depends.
#[derive(Clone, Copy, Debug, Default)]
struct AdminRequest<'a> {
    path: &'a str,
    /// The method is safe (RFC 9110 §9.2.1).
    is_safe: bool,
    /// `None` over a unix socket.
    peer: Option<IpAddr>,
    /// Address of the listener. `None` for a unix socket.
    local: Option<SocketAddr>,
    authorization: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site` and `Sec-Fetch-Mode` (W3C Fetch Metadata), which browsers set and pages can't change.
    fetch_site: Option<&'a [u8]>,
    fetch_mode: Option<&'a [u8]>,
}

impl AdminAuth {
    /// Creates the authorization that `config` describes.
    pub(crate) fn new(config: &Config) -> Self {
        let digest = |token: &Secret| Sha256::digest(token.reveal()).into();
        let token = config.listening.admin_token.given().map(digest);
        let attempts = FailedAttemptTable::new(ATTEMPTS);
        let (clock, rejected) = (RateClock::default(), RejectedCounters::default());
        Self { policy: Arc::new(AdminPolicy { token, attempts, clock, rejected }) }
    }

    /// Rejected requests.
    pub(crate) fn counts(&self) -> AdminAuthCounts {
        let RejectedCounters { tokens, too_many, pages } = &self.policy.rejected;
        AdminAuthCounts {
            tokens: tokens.get(),
            too_many: too_many.load(Ordering::Relaxed),
            pages: pages.get(),
        }
    }

    /// Middleware that rejects unauthorized requests. `local` is the address of the listener, `None` for a unix socket.
    pub(crate) async fn check<B: MessageBody + 'static>(
        &self,
        local: Option<SocketAddr>,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        match self.policy.check(&AdminRequest::new(&request, local)) {
            Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
            Err(failure) => {
                self.policy.count(failure, &request);
                Ok(request.into_response(failure.response()))
            }
        }
    }
}

impl AdminPolicy {
    fn check(&self, request: &AdminRequest<'_>) -> Result<(), AuthFailure> {
        if HEALTH_PATHS.contains(&request.path) {
            return Ok(());
        }
        match &self.token {
            Some(token) => self.check_token(token, request)?,
            None => request.check_host()?,
        }
        request.check_page()
    }

    fn check_token(&self, token: &[u8; 32], request: &AdminRequest<'_>) -> Result<(), AuthFailure> {
        let authorization = request.authorization.ok_or(AuthFailure::NoToken)?;
        let (client, now) = (ClientKey::of(request.peer, PREFIXES), self.clock.now());
        if let Some(wait_seconds) = self.attempts.wait(client, now) {
            return Err(AuthFailure::TooManyAttempts { wait_seconds });
        }
        let is_correct = presented_token(authorization).is_some_and(|presented| {
            let presented: [u8; 32] = Sha256::digest(presented).into();
            presented.ct_eq(token).into()
        });
        if is_correct {
            self.attempts.forget(client);
            return Ok(());
        }
        self.attempts.count_wrong(client, now);
        Err(AuthFailure::WrongToken)
    }

    fn count(&self, failure: AuthFailure, request: &ServiceRequest) {
        let (counter, what) = match failure {
            AuthFailure::NoToken => return,
            AuthFailure::TooManyAttempts { .. } => {
                self.rejected.too_many.fetch_add(1, Ordering::Relaxed);
                return;
            }
            AuthFailure::WrongToken => (&self.rejected.tokens, "wrong admin token"),
            AuthFailure::ForeignHost | AuthFailure::ForeignPage => {
                (&self.rejected.pages, "request from a page of another site")
            }
        };
        let (number, is_logged) = counter.count();
        if is_logged {
            let peer = request.peer_addr();
            let peer = peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.ip().to_string());
            log::warn!("admin listener: {what} rejected, number {number}, from {peer}");
        }
    }
}

impl<'a> AdminRequest<'a> {
    fn new(request: &'a ServiceRequest, local: Option<SocketAddr>) -> Self {
        let headers: &HeaderMap = request.headers();
        let header = |name: &str| headers.get(name).map(|value| value.as_bytes());
        Self {
            path: request.path(),
            is_safe: request.method().is_safe(),
            peer: request.peer_addr().map(|peer| peer.ip()),
            local,
            authorization: header(AUTHORIZATION.as_str()),
            host: header(HOST.as_str()),
            origin: header(ORIGIN.as_str()),
            fetch_site: header("sec-fetch-site"),
            fetch_mode: header("sec-fetch-mode"),
        }
    }

    /// Rejects DNS rebinding: a page whose own host name resolves to this address must not read or change anything. The
    /// browser sends that name as Host.
    fn check_host(&self) -> Result<(), AuthFailure> {
        let Some(local) = self.local else { return Ok(()) };
        if NUMBER_PATHS.contains(&self.path) {
            return Ok(());
        }
        let Some(host) = self.host.and_then(|host| str::from_utf8(host_of(host)).ok()) else {
            // Browsers always send it.
            return if self.host.is_none() { Ok(()) } else { Err(AuthFailure::ForeignHost) };
        };
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(());
        }
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
        let is_ours = address.parse::<IpAddr>().is_ok_and(|address| {
            let address = address.to_canonical();
            address.is_loopback() || address == local.ip().to_canonical()
        });
        if is_ours { Ok(()) } else { Err(AuthFailure::ForeignHost) }
    }

    /// Rejects requests from pages of other sites, because browsers add credentials to them too. Following a link to this
    /// listener is allowed.
    fn check_page(&self) -> Result<(), AuthFailure> {
        let is_own = match (self.fetch_site, self.origin) {
            (Some(b"same-origin"), _) => true,
            (Some(b"none"), _) | (None, None) => return Ok(()),
            (Some(_), _) => false,
            (None, Some(origin)) => self.is_origin(origin),
        };
        let is_own = is_own && self.origin.is_none_or(|origin| self.is_origin(origin));
        let is_navigation = self.is_safe && self.fetch_mode == Some(b"navigate");
        if is_own || is_navigation { Ok(()) } else { Err(AuthFailure::ForeignPage) }
    }

    fn is_origin(&self, origin: &[u8]) -> bool {
        let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        let same = |authority: &[u8], host: &[u8]| authority.eq_ignore_ascii_case(host);
        authority.zip(self.host).is_some_and(|(authority, host)| same(authority, host))
    }
}

/// Reads the token from the Authorization header: a bearer token (RFC 6750 §2.1), or the password of any user (RFC 7617 §2).
fn presented_token(authorization: &[u8]) -> Option<Vec<u8>> {
    let at = authorization.iter().position(|&byte| byte == b' ')?;
    let (scheme, rest) = authorization.split_at(at);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

impl AuthFailure {
    fn response(self) -> HttpResponse {
        let (status, sentence) = match self {
            Self::NoToken | Self::WrongToken => (StatusCode::UNAUTHORIZED, "The admin token is required.\n"),
            Self::TooManyAttempts { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens. Try again later.\n")
            }
            Self::ForeignHost => {
                (StatusCode::FORBIDDEN, "The host name of the admin listener is localhost or its address.\n")
            }
            Self::ForeignPage => {
                (StatusCode::FORBIDDEN, "Requests from pages of other sites are rejected.\n")
            }
        };
        let mut response = uncached(status);
        response.content_type("text/plain; charset=utf-8");
        match self {
            Self::NoToken | Self::WrongToken => {
                response
                    .append_header((WWW_AUTHENTICATE, "Basic realm=\"pagecast admin\", charset=\"UTF-8\""));
                response.append_header((WWW_AUTHENTICATE, "Bearer realm=\"pagecast admin\""));
            }
            Self::TooManyAttempts { wait_seconds } => {
                response.insert_header((RETRY_AFTER, wait_seconds.to_string()));
            }
            Self::ForeignHost | Self::ForeignPage => {}
        }
        response.body(sentence)
    }
}

/// Wrong tokens of one client: ten at once, then one each six seconds.
const ATTEMPTS: AttemptRate = AttemptRate::one_each(6, 10);

/// Addresses that count as one client.
const PREFIXES: ClientPrefixes = ClientPrefixes { v4: 32, v6: 64 };

/// Paths for load balancers, which have no token.
const HEALTH_PATHS: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// Paths of mere numbers, which scrapers request by any name of the machine.
const NUMBER_PATHS: [&str; 2] = ["/status", "/metrics"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ListeningGroup, Toggle};

    const TOKEN: &str = "correct-horse-battery";

    fn policy(token: Toggle<Secret>) -> Arc<AdminPolicy> {
        AdminAuth::new(&Config {
            listening: ListeningGroup { admin_token: token, ..ListeningGroup::default() }.into(),
            ..Config::default()
        })
        .policy
    }

    fn request<'a>(path: &'a str, is_safe: bool) -> AdminRequest<'a> {
        let local = Some(([127, 0, 0, 1], 8081).into());
        AdminRequest { path, is_safe, peer: "127.0.0.1".parse().ok(), local, ..AdminRequest::default() }
    }

    #[test]
    fn a_token_is_accepted_as_bearer_or_as_the_password_of_any_user() {
        let policy = policy(Toggle::Given(TOKEN.parse().unwrap()));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (authorization, is_correct) in [
            (format!("Bearer {TOKEN}"), true),
            (format!("bearer  {TOKEN} "), true),
            (basic(&format!("admin:{TOKEN}")), true),
            (basic(&format!(":{TOKEN}")), true),
            (basic(&format!("a:b:{TOKEN}")), false),
            (basic(TOKEN), false),
            (format!("Bearer {TOKEN}x"), false),
            (format!("Bearer {}", &TOKEN[1..]), false),
            (format!("Digest {TOKEN}"), false),
            (TOKEN.to_owned(), false),
            ("Bearer ".to_owned(), false),
            ("Basic =".to_owned(), false),
            (String::new(), false),
        ] {
            let request =
                AdminRequest { authorization: Some(authorization.as_bytes()), ..request("/", true) };
            let expected = if is_correct { Ok(()) } else { Err(AuthFailure::WrongToken) };
            assert_eq!(policy.check(&request), expected, "{authorization}");
        }
        assert_eq!(policy.check(&request("/status", true)), Err(AuthFailure::NoToken));
        assert_eq!(policy.check(&request("/readyz", true)), Ok(()));
    }

    #[test]
    fn without_a_token_only_hosts_of_the_listener_are_accepted() {
        let policy = policy(Toggle::Off);
        for (host, is_ours) in [
            ("localhost", true),
            ("LOCALHOST:8081", true),
            ("localhost.:8081", true),
            ("pagecast.localhost", true),
            ("127.0.0.1:8081", true),
            ("127.9.9.9", true),
            ("[::1]:8081", true),
            ("[::ffff:127.0.0.1]", true),
            ("example.org", false),
            ("example.org:8081", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("notlocalhost", false),
            ("192.0.2.1", false),
            ("0.0.0.0:8081", false),
            ("", false),
            ("[::1", false),
        ] {
            for (path, is_safe) in
                [("/", true), ("/events", true), ("/debug/config", true), ("/drain", false)]
            {
                let request = AdminRequest { host: Some(host.as_bytes()), ..request(path, is_safe) };
                let expected = if is_ours { Ok(()) } else { Err(AuthFailure::ForeignHost) };
                assert_eq!(policy.check(&request), expected, "{host} {path}");
            }
            for path in HEALTH_PATHS.into_iter().chain(NUMBER_PATHS) {
                let request = AdminRequest { host: Some(host.as_bytes()), ..request(path, true) };
                assert_eq!(policy.check(&request), Ok(()), "{host} {path}");
            }
            let unix = AdminRequest { host: Some(host.as_bytes()), local: None, ..request("/drain", false) };
            assert_eq!(policy.check(&unix), Ok(()), "{host}");
        }
        assert_eq!(policy.check(&request("/drain", false)), Ok(()), "programs may omit it");
        let local = Some(([192, 0, 2, 1], 8081).into());
        let bound = AdminRequest { host: Some(b"192.0.2.1:8081"), local, ..request("/drain", false) };
        assert_eq!(policy.check(&bound), Ok(()));
    }

    #[test]
    fn only_pages_of_the_listener_may_send_requests() {
        let (open, closed) = (policy(Toggle::Off), policy(Toggle::Given(TOKEN.parse().unwrap())));
        let right = format!("Bearer {TOKEN}");
        for (site, mode, origin, may_read, may_change) in [
            (None, None, None, true, true),
            (Some("same-origin"), Some("cors"), None, true, true),
            (Some("same-origin"), Some("cors"), Some("http://localhost:8081"), true, true),
            (Some("same-origin"), Some("cors"), Some("http://example.org"), false, false),
            (Some("none"), Some("navigate"), None, true, true),
            (Some("cross-site"), Some("navigate"), None, true, false),
            (Some("cross-site"), Some("navigate"), Some("null"), true, false),
            (Some("cross-site"), Some("no-cors"), None, false, false),
            (Some("cross-site"), Some("cors"), Some("http://example.org"), false, false),
            (Some("same-site"), Some("cors"), Some("http://localhost:3000"), false, false),
            (Some("same-site"), Some("no-cors"), None, false, false),
            (None, None, Some("http://localhost:8081"), true, true),
            (None, None, Some("https://LOCALHOST:8081"), true, true),
            (None, None, Some("http://localhost"), false, false),
            (None, None, Some("http://localhost:3000"), false, false),
            (None, None, Some("http://example.org"), false, false),
            (None, None, Some("null"), false, false),
            (None, None, Some(""), false, false),
        ] {
            for (is_safe, may) in [(true, may_read), (false, may_change)] {
                let request = AdminRequest {
                    host: Some(b"localhost:8081"),
                    origin: origin.map(str::as_bytes),
                    fetch_site: site.map(str::as_bytes),
                    fetch_mode: mode.map(str::as_bytes),
                    authorization: Some(right.as_bytes()),
                    ..request("/drain", is_safe)
                };
                let expected = if may { Ok(()) } else { Err(AuthFailure::ForeignPage) };
                for policy in [&open, &closed] {
                    assert_eq!(policy.check(&request), expected, "{site:?} {mode:?} {origin:?} {is_safe}");
                }
            }
        }
    }
}
