//! Patterns of allowed host names (RFC 3986 §3.2.2).

use std::fmt;
use std::str::FromStr;

use super::authority::{first_fault, host_of, is_valid_host};

/// A host without its port, in lower case, or all subdomains of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// A name or an address, or a dot and a domain for all its subdomains.
    host: String,
}

impl FromStr for HostPattern {
    type Err = &'static str;

    /// Reads a name, an IPv4 address, an IPv6 address in brackets, or `*.` with a domain for one or more labels
    /// before it. The error continues "the value …".
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        first_fault(&[
            (name.contains("://"), "has a scheme, and a host has none"),
            (
                name.contains('*'),
                "has a * elsewhere than in place of all labels before a domain, as in *.example.com",
            ),
            (!name.is_ascii(), "is not ASCII; browsers send the form that begins with xn--"),
            (name.is_empty() || !is_valid_host(name.as_bytes()), "is not the name of a host"),
            (host_of(name.as_bytes()).len() != name.len(), "has a port, and a host has none"),
        ])?;
        let dot = if name.len() == text.len() { "" } else { "." };
        Ok(Self { host: format!("{dot}{}", name.to_ascii_lowercase()) })
    }
}

impl HostPattern {
    /// Whether the host in the value of a Host header matches, ignoring case and port.
    pub fn matches(&self, value: &[u8]) -> bool {
        let host = host_of(value);
        let pattern = self.host.as_bytes();
        if !self.host.starts_with('.') {
            return host.eq_ignore_ascii_case(pattern);
        }
        let Some(labels) = host.len().checked_sub(pattern.len()) else { return false };
        let (labels, domain) = host.split_at(labels);
        !labels.is_empty() && domain.eq_ignore_ascii_case(pattern)
    }
}

/// In the form that `from_str` reads.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.host.starts_with('.') { "*" } else { "" };
        write!(f, "{star}{}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_matches_in_any_case_and_with_any_port() {
        for (pattern, host, matches) in [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com:8080", true),
            ("Example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("example.com", "example.com.evil", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "A.B.example.COM:80", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("[::1]", "[::1]:443", true),
            ("[::1]", "[::2]", false),
            ("127.0.0.1", "127.0.0.1:1", true),
            ("example.com", "", false),
        ] {
            let parsed = pattern.parse::<HostPattern>().expect(pattern);
            assert_eq!(parsed.matches(host.as_bytes()), matches, "{pattern} {host}");
        }
    }

    #[test]
    fn an_invalid_host_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is not the name of a host"),
            ("*.", "is not the name of a host"),
            ("a b", "is not the name of a host"),
            ("a/b", "is not the name of a host"),
            ("::1", "is not the name of a host"),
            ("a:80", "has a port"),
            ("https://a", "has a scheme"),
            ("*", "has a * elsewhere"),
            ("a.*.b", "has a * elsewhere"),
            ("caf\u{e9}.fr", "is not ASCII"),
        ] {
            let refused = text.parse::<HostPattern>().expect_err(text);
            assert!(refused.starts_with(reason), "{text}: {refused}");
        }
        assert_eq!("*.A.b".parse::<HostPattern>().map(|pattern| pattern.to_string()), Ok("*.a.b".to_owned()));
    }
}
