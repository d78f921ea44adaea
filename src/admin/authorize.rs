//! Authorization of requests to the admin listener: its token if it has one, and protection against pages of other sites.

use std::net::{IpAddr, SocketAddr};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::respond::{retry_later, text};
use crate::config::{Config, Secret};
use crate::http::authority::host_of;
use crate::http::client_key::{ClientKey, ClientPrefixes, peer_name};
use crate::limits::attempts::FailedAttemptTable;
use crate::sys::gcra::{Quota, RateClock, SECOND};
use crate::telemetry::log_throttle::SampledCounter;

/// Authorization of the admin listener, with the number of requests that it rejected.
///
/// Decision: docs/decisions/037-admin-port-and-browsers.md.
pub(crate) struct AdminAuth {
    /// SHA-256 of the token, so that comparing does not reveal its length. `None` without a token.
    token: Option<[u8; 32]>,
    attempts: FailedAttemptTable,
    clock: RateClock,
    pub(crate) wrong_tokens: SampledCounter,
    /// Tokens that were not checked after too many wrong ones.
    pub(crate) too_many: SampledCounter,
    /// Requests from pages of other sites, or with a Host that is not that of the listener.
    pub(crate) foreign_pages: SampledCounter,
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

/// A request at the listener.
struct AdminRequest<'a> {
    request: &'a ServiceRequest,
    /// Address of the listener. `None` for a unix socket.
    local: Option<SocketAddr>,
}

impl AdminAuth {
    /// Creates the authorization that `config` describes.
    pub(crate) fn new(config: &Config) -> Self {
        let digest = |token: &Secret| Sha256::digest(token.reveal()).into();
        Self {
            token: config.listening.admin_token.given().map(digest),
            attempts: FailedAttemptTable::new(ATTEMPTS),
            clock: RateClock::default(),
            wrong_tokens: SampledCounter::default(),
            too_many: SampledCounter::default(),
            foreign_pages: SampledCounter::default(),
        }
    }

    /// Middleware that rejects unauthorized requests. `local` is the address of the listener, `None` for a unix socket.
    pub(crate) async fn authorize<B: MessageBody + 'static>(
        &self,
        local: Option<SocketAddr>,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        match self.check(&AdminRequest { request: &request, local }) {
            Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
            Err(failure) => {
                self.count(failure, &request);
                Ok(request.into_response(failure.response()))
            }
        }
    }

    fn check(&self, request: &AdminRequest<'_>) -> Result<(), AuthFailure> {
        if HEALTH_PATHS.contains(&request.request.path()) {
            return Ok(());
        }
        match &self.token {
            Some(token) => self.check_token(token, request)?,
            None => request.check_host()?,
        }
        request.check_page()
    }

    fn check_token(&self, token: &[u8; 32], request: &AdminRequest<'_>) -> Result<(), AuthFailure> {
        let authorization = request.header(&AUTHORIZATION).ok_or(AuthFailure::NoToken)?;
        let peer = request.request.peer_addr().map(|peer| peer.ip());
        let (client, now) = (ClientKey::of(peer, PREFIXES), self.clock.now());
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
                self.too_many.count();
                return;
            }
            AuthFailure::WrongToken => (&self.wrong_tokens, "wrong admin token"),
            AuthFailure::ForeignHost | AuthFailure::ForeignPage => {
                (&self.foreign_pages, "request from a page of another site")
            }
        };
        let (number, is_logged) = counter.count();
        if is_logged {
            let peer = peer_name(request.peer_addr().map(|peer| peer.ip()));
            log::warn!("admin listener: {what} rejected, number {number}, from {peer}");
        }
    }
}

impl<'a> AdminRequest<'a> {
    fn header(&self, name: &HeaderName) -> Option<&'a [u8]> {
        self.request.headers().get(name).map(HeaderValue::as_bytes)
    }

    /// Rejects DNS rebinding: a page whose own host name resolves to this address must not read or change anything. The
    /// browser sends that name as Host.
    fn check_host(&self) -> Result<(), AuthFailure> {
        let Some(local) = self.local else { return Ok(()) };
        // Browsers always send it.
        let Some(host) = self.header(&HOST).filter(|_| !NUMBER_PATHS.contains(&self.request.path())) else {
            return Ok(());
        };
        let host = str::from_utf8(host_of(host)).map_err(|_| AuthFailure::ForeignHost)?;
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
        let origin = self.header(&ORIGIN);
        let site = self.header(&FETCH_SITE);
        let is_own =
            matches!(site, None | Some(b"same-origin")) && origin.is_none_or(|origin| self.is_origin(origin));
        let is_navigation = self.request.method().is_safe() && self.header(&FETCH_MODE) == Some(b"navigate");
        let is_allowed = site == Some(b"none") || is_own || is_navigation;
        if is_allowed { Ok(()) } else { Err(AuthFailure::ForeignPage) }
    }

    fn is_origin(&self, origin: &[u8]) -> bool {
        let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        authority
            .zip(self.header(&HOST))
            .is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    }
}

