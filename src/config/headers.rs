//! Headers in the configuration (RFC 9110 §5.5). Security headers are checked for mistakes that would disable them
//! silently.

use actix_web::http::header::HeaderName;

use super::setting::{ValueError, text_value};

text_value! {
    /// Value of a header: visible ASCII, with spaces and tabs inside; never empty.
    ConfigHeaderValue, as_str: str, "VALUE", "the value of a header in visible ASCII", check_header_value
}

fn check_header_value(text: &str) -> Result<(), ValueError> {
    if text.trim_matches([' ', '\t']).len() != text.len() {
        return Err(ValueError::new("begins or ends with white space"));
    }
    match text.chars().find(|&character| !matches!(character, ' '..='~' | '\t')) {
        Some('\r' | '\n') => Err(ValueError::new("contains a line break")),
        Some(character) if character.is_ascii() => Err(ValueError::new("contains a control character")),
        Some(_) => Err(ValueError::new("contains a character that is not ASCII")),
        None => Ok(()),
    }
}

text_value! {
    /// Value of Strict-Transport-Security (RFC 6797 §6.1): directives with `max-age` among them.
    TransportSecurity, as_str: str, "VALUE",
    "directives such as max-age=31536000; includeSubDomains", check_transport_security
}

text_value! {
    /// Value of Referrer-Policy: one policy, or several of which browsers use the last that they know.
    ReferrerPolicy, as_str: str, "POLICY",
    format!("one of {}, or several with commas", REFERRER_POLICIES.join(", ")), check_referrer_policy
}

fn check_transport_security(text: &str) -> Result<(), ValueError> {
    check_header_value(text)?;
    let mut names: Vec<String> = Vec::new();
    for directive in text.split(';').map(|directive| directive.trim_matches([' ', '\t'])) {
        let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim_end_matches([' ', '\t']).to_ascii_lowercase();
        let argument = argument.trim_start_matches([' ', '\t']).trim_matches('"');
        let is_seconds = !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit());
        if name == MAX_AGE && !is_seconds {
            return Err(ValueError::new("has a max-age that is not a number of seconds"));
        }
        if !name.is_empty() && names.contains(&name) {
            return Err(ValueError::new(format!("has the directive {name} twice")));
        }
        names.push(name);
    }
    if !names.iter().any(|name| name == MAX_AGE) {
        return Err(ValueError::new("has no max-age, without which browsers ignore it"));
    }
    Ok(())
}

fn check_referrer_policy(text: &str) -> Result<(), ValueError> {
    check_header_value(text)?;
    let unknown = text.split(',').map(str::trim).find(|word| !REFERRER_POLICIES.contains(word));
    unknown.map_or(Ok(()), |word| {
        Err(ValueError::new(format!("contains the unknown policy `{}`", word.escape_debug())))
    })
}

const MAX_AGE: &str = "max-age";

/// Those of the W3C's Referrer Policy, §3.
const REFERRER_POLICIES: &[&str] = &[
    "no-referrer",
    "no-referrer-when-downgrade",
    "same-origin",
    "origin",
    "strict-origin",
    "origin-when-cross-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
];

/// Headers with their values in the order in which they were written, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtraHeaders(pub(crate) Vec<(HeaderName, ConfigHeaderValue)>);

impl ExtraHeaders {
    /// The value of a header, regardless of the case of its name.
    pub fn get(&self, name: &str) -> Option<&ConfigHeaderValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Adds a header that is not there yet.
    pub(crate) fn push(&mut self, name: HeaderName, value: ConfigHeaderValue) -> Result<(), ValueError> {
        if self.get(name.as_str()).is_some() {
            return Err(ValueError::new("is the second one of this name"));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Adds those of `later` whose names are not there yet.
    pub(crate) fn fill(&mut self, later: &Self) {
        for (name, value) in &later.0 {
            let _ = self.push(name.clone(), value.clone());
        }
    }
}

/// Reason why a rule cannot set the header `name`: a phrase that continues "the header NAME". `None` if it can.
pub(crate) fn why_reserved(name: &HeaderName) -> Option<&'static str> {
    if name.as_str().starts_with("access-control-") {
        return Some("is set by the key cors of a rule");
    }
    RESERVED.iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, reason)| *reason)
}

