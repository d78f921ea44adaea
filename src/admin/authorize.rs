//! Who may use the admin listener: whoever shows its token where it has one, and no page of a browser but its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, HOST, HeaderMap, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::attempts::FailedTokenAttempts;
use crate::config::{Config, Secret};
use crate::http::authority::host_of;
use crate::telemetry::log_throttle::SampledCounter;

/// The door of the admin listener. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub(crate) struct AdminAuth {
    inner: Arc<Inner>,
}

struct Inner {
    /// The SHA-256 of the token, where there is one: comparing it tells nothing of the token's length.
    token: Option<[u8; 32]>,
    attempts: FailedTokenAttempts,
    refused: RejectedCounters,
}

/// What was refused since the start.
#[derive(Debug, Default)]
struct RejectedCounters {
    tokens: SampledCounter,
    too_many: AtomicU64,
    pages: SampledCounter,
}

/// Requests that the admin listener refused since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct AdminAuthCounts {
    /// With a wrong token.
    pub(crate) tokens: u64,
    /// Not looked at, after too many wrong ones.
    pub(crate) too_many: u64,
    /// Of pages of other sites, or under names that are not the listener's.
    pub(crate) pages: u64,
}

/// Why a request goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthFailure {
    NoToken,
    WrongToken,
    TooManyAttempts { wait: Duration },
    ForeignName,
    ForeignPage,
}

/// What is known of a request before it is answered.
#[derive(Clone, Copy, Debug, Default)]
struct AdminRequest<'a> {
    path: &'a str,
    /// It only reads (RFC 9110 §9.2.1).
    is_safe: bool,
    /// None over a unix socket.
    peer: Option<IpAddr>,
    /// The address that was connected to.
    here: Option<SocketAddr>,
    authorization: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    /// `Sec-Fetch-Site` and `Sec-Fetch-Mode` (W3C Fetch Metadata), which browsers send and pages can't.
    fetch_site: Option<&'a [u8]>,
    fetch_mode: Option<&'a [u8]>,
}

impl AdminAuth {
    /// The door as it is configured.
    pub(crate) fn new(config: &Config) -> Self {
        let digest = |token: &Secret| Sha256::digest(token.reveal()).into();
        let token = config.listening.admin_token.given().map(digest);
        Self {
            inner: Arc::new(Inner {
                token,
                attempts: FailedTokenAttempts::default(),
                refused: RejectedCounters::default(),
            }),
        }
    }

    /// What was refused.
    pub(crate) fn counts(&self) -> AdminAuthCounts {
        let RejectedCounters { tokens, too_many, pages } = &self.inner.refused;
        AdminAuthCounts {
            tokens: tokens.get(),
            too_many: too_many.load(Ordering::Relaxed),
            pages: pages.get(),
        }
    }

    /// Answers whoever may not come in; the others go on to what they asked for. `here` is the listener's address, none for
    /// a unix socket.
    pub(crate) async fn pass<B: MessageBody + 'static>(
        &self,
        here: Option<SocketAddr>,
        request: ServiceRequest,
        next: Next<B>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        match self.inner.judge(&AdminRequest::of(&request, here)) {
            Ok(()) => Ok(next.call(request).await?.map_into_boxed_body()),
            Err(refusal) => {
                self.inner.note(refusal, &request);
                Ok(request.into_response(refusal.response()))
            }
        }
    }
}

impl Inner {
    fn judge(&self, asked: &AdminRequest<'_>) -> Result<(), AuthFailure> {
        if HEALTH.contains(&asked.path) {
            return Ok(());
        }
        match &self.token {
            Some(token) => self.check_token(token, asked)?,
            None => asked.check_name()?,
        }
        asked.check_page()
    }

    fn check_token(&self, token: &[u8; 32], asked: &AdminRequest<'_>) -> Result<(), AuthFailure> {
        let shown = asked.authorization.ok_or(AuthFailure::NoToken)?;
        let now = Instant::now();
        self.attempts.check(asked.peer, now).map_err(|wait| AuthFailure::TooManyAttempts { wait })?;
        let is_right = password(shown).is_some_and(|shown| {
            let shown: [u8; 32] = Sha256::digest(shown).into();
            shown.ct_eq(token).into()
        });
        if is_right {
            self.attempts.succeeded(asked.peer);
            return Ok(());
        }
        self.attempts.failed(asked.peer, now);
        Err(AuthFailure::WrongToken)
    }

