//! Proxies whose word is taken for what a client did.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};

/// Peers that are trusted to say who they speak for: a comma list of addresses, networks and `unix`, in the file also a
/// list of strings; or `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyList {
    networks: Vec<IpNet>,
    unix: bool,
}

impl ProxyList {
    /// Nobody.
    pub const fn none() -> Self {
        Self { networks: Vec::new(), unix: false }
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether the peer at an address is trusted. An IPv4 address that came in over IPv6 is an IPv4 address.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// Whether peers on unix sockets are trusted.
    pub fn trusts_unix(&self) -> bool {
        self.unix
    }

    fn push(&mut self, text: &str) -> Result<(), ValueError> {
        let refused =
            |reason: &str| ValueError::new(format!("has `{}` in it, which {reason}", text.escape_debug()));
        if text == UNIX {
            if std::mem::replace(&mut self.unix, true) {
                return Err(refused("is there twice"));
            }
            return Ok(());
        }
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| refused("is neither an IP address nor a network"))?,
        };
        if network.trunc() != network {
            return Err(refused(&format!("has bits beyond its prefix: the network is {}", network.trunc())));
        }
        if self.networks.contains(&network) {
            return Err(refused("is there twice"));
        }
        self.networks.push(network);
        Ok(())
    }
}

impl FromStr for ProxyList {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut proxies = Self::none();
        match text {
            "" => return Err(ValueError::EMPTY),
            NONE => return Ok(proxies),
            _ => {}
        }
        for part in text.split(',') {
            proxies.push(part.trim())?;
        }
        Ok(proxies)
    }
}

impl fmt::Display for ProxyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str(NONE);
        }
        let mut texts: Vec<String> = self.networks.iter().map(written).collect();
        if self.unix {
            texts.push(UNIX.to_owned());
        }
        f.write_str(&texts.join(","))
    }
}

/// A network of one address as that address.
fn written(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

impl SettingValue for ProxyList {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "NETWORKS";

    fn accepted((): &()) -> String {
        "a list of IP addresses, of networks such as 10.0.0.0/8 or fd00::/8, and of unix for all peers on unix \
         sockets; or none"
            .to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(ProxyList);

const NONE: &str = "none";
const UNIX: &str = "unix";

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!proxies.trusts_unix());
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, written) in [
            ("none", "none"),
            ("unix", "unix"),
            ("unix, 10.0.0.0/8", "10.0.0.0/8,unix"),
            ("127.0.0.1/32,::1", "127.0.0.1,::1"),
        ] {
            assert_eq!(text.parse::<ProxyList>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("10.0.0.0/8,", "has `` in it, which is neither an IP address nor a network"),
            ("10.0.0.0/33", "has `10.0.0.0/33` in it, which is neither an IP address nor a network"),
            (
                "10.0.0.1/8",
                "has `10.0.0.1/8` in it, which has bits beyond its prefix: the network is 10.0.0.0/8",
            ),
            ("::1,::1", "has `::1` in it, which is there twice"),
            ("unix,unix", "has `unix` in it, which is there twice"),
            ("proxy.local", "has `proxy.local` in it, which is neither an IP address nor a network"),
        ] {
            assert_eq!(text.parse::<ProxyList>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
