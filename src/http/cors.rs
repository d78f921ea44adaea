//! Cross-origin requests (the CORS protocol of the Fetch standard, §3.3).

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use super::authority::{first_fault, is_valid_host};
use super::method::ReadMethod;
use crate::http::header_grammar::is_token;

/// Rights of pages of other origins for a part of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    /// The origins that may read responses.
    pub origins: AllowedOrigins,
    /// The methods in the answer to a preflight.
    pub methods: Vec<ReadMethod>,
    /// The request headers that a preflight may ask for.
    pub headers: AllowedHeaders,
    /// The response headers that a script may read besides the safelisted ones: names separated by commas.
    pub expose: String,
    /// How long a browser may cache the answer to a preflight; sent in whole seconds.
    pub max_age: Duration,
    /// Whether requests with cookies or other credentials are allowed. Never together with
    /// [`AllowedOrigins::Any`]: browsers refuse that.
    pub credentials: bool,
}

impl CorsPolicy {
    /// The default policy for files: GET and HEAD with ranges, conditions and checksums, without credentials.
    pub fn new(origins: AllowedOrigins, max_age: Duration) -> Self {
        Self {
            origins,
            methods: vec![ReadMethod::Get, ReadMethod::Head],
            headers: AllowedHeaders::These(HEADERS.iter().map(|&name| name.to_owned()).collect()),
            expose: EXPOSE.to_owned(),
            max_age,
            credentials: false,
        }
    }
}

/// The kind of a cross-origin request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsRequest<'a> {
    /// A request for the representation.
    Simple,
    /// A preflight: an OPTIONS with Origin and Access-Control-Request-Method.
    Preflight {
        /// Access-Control-Request-Headers; several lines are joined by commas.
        requested: Option<&'a [u8]>,
    },
}

/// CORS headers of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsAnswer<'a> {
    /// Headers to add, by name and value. Empty: the origin may not read the response.
    pub headers: Vec<(&'static str, Cow<'a, str>)>,
    /// Names to add to Vary, whether or not the origin may read.
    pub vary: Option<&'static str>,
}

/// Decides the CORS headers of a response to a page of `origin`, the value of the Origin header.
///
/// If all origins may read without credentials, every response allows it, even without Origin, so that caches need no Vary.
/// A method or request header that is not allowed is left out of the answer to a preflight; the browser then refuses the
/// request.
pub fn decide<'a>(
    policy: &'a CorsPolicy,
    origin: Option<&'a [u8]>,
    request: CorsRequest<'_>,
) -> CorsAnswer<'a> {
    let is_preflight = matches!(request, CorsRequest::Preflight { .. });
    let mut headers = Vec::new();
    let vary = match (&policy.origins, is_preflight) {
        (AllowedOrigins::Any, false) => None,
        (AllowedOrigins::Any, true) => Some(VARY_PREFLIGHT_OF_ANY),
        (AllowedOrigins::These(_), false) => Some(VARY),
        (AllowedOrigins::These(_), true) => Some(VARY_PREFLIGHT),
    };
    let Some(allowed) = allowed_origin(policy, origin) else { return CorsAnswer { headers, vary } };
    headers.push(("Access-Control-Allow-Origin", Cow::Borrowed(allowed)));
    // Browsers refuse `*` with credentials. If the origin were echoed instead, any page could read its visitor's data.
    if policy.credentials && policy.origins != AllowedOrigins::Any {
        headers.push(("Access-Control-Allow-Credentials", Cow::Borrowed("true")));
    }
    match request {
        CorsRequest::Simple if policy.expose.is_empty() => {}
        CorsRequest::Simple => {
            headers.push(("Access-Control-Expose-Headers", Cow::Borrowed(&policy.expose)));
        }
        CorsRequest::Preflight { requested } => {
            let names = allowed_headers(&policy.headers, requested.unwrap_or_default());
            let methods = policy.methods.iter().map(|method| method.name()).collect::<Vec<_>>().join(", ");
            headers.push(("Access-Control-Allow-Methods", Cow::Owned(methods)));
            if !names.is_empty() {
                headers.push(("Access-Control-Allow-Headers", Cow::Owned(names)));
            }
            headers.push(("Access-Control-Max-Age", Cow::Owned(policy.max_age.as_secs().to_string())));
        }
    }
    CorsAnswer { headers, vary }
}

