//! Which foreign origins may read what is served (the CORS protocol of the Fetch standard, §3.3).

use std::time::Duration;

use super::authority::is_valid_host;

/// What pages of other origins may do with a part of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsPolicy {
    /// Who may read.
    pub origins: AllowedOrigins,
    /// The methods that a preflight is told of.
    pub methods: Vec<CorsMethod>,
    /// The request fields that a preflight may ask for.
    pub headers: AllowedHeaders,
    /// The response fields that a script may read, besides those that it always may.
    pub expose: Vec<String>,
    /// The time for which a browser may remember the answer to a preflight, in whole seconds on the wire.
    pub max_age: Duration,
    /// Whether requests with cookies or other credentials are answered, too. Never together with
    /// [`AllowedOrigins::Any`]: browsers refuse that.
    pub credentials: bool,
}

impl CorsPolicy {
    /// The policy for these origins that suits files: read by GET and HEAD, whole or in ranges, on conditions and
    /// with checksums; without credentials.
    pub fn new(origins: AllowedOrigins, max_age: Duration) -> Self {
        Self {
            origins,
            methods: vec![CorsMethod::Get, CorsMethod::Head],
            headers: AllowedHeaders::These(owned(HEADERS)),
            expose: owned(EXPOSE),
            max_age,
            credentials: false,
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A method that there is something to be allowed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsMethod {
    /// GET
    Get,
    /// HEAD
    Head,
}

/// The origins that a policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All, `null` included.
    Any,
    /// Those that match one of these.
    These(Vec<OriginPattern>),
}

/// The request fields that a preflight may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHeaders {
    /// All.
    Any,
    /// These, in lower case.
    These(Vec<String>),
}

/// One origin, or those of all subdomains, in the form in which browsers send it (RFC 6454 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// `prefix` is scheme and slashes; `suffix` begins with the dot before the domain.
    Below {
        prefix: String,
        suffix: String,
    },
}

impl OriginPattern {
    /// Reads `scheme://host`, `scheme://host:port`, the same with `*.` before the host for one or more further
    /// labels, or `null`. The error continues "the value …".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "null" {
            return Ok(Self(Pattern::Exact(text.to_owned())));
        }
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme such as https://")?;
        check_scheme(scheme)?;
        let host = rest.strip_prefix("*.").unwrap_or(rest);
        check_host(scheme, host)?;
        Ok(Self(if host.len() == rest.len() {
            Pattern::Exact(text.to_owned())
        } else {
            Pattern::Below { prefix: format!("{scheme}://"), suffix: format!(".{host}") }
        }))
    }

    /// Whether an Origin field's value is one of these. Bytes are compared: browsers send one form only.
    pub fn matches(&self, origin: &[u8]) -> bool {
        match &self.0 {
            Pattern::Exact(exact) => exact.as_bytes() == origin,
            Pattern::Below { prefix, suffix } => origin
                .strip_prefix(prefix.as_bytes())
                .and_then(|rest| rest.strip_suffix(suffix.as_bytes()))
                .is_some_and(|labels| !labels.is_empty() && labels.iter().all(|&byte| is_label_byte(byte))),
        }
    }
}

/// The form in which it is read.
impl std::fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Pattern::Exact(exact) => f.write_str(exact),
            Pattern::Below { prefix, suffix } => write!(f, "{prefix}*{suffix}"),
        }
    }
}

fn check_scheme(scheme: &str) -> Result<(), &'static str> {
    if scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("is not in lower case, as browsers send it");
    }
    let is_scheme_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(is_scheme_byte) {
        return Err("has no scheme such as https://");
    }
    Ok(())
}

fn check_host(scheme: &str, host: &str) -> Result<(), &'static str> {
    if host.ends_with('/') && host.matches('/').count() == 1 {
        return Err("ends with a slash, which browsers do not send");
    }
    if host.contains(['/', '?', '#']) {
        return Err("has a path; an origin ends with its host or port");
    }
    if host.contains('@') {
        return Err("has a user in it, which browsers do not send");
    }
    if host.contains('*') {
        return Err(
            "has a * elsewhere than in place of all labels before a domain, as in https://*.example.com",
        );
    }
    if !host.is_ascii() {
        return Err("is not ASCII; browsers send the form that begins with xn--");
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("is not in lower case, as browsers send it");
    }
    let port = host.rsplit_once(':').map(|(_, port)| port);
    match (scheme, port) {
        ("https", Some("443")) | ("http", Some("80")) => {
            return Err("names the usual port of its scheme, which browsers leave out");
        }
        (_, Some("" | "0")) => return Err("has no port after its colon"),
        _ => {}
    }
    if host.is_empty() || !is_valid_host(host.as_bytes()) {
        return Err("has no host that a browser could send");
    }
    Ok(())
}

/// A byte of a domain name as browsers send it, the dots between labels included.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
}

/// What clients of files send besides the fields that need no preflight.
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

/// What a script needs to resume, name and check a download.
const EXPOSE: &[&str] = &[
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Digest",
    "Content-Encoding",
    "Content-Range",
    "ETag",
    "Repr-Digest",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_matches_itself_and_a_star_one_or_more_labels() {
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
            let parsed = OriginPattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(origin.as_bytes()), matches, "{pattern} {origin}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_its_reason() {
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
            let refused = OriginPattern::parse(text).expect_err(text);
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
    }
}
