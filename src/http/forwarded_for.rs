//! The address of the client behind trusted proxies: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy appends the address that it received the request from, so the headers are read from the right: as long as a
//! hop is a trusted proxy, the hop that it names is looked at next. Everything left of the first untrusted hop is that
//! hop's own claim and is ignored.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::http::header_grammar::{has_open_quote, split_outside_quotes};

/// The client that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address; `None` is a peer on a unix socket.
    pub address: Option<IpAddr>,
    /// How the address was established.
    pub attribution: Attribution,
}

/// How a client address was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// The headers name the client, or there is no proxy.
    Resolved,
    /// A hop is unreadable or not named (`unknown`, `_hidden`). The address is that of the last trusted proxy.
    Truncated,
    /// The two headers name different clients, so one of them comes from the client. The address is that of the TCP peer.
    Conflicting,
}

/// The client behind the trusted `peer`, from the lines of each header in their order. A header without lines is absent.
///
/// If both headers are present, one of them may have been sent by the client, and there is no way to know which: they count
/// only if both name the same address. At most [`HOPS_MAX`] hops are examined.
///
/// Decision: docs/decisions/026-client-address.md.
pub fn client_address(
    peer: Option<IpAddr>,
    forwarded: &[&[u8]],
    x_forwarded_for: &[&[u8]],
    trusts: impl Fn(IpAddr) -> bool,
) -> ClientAddress {
    let one = walk(peer, forwarded.iter().rev().flat_map(|line| elements(line).into_iter().rev()), &trusts);
    let other = walk(peer, x_forwarded_for.iter().rev().flat_map(|line| addresses(line)), &trusts);
    match (one, other) {
        (None, None) => ClientAddress { address: peer, attribution: Attribution::Resolved },
        (Some(client), None) | (None, Some(client)) => client,
        (Some(one), Some(other)) if one.address != other.address => {
            ClientAddress { address: peer, attribution: Attribution::Conflicting }
        }
        (Some(one), Some(other)) => ClientAddress {
            attribution: if one == other { one.attribution } else { Attribution::Truncated },
            ..one
        },
    }
}

/// Follows `hops` from the nearest one. `None` if there are none.
fn walk(
    peer: Option<IpAddr>,
    hops: impl Iterator<Item = Hop>,
    trusts: impl Fn(IpAddr) -> bool,
) -> Option<ClientAddress> {
    let mut hops = hops.peekable();
    hops.peek()?;
    let mut last = peer;
    for (count, hop) in hops.enumerate() {
        let Some(address) = hop.filter(|_| count < HOPS_MAX) else {
            return Some(ClientAddress { address: last, attribution: Attribution::Truncated });
        };
        last = Some(address);
        if !trusts(address) {
            break;
        }
    }
    Some(ClientAddress { address: last, attribution: Attribution::Resolved })
}

/// The address that a proxy received the request from; `None` if it is not given or unreadable.
type Hop = Option<IpAddr>;

/// The hops in a line of X-Forwarded-For, from the right.
fn addresses(line: &[u8]) -> impl Iterator<Item = Hop> {
    line.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).map(node)
}

/// The hops in a line of Forwarded, from the left. A line with an unterminated quote is one unreadable hop.
fn elements(line: &[u8]) -> Vec<Hop> {
    if has_open_quote(line) { vec![None] } else { split(line, b',').map(element).collect() }
}

/// The node that an element names with `for`.
fn element(element: &[u8]) -> Hop {
    let mut found = None;
    for pair in split(element, b';') {
        let equals = memchr::memchr(b'=', pair)?;
        if pair[..equals].eq_ignore_ascii_case(b"for") {
            // Each parameter occurs at most once (RFC 7239 §4).
            if found.replace(node(&unquoted(&pair[equals + 1..])?)).is_some() {
                return None;
            }
        }
    }
    found?
}

/// The parts between separators outside quoted strings, without empty ones.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    split_outside_quotes(text, separator).map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

/// The value without its quotes. An unquoted value need not be a token: many proxies write `for=192.0.2.7:80`.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return (!value.contains(&b'"')).then_some(Cow::Borrowed(value));
    };
    let inner = inner.strip_suffix(b"\"")?;
    if !inner.iter().any(|byte| matches!(byte, b'\\' | b'"')) {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => plain.push(*bytes.next()?),
            _ => plain.push(byte),
        }
    }
    Some(Cow::Owned(plain))
}

