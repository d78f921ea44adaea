//! Whose word is taken for who the client is.

use std::net::IpAddr;

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::config::{ClientField, Config, ProxyList, ProxyProtocol};
use crate::http::forwarded_for::{Attribution, ClientAddress, asker};

/// The proxies that are trusted, and how they speak.
pub(crate) struct TrustedProxies {
    trusted: ProxyList,
    field: ClientField,
    protocol: ProxyProtocol,
}

impl TrustedProxies {
    pub(crate) fn new(config: &Config) -> Self {
        let trusted = config.clients.trusted_proxies.clone();
        Self { trusted, field: config.clients.client_field, protocol: config.clients.proxy_protocol }
    }

    /// Whether nobody is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    /// Whether connections begin with a header of the PROXY protocol.
    pub(crate) fn protocol(&self) -> ProxyProtocol {
        self.protocol
    }

    /// Whether the peer is trusted; none is one on a unix socket.
    pub(crate) fn trust(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.trusted.trusts(address),
            None => self.trusted.trusts_unix(),
        }
    }

    /// Who asks: the peer, or whom it speaks for.
    pub(crate) fn asker(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> ClientAddress {
        if !self.trust(peer) {
            return ClientAddress { address: peer, word: Attribution::Good };
        }
        let lines = |name: &HeaderName, other: ClientField| -> Vec<&[u8]> {
            if self.field == other {
                Vec::new()
            } else {
                headers.get_all(name).map(|line| line.as_bytes()).collect()
            }
        };
        let forwarded = lines(&header::FORWARDED, ClientField::XForwardedFor);
        let x_forwarded_for = lines(&header::X_FORWARDED_FOR, ClientField::Forwarded);
        asker(peer, &forwarded, &x_forwarded_for, |address| self.trusted.trusts(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientsGroup;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn the_field_that_is_configured_is_the_only_one_that_counts() {
        let mut headers = HeaderMap::new();
        headers.append(header::FORWARDED, HeaderValue::from_static("for=192.0.2.1"));
        headers.append(header::X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.2"));
        for (client_field, peer, expected) in [
            (ClientField::Auto, "10.0.0.1", "10.0.0.1"),
            (ClientField::Forwarded, "10.0.0.1", "192.0.2.1"),
            (ClientField::XForwardedFor, "10.0.0.1", "192.0.2.2"),
            (ClientField::XForwardedFor, "10.0.0.2", "10.0.0.2"),
        ] {
            let trusted_proxies = "10.0.0.1".parse().unwrap();
            let proxies = TrustedProxies::new(&Config {
                clients: ClientsGroup { trusted_proxies, client_field, ..ClientsGroup::default() }.into(),
                ..Config::default()
            });
            let asker = proxies.asker(peer.parse().ok(), &headers);
            assert_eq!(asker.address, expected.parse().ok(), "{client_field} {peer}");
        }
    }
}