const RESERVED: &[(&[&str], &str)] = &[
    (
        &["connection", "keep-alive", "proxy-connection", "te", "upgrade"],
        "is about the connection, which the server manages",
    ),
    (
        &["content-length", "transfer-encoding", "trailer"],
        "is about where a message ends, which the server alone knows",
    ),
    (&["date"], "is the time of each response, which the server knows"),
    (
        &["etag", "last-modified"],
        "tells versions of a file apart, and would be wrong with the next version (see the setting etag)",
    ),
    (&["accept-ranges", "content-range"], "is about ranges, which differ from request to request"),
    (&["content-encoding", "vary"], "is about content negotiation, which differs from request to request"),
    (&["allow", "retry-after"], "is part of answers to which the server adds it itself"),
    (&["location"], "is for redirects, which the file _redirects describes"),
    (&["content-digest", "repr-digest"], "is computed from the file (see the key digest of a rule)"),
    (&["cache-control"], "is set by the key cache_control of a rule"),
    (&["content-type"], "is set by the key content_type of a rule"),
    (&["content-disposition"], "is set by the key disposition of a rule"),
    (&["x-request-id"], "is the id of each request (see the setting request_ids)"),
    (&["x-content-type-options"], "is always sent, as nosniff"),
    (&["strict-transport-security"], "is for the whole host, which the setting of that name sets"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_visible_ascii_with_spaces_inside() {
        for text in ["a", "public, max-age=60", "a\tb", "\"quoted\"", "~"] {
            assert_eq!(text.parse::<ConfigHeaderValue>().expect(text).as_str(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            (" a", "begins or ends with white space"),
            ("a\t", "begins or ends with white space"),
            ("a\r\nb: c", "contains a line break"),
            ("a\nb", "contains a line break"),
            ("a\0b", "contains a control character"),
            ("a\x7fb", "contains a control character"),
            ("caf\u{e9}", "contains a character that is not ASCII"),
        ] {
            assert_eq!(text.parse::<ConfigHeaderValue>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }

    #[test]
    fn transport_security_has_a_max_age() {
        for text in [
            "max-age=0",
            "max-age=31536000; includeSubDomains; preload",
            "includeSubDomains;Max-Age=\"5\"",
            "max-age=1;",
        ] {
            assert_eq!(text.parse::<TransportSecurity>().expect(text).to_string(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("includeSubDomains", "has no max-age, without which browsers ignore it"),
            ("max-age", "has a max-age that is not a number of seconds"),
            ("max-age=1y", "has a max-age that is not a number of seconds"),
            ("max-age=1; max-age=2", "has the directive max-age twice"),
            ("max-age=1\n", "contains a line break"),
        ] {
            assert_eq!(text.parse::<TransportSecurity>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }

    #[test]
    fn a_referrer_policy_is_of_known_words() {
        for text in ["no-referrer", "no-referrer, strict-origin-when-cross-origin"] {
            assert_eq!(text.parse::<ReferrerPolicy>().expect(text).to_string(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("none", "contains the unknown policy `none`"),
            ("origin,", "contains the unknown policy ``"),
            ("Origin", "contains the unknown policy `Origin`"),
        ] {
            assert_eq!(text.parse::<ReferrerPolicy>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn headers_that_the_server_sets_are_reserved() {
        for name in [
            "Connection",
            "Content-Length",
            "Transfer-Encoding",
            "Date",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "ETag",
            "Last-Modified",
            "Accept-Ranges",
            "Content-Range",
            "Content-Encoding",
            "Vary",
            "Location",
            "Allow",
            "Retry-After",
            "X-Request-Id",
            "Access-Control-Allow-Origin",
        ] {
            assert!(why_reserved(&name.parse().expect(name)).is_some(), "{name}");
        }
        for name in ["X-Robots-Tag", "Link", "Content-Language", "Cross-Origin-Opener-Policy", "Server"] {
            assert_eq!(why_reserved(&name.parse().expect(name)), None, "{name}");
        }
    }

    #[test]
    fn a_name_is_there_once_in_whatever_case() {
        let mut headers = ExtraHeaders::default();
        let push = |headers: &mut ExtraHeaders, name: &str, value: &str| {
            headers.push(name.parse().expect("a name"), value.parse().expect("a value"))
        };
        assert_eq!(push(&mut headers, "Link", "a"), Ok(()));
        assert!(push(&mut headers, "link", "b").is_err());
        assert_eq!(headers.get("LINK").map(ConfigHeaderValue::as_str), Some("a"));
    }
}
