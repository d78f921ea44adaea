//! What must hold for whatever proxies and their clients say.

use std::net::IpAddr;

use pagecast::http::forwarded_for::{Attribution, ClientAddress, asker};
use pagecast::net::proxy_protocol::{ProxyHeader, parse};

/// However the first bytes of a connection arrive, they are the same header, or none.
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

/// Whatever a client claims, it is the one that the trusted proxy names behind its claim, or nobody that it could choose.
pub(crate) fn claim(claim: &[u8]) {
    let [peer, client]: [IpAddr; 2] = ["10.0.0.1", "192.0.2.7"].map(|text| text.parse().expect("an address"));
    let trusts = |address: IpAddr| address == peer;
    let known = ClientAddress { address: Some(client), word: Attribution::Good };
    let ask = |forwarded: &[&[u8]], x_forwarded_for: &[&[u8]]| {
        asker(Some(peer), forwarded, x_forwarded_for, trusts)
    };
    assert_eq!(ask(&[], &[claim, b"192.0.2.7"]), known);
    assert_eq!(ask(&[], &[&[claim, b", 192.0.2.7"].concat()]), known);
    assert_eq!(ask(&[claim, b"for=192.0.2.7"], &[]), known);
    for added in
        [&b", for=192.0.2.7"[..], b", for=\"192.0.2.7:80\";by=\"_a\"", b", by=_a;for=192.0.2.7;host=\"a\""]
    {
        let told = ask(&[&[claim, added].concat()], &[]);
        assert!(
            told == known || told == ClientAddress { address: Some(peer), word: Attribution::Short },
            "{told:?}"
        );
    }
    // Through the field that the proxy does not write.
    for told in [ask(&[claim], &[b"192.0.2.7"]), ask(&[b"for=192.0.2.7"], &[claim])] {
        assert!([Some(client), Some(peer)].contains(&told.address), "{told:?}");
    }
}