    fn note(&self, refusal: AuthFailure, request: &ServiceRequest) {
        let who =
            request.peer_addr().map_or_else(|| "a unix socket".to_owned(), |peer| peer.ip().to_string());
        let (tally, what) = match refusal {
            AuthFailure::NoToken => return,
            AuthFailure::TooManyAttempts { .. } => {
                self.refused.too_many.fetch_add(1, Ordering::Relaxed);
                return;
            }
            AuthFailure::WrongToken => (&self.refused.tokens, "a wrong admin token"),
            AuthFailure::ForeignName | AuthFailure::ForeignPage => {
                (&self.refused.pages, "a request for the admin listener from a page of another site")
            }
        };
        let (number, is_told) = tally.count();
        if is_told {
            log::warn!("{what} was refused, number {number}, from {who}");
        }
    }
}

impl<'a> AdminRequest<'a> {
    fn of(request: &'a ServiceRequest, here: Option<SocketAddr>) -> Self {
        let fields: &HeaderMap = request.headers();
        let field = |name: &str| fields.get(name).map(|value| value.as_bytes());
        Self {
            path: request.path(),
            is_safe: request.method().is_safe(),
            peer: request.peer_addr().map(|peer| peer.ip()),
            here,
            authorization: field(AUTHORIZATION.as_str()),
            host: field(HOST.as_str()),
            origin: field(ORIGIN.as_str()),
            fetch_site: field("sec-fetch-site"),
            fetch_mode: field("sec-fetch-mode"),
        }
    }

    /// A page whose own name was bound to this address must not read or change anything: the browser thinks that it is
    /// asking that page's site, and says so.
    fn check_name(&self) -> Result<(), AuthFailure> {
        let Some(here) = self.here else { return Ok(()) };
        if COUNTS.contains(&self.path) {
            return Ok(());
        }
        let Some(host) = self.host.and_then(|host| str::from_utf8(host_of(host)).ok()) else {
            // No browser leaves it out.
            return if self.host.is_none() { Ok(()) } else { Err(AuthFailure::ForeignName) };
        };
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(());
        }
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
        let is_ours = address.parse::<IpAddr>().is_ok_and(|address| {
            let address = address.to_canonical();
            address.is_loopback() || address == here.ip().to_canonical()
        });
        if is_ours { Ok(()) } else { Err(AuthFailure::ForeignName) }
    }

    /// Browsers add credentials of their own accord, whichever page asks. Of pages only this listener's own may ask for
    /// anything; a link that leads here may be followed.
    fn check_page(&self) -> Result<(), AuthFailure> {
        let is_own = match (self.fetch_site, self.origin) {
            (Some(b"same-origin"), _) => true,
            (Some(b"none"), _) | (None, None) => return Ok(()),
            (Some(_), _) => false,
            (None, Some(origin)) => self.is_origin(origin),
        };
        let is_own = is_own && self.origin.is_none_or(|origin| self.is_origin(origin));
        let is_followed = self.is_safe && self.fetch_mode == Some(b"navigate");
        if is_own || is_followed { Ok(()) } else { Err(AuthFailure::ForeignPage) }
    }

    fn is_origin(&self, origin: &[u8]) -> bool {
        let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        let same = |authority: &[u8], host: &[u8]| authority.eq_ignore_ascii_case(host);
        authority.zip(self.host).is_some_and(|(authority, host)| same(authority, host))
    }
}