/// Reads the token from the Authorization header: a bearer token (RFC 6750 §2.1), or the password of any user (RFC 7617 §2).
fn presented_token(authorization: &[u8]) -> Option<Vec<u8>> {
    let end = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, value) = authorization.split_at(end);
    match scheme.to_ascii_lowercase().as_slice() {
        b"bearer" => Some(value.trim_ascii().to_vec()),
        b"basic" => {
            let pair = STANDARD.decode(value.trim_ascii()).ok()?;
            let colon = pair.iter().position(|byte| *byte == b':')?;
            pair.get(colon + 1..).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}

impl AuthFailure {
    fn response(self) -> HttpResponse {
        match self {
            Self::NoToken | Self::WrongToken => {
                let mut response = text(StatusCode::UNAUTHORIZED, "The admin token is required.\n");
                for challenge in CHALLENGES {
                    response.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
                response
            }
            Self::TooManyAttempts { wait_seconds } => {
                let sentence = "Too many wrong tokens. Try again later.\n";
                retry_later(StatusCode::TOO_MANY_REQUESTS, sentence, wait_seconds)
            }
            Self::ForeignHost => text(
                StatusCode::FORBIDDEN,
                "The host name of the admin listener is localhost or its address.\n",
            ),
            Self::ForeignPage => {
                text(StatusCode::FORBIDDEN, "Requests from pages of other sites are rejected.\n")
            }
        }
    }
}

/// Values of `WWW-Authenticate` for a client without the token (RFC 9110 §11.6.1).
const CHALLENGES: [&str; 2] =
    ["Basic realm=\"pagecast admin\", charset=\"UTF-8\"", "Bearer realm=\"pagecast admin\""];

/// `Sec-Fetch-Site` and `Sec-Fetch-Mode` (W3C Fetch Metadata), which browsers set and pages can't change.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Wrong tokens of one client: ten at once, then one each six seconds.
const ATTEMPTS: Quota = Quota::new(6 * SECOND, 10);

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
    use actix_web::http::Method;
    use actix_web::test::TestRequest;

    const TOKEN: &str = "correct-horse-battery";

    fn policy(token: Toggle<Secret>) -> AdminAuth {
        AdminAuth::new(&Config {
            listening: ListeningGroup { admin_token: token, ..ListeningGroup::default() }.into(),
            ..Config::default()
        })
    }

    fn request(path: &str, is_safe: bool) -> TestRequest {
        let method = if is_safe { Method::GET } else { Method::POST };
        TestRequest::with_uri(path).method(method).peer_addr(([127, 0, 0, 1], 4711).into())
    }

    fn check(policy: &AdminAuth, request: TestRequest, local: Option<SocketAddr>) -> Result<(), AuthFailure> {
        policy.check(&AdminRequest { request: &request.to_srv_request(), local })
    }

    fn check_at_loopback(policy: &AdminAuth, request: TestRequest) -> Result<(), AuthFailure> {
        check(policy, request, Some(([127, 0, 0, 1], 8081).into()))
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
            let request = request("/", true).insert_header((AUTHORIZATION, &*authorization));
            let expected = if is_correct { Ok(()) } else { Err(AuthFailure::WrongToken) };
            assert_eq!(check_at_loopback(&policy, request), expected, "{authorization}");
        }
        assert_eq!(check_at_loopback(&policy, request("/status", true)), Err(AuthFailure::NoToken));
        assert_eq!(check_at_loopback(&policy, request("/readyz", true)), Ok(()));
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
                let request = request(path, is_safe).insert_header((HOST, host));
                let expected = if is_ours { Ok(()) } else { Err(AuthFailure::ForeignHost) };
                assert_eq!(check_at_loopback(&policy, request), expected, "{host} {path}");
            }
            for path in HEALTH_PATHS.into_iter().chain(NUMBER_PATHS) {
                let request = request(path, true).insert_header((HOST, host));
                assert_eq!(check_at_loopback(&policy, request), Ok(()), "{host} {path}");
            }
            let request = request("/drain", false).insert_header((HOST, host));
            assert_eq!(check(&policy, request, None), Ok(()), "{host} at a unix socket");
        }
        assert_eq!(check_at_loopback(&policy, request("/drain", false)), Ok(()), "programs may omit it");
        let local = Some(([192, 0, 2, 1], 8081).into());
        let request = request("/drain", false).insert_header((HOST, "192.0.2.1:8081"));
        assert_eq!(check(&policy, request, local), Ok(()));
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
                let expected = if may { Ok(()) } else { Err(AuthFailure::ForeignPage) };
                for policy in [&open, &closed] {
                    let mut request = request("/drain", is_safe)
                        .insert_header((HOST, "localhost:8081"))
                        .insert_header((AUTHORIZATION, &*right));
                    for (name, value) in [(ORIGIN, origin), (FETCH_SITE, site), (FETCH_MODE, mode)] {
                        if let Some(value) = value {
                            request = request.insert_header((name, value));
                        }
                    }
                    let found = check_at_loopback(policy, request);
                    assert_eq!(found, expected, "{site:?} {mode:?} {origin:?} {is_safe}");
                }
            }
        }
    }
}
