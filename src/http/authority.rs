//! `Host` and the authority of a URI (RFC 9110 §7.2, RFC 3986 §3.2).

use std::net::Ipv6Addr;

use memchr::memrchr;

use super::percent::has_valid_escapes;

/// Whether the value of a Host header is a host with an optional port, or empty.
///
/// The host is a name, an IPv4 address or an IPv6 address in brackets. Stricter than RFC 3986 in three ways:
/// no comma, which two Host headers have that an intermediary joined; no zone or future version of
/// an IP address; and no port without a host, since such a URI is invalid (RFC 9110 §4.2.1).
pub fn is_valid_host(value: &[u8]) -> bool {
    match value {
        [] => true,
        [b'[', rest @ ..] => is_valid_bracketed(rest),
        _ => match memrchr(b':', value) {
            Some(at) => {
                let (name, port) = value.split_at(at);
                !name.is_empty() && is_name(name) && is_port(port)
            }
            None => is_name(value),
        },
    }
}

/// The host in the value of a valid Host header, without its port.
pub fn host_of(value: &[u8]) -> &[u8] {
    match memrchr(b':', value) {
        // An address in brackets ends in its bracket.
        Some(at) if !value.ends_with(b"]") => value.get(..at).unwrap_or(value),
        _ => value,
    }
}

/// The reason of the first of these faults that a value has.
pub(super) fn first_fault(faults: &[(bool, &'static str)]) -> Result<(), &'static str> {
    faults.iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, reason)| Err(reason))
}

/// An IPv6 address without its opening bracket.
fn is_valid_bracketed(rest: &[u8]) -> bool {
    let Some(end) = memrchr(b']', rest) else { return false };
    let (address, port) = rest.split_at(end);
    let is_ipv6 = str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
    is_ipv6 && (port == b"]" || is_port(port.strip_prefix(b"]").unwrap_or_default()))
}

/// A colon and a port of 16 bits. The grammar lets the number be absent.
fn is_port(text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(b":") else { return false };
    let is_number = || str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok());
    digits.iter().all(u8::is_ascii_digit) && (digits.is_empty() || is_number())
}

/// A `reg-name` without comma. Every IPv4 address is one.
fn is_name(name: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(byte);
    name.iter().all(is_allowed) && has_valid_escapes(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_an_optional_port_is_valid() {
        for value in [
            "",
            "example.org",
            "example.org:8080",
            "example.org:",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:65535",
            "[::ffff:1.2.3.4]:80",
            "under_score",
            "xn--caf-dma.example",
            "a%20b",
            "example.org.",
        ] {
            assert!(is_valid_host(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn the_host_is_the_part_before_the_port() {
        for (value, host) in
            [("", ""), ("a", "a"), ("a:80", "a"), ("a:", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]")]
        {
            assert_eq!(host_of(value.as_bytes()), host.as_bytes(), "{value}");
        }
    }

    #[test]
    fn anything_else_is_no_valid_host() {
        for value in [
            " ",
            "a b",
            "a\tb",
            "a.example,b.example",
            "a.example, b.example",
            "a/b",
            "a?b",
            "a#b",
            "user@a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:99999999999999999999",
            "a:-1",
            "a:+1",
            ":80",
            "::1",
            "[::1",
            "[]",
            "[::1]80",
            "[::1]:x",
            "[::1]]",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "a%2",
            "a%zz",
            "caf\u{e9}",
            "a\0",
            "a\\b",
        ] {
            assert!(!is_valid_host(value.as_bytes()), "{value}");
        }
    }
}