/// What was shown as a token: a bearer token (RFC 6750 §2.1), or the password of any name (RFC 7617 §2).
fn password(authorization: &[u8]) -> Option<Vec<u8>> {
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
            Self::NoToken | Self::WrongToken => (StatusCode::UNAUTHORIZED, "This needs the admin token.\n"),
            Self::TooManyAttempts { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens. Try again later.\n")
            }
            Self::ForeignName => (
                StatusCode::FORBIDDEN,
                "The admin listener is called localhost, or by its address, and nothing else.\n",
            ),
            Self::ForeignPage => (StatusCode::FORBIDDEN, "No page of another site may ask for this.\n"),
        };
        let mut response = HttpResponse::build(status);
        response
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .content_type("text/plain; charset=utf-8");
        match self {
            Self::NoToken | Self::WrongToken => {
                response
                    .append_header((WWW_AUTHENTICATE, "Basic realm=\"pagecast admin\", charset=\"UTF-8\""));
                response.append_header((WWW_AUTHENTICATE, "Bearer realm=\"pagecast admin\""));
            }
            Self::TooManyAttempts { wait } => {
                response.insert_header((RETRY_AFTER, wait.as_secs().max(1).to_string()));
            }
            Self::ForeignName | Self::ForeignPage => {}
        }
        response.body(sentence)
    }
}

/// What load balancers ask, who have no token.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// Numbers alone, which scrapers ask for by whatever name they know the machine.
const COUNTS: [&str; 2] = ["/status", "/metrics"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ListeningGroup, Toggle};

    const TOKEN: &str = "correct-horse-battery";

    fn inner(token: Toggle<Secret>) -> Arc<Inner> {
        AdminAuth::new(&Config {
            listening: ListeningGroup { admin_token: token, ..ListeningGroup::default() }.into(),
            ..Config::default()
        })
        .inner
    }

    fn asked<'a>(path: &'a str, is_safe: bool) -> AdminRequest<'a> {
        let here = Some(([127, 0, 0, 1], 8081).into());
        AdminRequest { path, is_safe, peer: "127.0.0.1".parse().ok(), here, ..AdminRequest::default() }
    }

    #[test]
    fn a_token_is_shown_as_bearer_or_as_the_password_of_any_name() {
        let inner = inner(Toggle::Given(TOKEN.parse().unwrap()));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (shown, is_right) in [
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
            let request = AdminRequest { authorization: Some(shown.as_bytes()), ..asked("/", true) };
            let expected = if is_right { Ok(()) } else { Err(AuthFailure::WrongToken) };
            assert_eq!(inner.judge(&request), expected, "{shown}");
        }
        assert_eq!(inner.judge(&asked("/status", true)), Err(AuthFailure::NoToken));
        assert_eq!(inner.judge(&asked("/readyz", true)), Ok(()));
    }

    #[test]
    fn without_a_token_the_listener_is_called_by_its_own_names() {
        let inner = inner(Toggle::Off);
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
                let request = AdminRequest { host: Some(host.as_bytes()), ..asked(path, is_safe) };
                let expected = if is_ours { Ok(()) } else { Err(AuthFailure::ForeignName) };
                assert_eq!(inner.judge(&request), expected, "{host} {path}");
            }
            for path in HEALTH.into_iter().chain(COUNTS) {
                let request = AdminRequest { host: Some(host.as_bytes()), ..asked(path, true) };
                assert_eq!(inner.judge(&request), Ok(()), "{host} {path}");
            }
            let unix = AdminRequest { host: Some(host.as_bytes()), here: None, ..asked("/drain", false) };
            assert_eq!(inner.judge(&unix), Ok(()), "{host}");
        }
        assert_eq!(inner.judge(&asked("/drain", false)), Ok(()), "a program may leave it out");
        let here = Some(([192, 0, 2, 1], 8081).into());
        let bound = AdminRequest { host: Some(b"192.0.2.1:8081"), here, ..asked("/drain", false) };
        assert_eq!(inner.judge(&bound), Ok(()));
    }

    #[test]
    fn of_pages_only_the_listeners_own_may_ask() {
        let (open, closed) = (inner(Toggle::Off), inner(Toggle::Given(TOKEN.parse().unwrap())));
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
                    ..asked("/drain", is_safe)
                };
                let expected = if may { Ok(()) } else { Err(AuthFailure::ForeignPage) };
                for inner in [&open, &closed] {
                    assert_eq!(inner.judge(&request), expected, "{site:?} {mode:?} {origin:?} {is_safe}");
                }
            }
        }
    }
}