/// The address of a node (RFC 7239 §6): with or without a port, an IPv6 address in brackets or, without a port, alone.
fn node(text: &[u8]) -> Hop {
    let text = str::from_utf8(text).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => match text.parse() {
            Ok(address) => (address, None),
            Err(_) => {
                let (address, port) = text.split_once(':')?;
                (IpAddr::V4(address.parse().ok()?), Some(port))
            }
        },
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

fn is_port(port: &str) -> bool {
    let is_obfuscated = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match port.strip_prefix('_') {
        Some(name) => is_obfuscated(name),
        None => matches!(port.len(), 1..=5) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Hops examined. In a longer chain the last one of these counts as the client.
pub const HOPS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    /// Everything in 10.0.0.0/8 and fd00::/8 is trusted.
    fn trusts(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.octets()[0] == 0xfd,
        }
    }

    #[track_caller]
    fn check(forwarded: &[&str], x_forwarded_for: &[&str], address: &str, attribution: Attribution) {
        let [one, other] = [forwarded, x_forwarded_for]
            .map(|lines| lines.iter().map(|line| line.as_bytes()).collect::<Vec<&[u8]>>());
        let found = client_address(PEER.parse().ok(), &one, &other, trusts);
        let expected = ClientAddress { address: Some(address.parse().unwrap()), attribution };
        assert_eq!(found, expected, "{forwarded:?} {x_forwarded_for:?}");
    }

    #[test]
    fn x_forwarded_for_is_walked_from_the_right_to_the_first_hop_that_is_not_trusted() {
        for (lines, address, word) in [
            (&[][..], PEER, Attribution::Resolved),
            (&[""], PEER, Attribution::Resolved),
            (&[" , ,"], PEER, Attribution::Resolved),
            (&["192.0.2.7"], "192.0.2.7", Attribution::Resolved),
            (&["198.51.100.1, 192.0.2.7"], "192.0.2.7", Attribution::Resolved),
            (&["198.51.100.1,192.0.2.7,10.0.0.2"], "192.0.2.7", Attribution::Resolved),
            (&["198.51.100.1", "192.0.2.7, 10.0.0.2", "10.0.0.3,"], "192.0.2.7", Attribution::Resolved),
            (&["10.9.9.9, 10.0.0.2"], "10.9.9.9", Attribution::Resolved),
            (&["192.0.2.7:8080"], "192.0.2.7", Attribution::Resolved),
            (&["2001:db8::7"], "2001:db8::7", Attribution::Resolved),
            (&["[2001:db8::7]"], "2001:db8::7", Attribution::Resolved),
            (&["[2001:db8::7]:443"], "2001:db8::7", Attribution::Resolved),
            (&["::ffff:192.0.2.7"], "192.0.2.7", Attribution::Resolved),
            (&["192.0.2.7, ::ffff:10.0.0.2"], "192.0.2.7", Attribution::Resolved),
            (&["192.0.2.7, fd00::1"], "192.0.2.7", Attribution::Resolved),
            (&["unknown"], PEER, Attribution::Truncated),
            (&["192.0.2.7, unknown"], PEER, Attribution::Truncated),
            (&["192.0.2.7, unix:, 10.0.0.2"], "10.0.0.2", Attribution::Truncated),
            (&["unknown, 192.0.2.7"], "192.0.2.7", Attribution::Resolved),
            (&["192.0.2.7:"], PEER, Attribution::Truncated),
            (&["192.0.2.7:123456"], PEER, Attribution::Truncated),
            (&["192.0.2.07"], PEER, Attribution::Truncated),
            (&["192.0.2.7 10.0.0.2"], PEER, Attribution::Truncated),
            (&["[2001:db8::7"], PEER, Attribution::Truncated),
            (&["[2001:db8::7]443"], PEER, Attribution::Truncated),
            (&["[192.0.2.7]"], PEER, Attribution::Truncated),
            (&["fe80::1%eth0"], PEER, Attribution::Truncated),
            (&["\u{fc}"], PEER, Attribution::Truncated),
        ] {
            check(&[], lines, address, word);
        }
    }

    #[test]
    fn forwarded_is_walked_in_the_same_way() {
        for (lines, address, word) in [
            (&["for=192.0.2.7"][..], "192.0.2.7", Attribution::Resolved),
            (&["For=192.0.2.7;proto=http;by=203.0.113.43"], "192.0.2.7", Attribution::Resolved),
            (&["proto=http; FOR=\"192.0.2.7\" ;by=x"], "192.0.2.7", Attribution::Resolved),
            (
                &["for=198.51.100.1, for=192.0.2.7;by=10.0.0.2, for=10.0.0.3"],
                "192.0.2.7",
                Attribution::Resolved,
            ),
            (&["for=198.51.100.1", "for=192.0.2.7", "for=10.0.0.3"], "192.0.2.7", Attribution::Resolved),
            (&["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17", Attribution::Resolved),
            (&["for=\"[2001:db8:cafe::17]\""], "2001:db8:cafe::17", Attribution::Resolved),
            (&["for=[2001:db8:cafe::17]:4711"], "2001:db8:cafe::17", Attribution::Resolved),
            (&["for=\"192.0.2.7:_port\""], "192.0.2.7", Attribution::Resolved),
            (&["for=192.0.2.7:80"], "192.0.2.7", Attribution::Resolved),
            (&["for=\"192.0.2\\.7\""], "192.0.2.7", Attribution::Resolved),
            (&["for=\"198.51.100.1, for=\";for=192.0.2.7"], PEER, Attribution::Truncated),
            (&["x=\"a, for=198.51.100.1\";for=192.0.2.7;;"], "192.0.2.7", Attribution::Resolved),
            (&["nonsense, for=192.0.2.7"], "192.0.2.7", Attribution::Resolved),
            (&["for=192.0.2.7,"], "192.0.2.7", Attribution::Resolved),
            (&["for=unknown"], PEER, Attribution::Truncated),
            (&["for=_hidden"], PEER, Attribution::Truncated),
            (&["for=192.0.2.7, for=_gazonk, for=10.0.0.2"], "10.0.0.2", Attribution::Truncated),
            (&["for=192.0.2.7, proto=https"], PEER, Attribution::Truncated),
            (&["for=192.0.2.7;for=192.0.2.8"], PEER, Attribution::Truncated),
            (&["for=192.0.2.7;FOR=192.0.2.7"], PEER, Attribution::Truncated),
            (&["for"], PEER, Attribution::Truncated),
            (&["for="], PEER, Attribution::Truncated),
            (&["for=\"\""], PEER, Attribution::Truncated),
            (&["for =192.0.2.7"], PEER, Attribution::Truncated),
            (&["for=\"192.0.2.7\"x"], PEER, Attribution::Truncated),
            (&["for=\"192.0.2.7\" \"\""], PEER, Attribution::Truncated),
            (&["for=\"192.0.2.7:_\""], PEER, Attribution::Truncated),
        ] {
            check(lines, &[], address, word);
        }
    }

    #[test]
    fn an_unterminated_quote_of_a_client_does_not_hide_the_hop_of_the_proxy() {
        // A proxy that adds to the client's line, and one that adds a line.
        for lines in [
            &["for=198.51.100.1;x=\", for=192.0.2.7"][..],
            &["for=198.51.100.1;x=\", for=\"[2001:db8::7]\""],
            &["for=198.51.100.1;x=\", for=\"[2001:db8::7]\";by=\"_x\""],
            &["for=198.51.100.1;x=\"\\", "for=\""],
        ] {
            check(lines, &[], PEER, Attribution::Truncated);
        }
        check(&["for=198.51.100.1;x=\"", "for=192.0.2.7"], &[], "192.0.2.7", Attribution::Resolved);
    }

    #[test]
    fn both_headers_count_only_if_they_agree() {
        check(&["for=192.0.2.7"], &["192.0.2.7"], "192.0.2.7", Attribution::Resolved);
        check(
            &["for=192.0.2.7, for=10.0.0.2"],
            &["198.51.100.1, 192.0.2.7"],
            "192.0.2.7",
            Attribution::Resolved,
        );
        check(&["for=198.51.100.1"], &["192.0.2.7"], PEER, Attribution::Conflicting);
        check(&["for=192.0.2.7"], &["198.51.100.1"], PEER, Attribution::Conflicting);
        check(&["for=unknown"], &["192.0.2.7"], PEER, Attribution::Conflicting);
        check(&["for=unknown"], &["unknown"], PEER, Attribution::Truncated);
        check(&["for=192.0.2.7"], &[" "], "192.0.2.7", Attribution::Resolved);
    }

    #[test]
    fn a_chain_that_is_too_long_is_truncated() {
        let way = |hops: usize| format!("192.0.2.7{}", ", 10.0.0.2".repeat(hops));
        check(&[], &[&way(HOPS_MAX - 1)], "192.0.2.7", Attribution::Resolved);
        check(&[], &[&way(HOPS_MAX)], "10.0.0.2", Attribution::Truncated);
    }

    #[test]
    fn a_trusted_peer_on_a_unix_socket_names_clients() {
        let found = client_address(None, &[], &[b"192.0.2.7"], trusts);
        assert_eq!(
            found,
            ClientAddress { address: "192.0.2.7".parse().ok(), attribution: Attribution::Resolved }
        );
        assert_eq!(
            client_address(None, &[], &[], trusts),
            ClientAddress { address: None, attribution: Attribution::Resolved }
        );
    }
}
