//! Trusted proxies: which peers may name the client that they forward for, and in which header.

use std::net::IpAddr;

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::config::{ClientField, Config, ProxyList, ProxyProtocol};
use crate::http::forwarded_for::{self, Attribution, ClientAddress};

/// The trusted proxies as configured.
pub(crate) struct TrustedProxies {
    trusted: ProxyList,
    header: ClientField,
    protocol: ProxyProtocol,
}

impl TrustedProxies {
    pub(crate) fn new(config: &Config) -> Self {
        let trusted = config.clients.trusted_proxies.clone();
        Self { trusted, header: config.clients.client_field, protocol: config.clients.proxy_protocol }
    }

    /// Whether no peer is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    /// Whether connections start with a PROXY protocol header.
    pub(crate) fn protocol(&self) -> ProxyProtocol {
        self.protocol
    }

    /// Whether the peer is trusted; `None` is a unix socket.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            Some(address) => self.trusted.trusts(address),
            None => self.trusted.trusts_unix(),
        }
    }

    /// The client: the peer, or the one that a trusted peer names.
    pub(crate) fn client_address(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> ClientAddress {
        if !self.trusts(peer) {
            return ClientAddress { address: peer, attribution: Attribution::Resolved };
        }
        let lines = |name: &HeaderName, other: ClientField| -> Vec<&[u8]> {
            if self.header == other {
                Vec::new()
            } else {
                headers.get_all(name).map(|line| line.as_bytes()).collect()
            }
        };
        let forwarded = lines(&header::FORWARDED, ClientField::XForwardedFor);
        let x_forwarded_for = lines(&header::X_FORWARDED_FOR, ClientField::Forwarded);
        forwarded_for::client_address(peer, &forwarded, &x_forwarded_for, |address| {
            self.trusted.trusts(address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientsGroup;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn only_the_configured_header_counts() {
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
            let client = proxies.client_address(peer.parse().ok(), &headers);
            assert_eq!(client.address, expected.parse().ok(), "{client_field} {peer}");
        }
    }
}
