//! The identity of a client: its address or network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A client: all addresses of one network, since a provider gives its customers networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientKey {
    /// All clients on unix sockets, which cannot be distinguished.
    #[default]
    Local,
    /// An IPv4 network; the remaining bits are 0.
    V4(u32),
    /// An IPv6 network; the remaining bits are 0.
    V6(u128),
}

/// How many bits of an address identify a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefixes {
    /// Of an IPv4 address, from 0 to 32.
    pub v4: u8,
    /// Of an IPv6 address, from 0 to 128.
    pub v6: u8,
}

impl ClientKey {
    /// The client at `address`; `None` is a unix socket. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(address: Option<IpAddr>, prefixes: ClientPrefixes) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(v4)) => {
                let rest = 32_u32.saturating_sub(u32::from(prefixes.v4));
                Self::V4(v4.to_bits() & u32::MAX.checked_shl(rest).unwrap_or(0))
            }
            Some(IpAddr::V6(v6)) => {
                let rest = 128_u32.saturating_sub(u32::from(prefixes.v6));
                Self::V6(v6.to_bits() & u128::MAX.checked_shl(rest).unwrap_or(0))
            }
        }
    }
}

impl fmt::Display for ClientKey {
    /// The first address of its network.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("unix"),
            Self::V4(bits) => Ipv4Addr::from_bits(*bits).fmt(f),
            Self::V6(bits) => Ipv6Addr::from_bits(*bits).fmt(f),
        }
    }
}

/// A peer's address, for log messages; `None` is a unix socket.
pub fn peer_name(peer: Option<impl fmt::Display>) -> String {
    peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bits_of_an_address_identify_a_client() {
        let usual = ClientPrefixes { v4: 32, v6: 64 };
        let wide = ClientPrefixes { v4: 24, v6: 48 };
        let all = ClientPrefixes { v4: 0, v6: 0 };
        for (address, prefixes, expected) in [
            ("192.0.2.7", usual, "192.0.2.7"),
            ("192.0.2.7", wide, "192.0.2.0"),
            ("192.0.2.7", all, "0.0.0.0"),
            ("::ffff:192.0.2.7", usual, "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", usual, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", wide, "2001:db8:1::"),
            ("2001:db8:1:2:3:4:5:6", all, "::"),
        ] {
            let key = ClientKey::of(Some(address.parse().unwrap()), prefixes);
            assert_eq!(key.to_string(), expected, "{address} {prefixes:?}");
        }
        assert_eq!(ClientKey::of(None, usual), ClientKey::Local);
    }
}
