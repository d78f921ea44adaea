//! Properties of what proxies and their clients send.

use std::net::IpAddr;

use pagecast::http::forwarded_for::{Attribution, ClientAddress, client_address};
use pagecast::net::proxy_protocol::{ProxyHeader, parse};

/// The first bytes of a connection give the same header, or none, however they are split.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let whole = parse(bytes);
    for length in 0..bytes.len() {
        let seen = parse(&bytes[..length]);
        assert!(
            seen == ProxyHeader::Partial || seen == whole,
            "{length} of {bytes:?}: {seen:?} and {whole:?}"
        );
    }
    if let ProxyHeader::Complete(length, _) = whole {
        assert!(length <= bytes.len());
    }
}

/// A claim of the client never changes the address that the trusted proxy appends to it.
pub(crate) fn claim(claim: &[u8]) {
    let [peer, client]: [IpAddr; 2] = ["10.0.0.1", "192.0.2.7"].map(|text| text.parse().expect("an address"));
    let trusts = |address: IpAddr| address == peer;
    let known = ClientAddress { address: Some(client), attribution: Attribution::Resolved };
    let resolve = |forwarded: &[&[u8]], x_forwarded_for: &[&[u8]]| {
        client_address(Some(peer), forwarded, x_forwarded_for, trusts)
    };
    assert_eq!(resolve(&[], &[claim, b"192.0.2.7"]), known);
    assert_eq!(resolve(&[], &[&[claim, b", 192.0.2.7"].concat()]), known);
    assert_eq!(resolve(&[claim, b"for=192.0.2.7"], &[]), known);
    for added in
        [&b", for=192.0.2.7"[..], b", for=\"192.0.2.7:80\";by=\"_a\"", b", by=_a;for=192.0.2.7;host=\"a\""]
    {
        let found = resolve(&[&[claim, added].concat()], &[]);
        assert!(
            found == known
                || found == ClientAddress { address: Some(peer), attribution: Attribution::Truncated },
            "{found:?}"
        );
    }
    // In the header that the proxy does not write.
    for found in [resolve(&[claim], &[b"192.0.2.7"]), resolve(&[b"for=192.0.2.7"], &[claim])] {
        assert!([Some(client), Some(peer)].contains(&found.address), "{found:?}");
    }
}