fn allowed_origin<'a>(policy: &CorsPolicy, origin: Option<&'a [u8]>) -> Option<&'a str> {
    match &policy.origins {
        AllowedOrigins::Any => Some("*"),
        AllowedOrigins::These(patterns) => {
            let origin = origin.filter(|origin| patterns.iter().any(|pattern| pattern.matches(origin)))?;
            str::from_utf8(origin).ok()
        }
    }
}

/// The allowed ones of the requested names, in lower case. They are echoed even if all are allowed, since the value `*` would
/// not cover Authorization.
fn allowed_headers(allowed: &AllowedHeaders, requested: &[u8]) -> String {
    let is_allowed = |name: &String| match allowed {
        AllowedHeaders::Any => true,
        AllowedHeaders::These(known) => known.contains(name),
    };
    let names = requested.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|name| is_token(name));
    let names = names.filter_map(|name| str::from_utf8(name).ok()).map(str::to_ascii_lowercase);
    names.filter(is_allowed).collect::<Vec<_>>().join(", ")
}

/// The origins that a policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All, `null` included.
    Any,
    /// Those that match one of these.
    These(Vec<OriginPattern>),
}

/// The request headers that a preflight may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHeaders {
    /// All.
    Any,
    /// These, in lower case.
    These(Vec<String>),
}

/// One origin, or those of all subdomains, in the form in which browsers send it (RFC 6454 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// All of it, or for subdomains the scheme and slashes.
    prefix: String,
    /// For subdomains, the dot before the domain and what follows.
    suffix: Option<String>,
}

impl FromStr for OriginPattern {
    type Err = &'static str;

    /// Reads `scheme://host`, `scheme://host:port`, the same with `*.` before the host for one or more further
    /// labels, or `null`. The error continues "the value …".
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text == "null" {
            return Ok(Self { prefix: text.to_owned(), suffix: None });
        }
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme such as https://")?;
        let host = rest.strip_prefix("*.").unwrap_or(rest);
        check_origin(scheme, host)?;
        Ok(match host.len() == rest.len() {
            true => Self { prefix: text.to_owned(), suffix: None },
            false => Self { prefix: format!("{scheme}://"), suffix: Some(format!(".{host}")) },
        })
    }
}

impl OriginPattern {
    /// Whether the value of an Origin header matches. Bytes are compared, since browsers send one form only.
    pub fn matches(&self, origin: &[u8]) -> bool {
        let Some(rest) = origin.strip_prefix(self.prefix.as_bytes()) else { return false };
        let Some(suffix) = &self.suffix else { return rest.is_empty() };
        let labels = rest.strip_suffix(suffix.as_bytes());
        labels.is_some_and(|labels| !labels.is_empty() && labels.iter().all(|&byte| is_label_byte(byte)))
    }
}

/// In the form that `from_str` reads.
impl std::fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.prefix)?;
        self.suffix.iter().try_for_each(|suffix| write!(f, "*{suffix}"))
    }
}

fn check_origin(scheme: &str, host: &str) -> Result<(), &'static str> {
    let has_capitals = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_scheme_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_scheme =
        scheme.starts_with(|first: char| first.is_ascii_lowercase()) && scheme.bytes().all(is_scheme_byte);
    let port = host.rsplit_once(':').map(|(_, port)| port);
    let is_usual_port = matches!((scheme, port), ("https", Some("443")) | ("http", Some("80")));
    first_fault(&[
        (has_capitals(scheme), "is not in lower case, as browsers send it"),
        (!is_scheme, "has no scheme such as https://"),
        (
            host.ends_with('/') && host.matches('/').count() == 1,
            "ends with a slash, which browsers do not send",
        ),
        (host.contains(['/', '?', '#']), "has a path; an origin ends with its host or port"),
        (host.contains('@'), "has a user in it, which browsers do not send"),
        (
            host.contains('*'),
            "has a * elsewhere than in place of all labels before a domain, as in https://*.example.com",
        ),
        (!host.is_ascii(), "is not ASCII; browsers send the form that begins with xn--"),
        (has_capitals(host), "is not in lower case, as browsers send it"),
        (is_usual_port, "names the usual port of its scheme, which browsers leave out"),
        (matches!(port, Some("" | "0")), "has no port after its colon"),
        (host.is_empty() || !is_valid_host(host.as_bytes()), "has no host that a browser could send"),
    ])
}

