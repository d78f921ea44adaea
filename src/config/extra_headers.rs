//! Headers that a rule adds to responses.

use actix_web::http::header::HeaderName;

use super::setting::ValueError;
use crate::config::header_value::ConfigHeaderValue;

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
