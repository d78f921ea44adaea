//! `X-Forwarded-Proto`, and the redirect to HTTPS.

use percent_encoding::percent_encode;

use super::authority::{host_of, is_valid_host};
use super::host_pattern::HostPattern;
use super::percent::OUTSIDE_QUERY;

/// Whether the client uses HTTPS according to the X-Forwarded-Proto header of a trusted proxy; `None` if it names neither.
///
/// The last element of a list counts, and of several headers the last: the nearest proxy added it. Everything before it may
/// come from the client.
pub fn is_https(x_forwarded_proto: Option<&[u8]>) -> Option<bool> {
    let last = x_forwarded_proto?.rsplit(|&byte| byte == b',').next()?.trim_ascii();
    let is = |scheme: &[u8]| last.eq_ignore_ascii_case(scheme);
    is(b"https").then_some(true).or(is(b"http").then_some(false))
}

/// The Location of the same target over HTTPS at the standard port; `None` if the host is invalid or not allowed.
///
/// `host` is the value of the Host header; its port is that of plain HTTP and is dropped. It must match one of `allowed`
/// unless that is empty. `path_and_query` is a target in origin form. Characters that a header may not contain are
/// percent-encoded.
pub fn https_location(host: &[u8], path_and_query: &[u8], allowed: &[HostPattern]) -> Option<String> {
    let name = host_of(host);
    let is_allowed = allowed.is_empty() || allowed.iter().any(|pattern| pattern.matches(host));
    if name.is_empty() || !is_valid_host(host) || !is_allowed || !path_and_query.starts_with(b"/") {
        return None;
    }
    let mut location = format!("https://{}", str::from_utf8(name).ok()?.to_ascii_lowercase());
    location.extend(percent_encode(path_and_query, OUTSIDE_QUERY));
    Some(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_element_of_the_nearest_proxy_counts() {
        for (value, expected) in [
            ("https", Some(true)),
            ("HTTPS", Some(true)),
            ("http", Some(false)),
            ("https, http", Some(false)),
            ("http,https", Some(true)),
            ("http , https ", Some(true)),
            ("https,", None),
            ("", None),
            ("httpss", None),
            ("wss", None),
        ] {
            assert_eq!(is_https(Some(value.as_bytes())), expected, "{value}");
        }
        assert_eq!(is_https(None), None);
    }

    #[test]
    fn the_same_target_is_found_by_https() {
        for (host, target, allowed, expected) in [
            ("example.com", "/", &[][..], Some("https://example.com/")),
            ("Example.com:8080", "/a?b=c", &[], Some("https://example.com/a?b=c")),
            ("[::1]:80", "/a", &[], Some("https://[::1]/a")),
            ("127.0.0.1", "//evil.example/", &[], Some("https://127.0.0.1//evil.example/")),
            ("a.example", "/%20?\r\n\"<#\u{e9}", &[], Some("https://a.example/%20?%0D%0A%22%3C%23%C3%A9")),
            ("a.example", "/", &["a.example", "b.example"], Some("https://a.example/")),
            ("A.example:80", "/", &["a.example"], Some("https://a.example/")),
            ("x.a.example", "/", &["*.a.example"], Some("https://x.a.example/")),
            ("a.example", "/", &["*.a.example"], None),
            ("evil.example", "/", &["a.example"], None),
            ("", "/", &[], None),
            (":80", "/", &[], None),
            ("user@a.example", "/", &[], None),
            ("a.example/b", "/", &[], None),
            ("a.example", "*", &[], None),
            ("a.example", "http://a.example/", &[], None),
            ("a.example", "", &[], None),
        ] {
            let allowed: Vec<_> =
                allowed.iter().map(|text| text.parse::<HostPattern>().expect("a host")).collect();
            let location = https_location(host.as_bytes(), target.as_bytes(), &allowed);
            assert_eq!(location.as_deref(), expected, "{host} {target}");
        }
    }
}
