//! The client behind trusted proxies, by the configured header.

use std::net::IpAddr;

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::config::{ClientField, ClientsGroup};
use crate::http::forwarded_for::{self, Attribution, ClientAddress};

/// The client of a request: the peer, or the one that a trusted peer names. `None` is a peer on a unix socket.
pub(crate) fn client_address(
    settings: &ClientsGroup,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> ClientAddress {
    let trusted = &settings.trusted_proxies;
    if !trusted.trusts_peer(peer) {
        return ClientAddress { address: peer, attribution: Attribution::Resolved };
    }
    let lines = |name: &HeaderName, other: ClientField| -> Vec<&[u8]> {
        if settings.client_field == other {
            Vec::new()
        } else {
            headers.get_all(name).map(|line| line.as_bytes()).collect()
        }
    };
    let forwarded = lines(&header::FORWARDED, ClientField::XForwardedFor);
    let x_forwarded_for = lines(&header::X_FORWARDED_FOR, ClientField::Forwarded);
    forwarded_for::client_address(peer, &forwarded, &x_forwarded_for, |address| trusted.trusts(address))
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let settings = ClientsGroup { trusted_proxies, client_field, ..ClientsGroup::default() };
            let client = client_address(&settings, peer.parse().ok(), &headers);
            assert_eq!(client.address, expected.parse().ok(), "{client_field} {peer}");
        }
    }
}
