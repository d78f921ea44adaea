//! Peers that settings name by address: trusted proxies, clients without limits.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::comma_list::{CommaList, ListItem};

/// Networks and unix sockets; written `none` if there are none.
pub type ProxyList = CommaList<PeerPattern>;

/// One item of a [`ProxyList`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPattern {
    /// All peers of a network, or the one with an address.
    Network(IpNet),
    /// All peers on unix sockets, written `unix`.
    Unix,
}

impl ProxyList {
    /// True if the list matches no peer.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// True if the list contains the address. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.as_slice()
            .iter()
            .any(|pattern| matches!(pattern, PeerPattern::Network(network) if network.contains(&peer)))
    }

    /// True if the list contains the peer; `None` is one on a unix socket.
    pub fn trusts_peer(&self, peer: Option<IpAddr>) -> bool {
        peer.map_or_else(|| self.as_slice().contains(&PeerPattern::Unix), |peer| self.trusts(peer))
    }
}

impl ListItem for PeerPattern {
    const METAVAR: &'static str = "NETWORKS";
    const ACCEPTED: &'static str = "a list of IP addresses, of networks such as 10.0.0.0/8 or fd00::/8, and of unix for \
                                    all peers on unix sockets; or none";
    const EMPTY_LIST: Option<&'static str> = Some("none");
}

impl FromStr for PeerPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| "is neither an IP address nor a network")?,
        };
        if network.trunc() != network {
            return Err(format!("has bits beyond its prefix: the network is {}", network.trunc()));
        }
        Ok(Self::Network(network))
    }
}

impl fmt::Display for PeerPattern {
    /// A network of one address as that address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str(UNIX),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
        }
    }
}

const UNIX: &str = "unix";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ValueError;

    #[test]
    fn peers_within_a_network_are_trusted() {
        let proxies: ProxyList = "10.0.0.0/8, 192.0.2.1,fd00::/8".parse().expect("networks");
        for (peer, trusted) in [
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("::ffff:10.1.2.3", true),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(proxies.trusts(peer.parse().expect(peer)), trusted, "{peer}");
        }
        assert!(!proxies.trusts_peer(None));
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, written) in [
            ("none", "none"),
            ("unix", "unix"),
            ("unix, 10.0.0.0/8", "unix,10.0.0.0/8"),
            ("127.0.0.1/32,::1", "127.0.0.1,::1"),
        ] {
            assert_eq!(text.parse::<ProxyList>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("10.0.0.0/8,", "has an empty item in its list"),
            ("10.0.0.0/33", "is neither an IP address nor a network"),
            ("10.0.0.1/8", "has bits beyond its prefix: the network is 10.0.0.0/8"),
            ("::1,::1", "contains ::1 twice"),
            ("unix,unix", "contains unix twice"),
            ("proxy.local", "is neither an IP address nor a network"),
        ] {
            assert_eq!(text.parse::<ProxyList>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