/// A byte of a domain name as browsers send it, the dots between labels included.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
}

const VARY: &str = "Origin";
const VARY_PREFLIGHT: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
const VARY_PREFLIGHT_OF_ANY: &str = "Access-Control-Request-Method, Access-Control-Request-Headers";

/// Request headers that clients of files send besides the safelisted ones.
const HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "want-content-digest",
    "want-repr-digest",
];

/// Response headers that a script needs to resume, name and check a download.
const EXPOSE: &str =
    "Accept-Ranges, Content-Disposition, Content-Digest, Content-Encoding, Content-Range, ETag, Repr-Digest";

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &[&str]) -> CorsPolicy {
        let pattern = |origin: &&str| origin.parse::<OriginPattern>().expect("an origin");
        let origins = match origins {
            ["*"] => AllowedOrigins::Any,
            _ => AllowedOrigins::These(origins.iter().map(pattern).collect()),
        };
        CorsPolicy::new(origins, Duration::from_secs(600))
    }

    /// The headers without their common prefix, and Vary.
    fn answer(
        policy: &CorsPolicy,
        origin: &str,
        request: CorsRequest<'_>,
    ) -> (Vec<String>, Option<&'static str>) {
        let origin = (!origin.is_empty()).then_some(origin.as_bytes());
        let answer = decide(policy, origin, request);
        let short = |name: &str| name.strip_prefix("Access-Control-").expect("one of ours").to_owned();
        (
            answer.headers.iter().map(|(name, value)| format!("{}: {value}", short(name))).collect(),
            answer.vary,
        )
    }

    fn preflight(headers: &str) -> CorsRequest<'_> {
        CorsRequest::Preflight { requested: (!headers.is_empty()).then_some(headers.as_bytes()) }
    }

    fn exposed() -> String {
        format!("Expose-Headers: {EXPOSE}")
    }

    #[test]
    fn every_origin_gets_the_same_answer_if_all_may_read() {
        for origin in ["", "https://a", "null"] {
            let expected = (vec!["Allow-Origin: *".to_owned(), exposed()], None);
            assert_eq!(answer(&policy(&["*"]), origin, CorsRequest::Simple), expected, "{origin}");
        }
    }

    #[test]
    fn an_allowed_origin_is_echoed_and_others_get_only_vary() {
        let some = policy(&["https://a", "https://*.b", "null"]);
        for (origin, allowed) in [
            ("https://a", true),
            ("https://x.b", true),
            ("null", true),
            ("https://c", false),
            ("http://a", false),
            ("", false),
        ] {
            let (headers, vary) = answer(&some, origin, CorsRequest::Simple);
            let expected = if allowed { vec![format!("Allow-Origin: {origin}"), exposed()] } else { vec![] };
            assert_eq!(headers, expected, "{origin}");
            assert_eq!(vary, Some("Origin"), "{origin}");
            let (headers, vary) = answer(&some, origin, preflight("range"));
            assert_eq!(headers.is_empty(), !allowed, "{origin}");
            assert_eq!(vary, Some(VARY_PREFLIGHT), "{origin}");
        }
    }

    #[test]
    fn a_preflight_gets_methods_allowed_headers_and_max_age() {
        let mut one = policy(&["https://a"]);
        for (requested, expected) in [
            ("", None),
            ("Range", Some("range")),
            ("range, If-Range,authorization", Some("range, if-range")),
            ("authorization", None),
            (", ,range,", Some("range")),
            ("x\r\ny, range", Some("range")),
        ] {
            let (headers, _) = answer(&one, "https://a", preflight(requested));
            let mut wanted =
                vec!["Allow-Origin: https://a".to_owned(), "Allow-Methods: GET, HEAD".to_owned()];
            wanted.extend(expected.map(|names| format!("Allow-Headers: {names}")));
            wanted.push("Max-Age: 600".to_owned());
            assert_eq!(headers, wanted, "{requested:?}");
        }
        one.headers = AllowedHeaders::Any;
        one.methods = vec![ReadMethod::Get];
        let (headers, _) = answer(&one, "https://a", preflight("Authorization, bad name, X-A"));
        assert!(headers.contains(&"Allow-Headers: authorization, x-a".to_owned()), "{headers:?}");
        assert!(headers.contains(&"Allow-Methods: GET".to_owned()), "{headers:?}");
        let (_, vary) = answer(&policy(&["*"]), "https://a", preflight(""));
        assert_eq!(vary, Some("Access-Control-Request-Method, Access-Control-Request-Headers"));
    }

    #[test]
    fn credentials_are_for_named_origins_only() {
        let credentials = "Allow-Credentials: true".to_owned();
        let with = |policy: CorsPolicy| CorsPolicy { credentials: true, expose: String::new(), ..policy };
        let (headers, _) = answer(&with(policy(&["https://a"])), "https://a", CorsRequest::Simple);
        assert_eq!(headers, ["Allow-Origin: https://a".to_owned(), credentials]);
        let (headers, _) = answer(&with(policy(&["*"])), "https://a", CorsRequest::Simple);
        assert_eq!(headers, ["Allow-Origin: *"]);
    }

    #[test]
    fn an_origin_matches_itself_and_a_star_matches_labels() {
        for (pattern, origin, matches) in [
            ("https://example.com", "https://example.com", true),
            ("https://example.com", "http://example.com", false),
            ("https://example.com", "https://example.com:8443", false),
            ("https://example.com", "https://example.com.evil", false),
            ("https://example.com:8443", "https://example.com:8443", true),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("http://localhost:3000", "http://localhost:3000", true),
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://evil.net/.example.com", false),
            ("https://*.example.com", "https://evil.net:1.example.com", false),
            ("https://*.example.com", "https://a.example.com:8443", false),
            ("https://*.example.com:8443", "https://a.example.com:8443", true),
            ("https://*.example.com", "http://a.example.com", false),
            ("null", "null", true),
            ("https://example.com", "null", false),
            ("chrome-extension://abcdef", "chrome-extension://abcdef", true),
        ] {
            let parsed = pattern.parse::<OriginPattern>().expect(pattern);
            assert_eq!(parsed.matches(origin.as_bytes()), matches, "{pattern} {origin}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused_with_a_reason() {
        for (text, reason) in [
            ("example.com", "has no scheme"),
            ("://a", "has no scheme"),
            ("1a://b", "has no scheme"),
            ("https://example.com/", "ends with a slash"),
            ("https://example.com/a", "has a path"),
            ("https://example.com/a/", "has a path"),
            ("https://a?b", "has a path"),
            ("https://Example.com", "is not in lower case"),
            ("HTTPS://example.com", "is not in lower case"),
            ("https://u@a", "has a user in it"),
            ("https://a:443", "names the usual port"),
            ("http://a:80", "names the usual port"),
            ("http://a:", "has no port after its colon"),
            ("http://a:0", "has no port after its colon"),
            ("http://a:65536", "has no host"),
            ("https://", "has no host"),
            ("https://*.", "has no host"),
            ("https://*", "has a * elsewhere"),
            ("https://a.*.b", "has a * elsewhere"),
            ("https://caf\u{e9}.fr", "is not ASCII"),
            ("https://a b", "has no host"),
        ] {
            let refused = text.parse::<OriginPattern>().expect_err(text);
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
    }
}
