//! Properties of signed URLs and credentials.

use std::borrow::Cow;

use pagecast::http::credentials::Credentials;
use pagecast::http::method::ReadMethod;
use pagecast::http::signed_url::{SignedUrl, SignedUrlQuery, Terms};
use pagecast::http::target::SitePath;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A signed URL with this path and these terms.
pub(crate) fn signed_url<'a>(
    path: &'a [u8],
    client: Option<&'a str>,
    download: Option<&'a [u8]>,
) -> SignedUrl<'a> {
    let terms = Terms {
        expires: 1_767_225_600,
        key: Cow::Borrowed(b"k2"),
        client: client.map(|client| Cow::Borrowed(client.as_bytes())),
        download: download.map(Cow::Borrowed),
    };
    SignedUrl { method: ReadMethod::Get, path: Cow::Borrowed(path), terms }
}

/// The request target of a signed URL.
pub(crate) fn target(url: &SignedUrl<'_>) -> Vec<u8> {
    let path: String = url
        .path
        .iter()
        .map(|byte| if *byte == b'/' { "/".to_owned() } else { format!("%{byte:02X}") })
        .collect();
    format!("/{path}?{}", url.query(KEY)).into_bytes()
}

/// A modified target is valid only for the path and the terms of the signed URL.
pub(crate) fn mutated(url: &SignedUrl<'_>, target: &[u8]) {
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let (Ok(parsed), Some(Ok(found))) = (SitePath::parse(path), SignedUrlQuery::read(query)) else { return };
    for method in [ReadMethod::Get, ReadMethod::Head] {
        if found.is_signed_by(KEY, method, parsed.path.as_bytes()) {
            assert_eq!((method, parsed.path.as_bytes(), &found.terms), (url.method, &*url.path, &url.terms));
        }
    }
}

/// Different signed URLs have different signed texts.
pub(crate) fn distinct_texts(one: &SignedUrl<'_>, other: &SignedUrl<'_>) {
    assert_eq!(one.text() == other.text(), one == other, "{one:?} {other:?}");
}

/// Parsed credentials have no control characters and no colon in the name.
pub(crate) fn credentials(line: &[u8]) {
    if let Credentials::Basic(login) = Credentials::read([line].into_iter()) {
        assert!(!login.name.contains(&b':'));
        assert!(login.name.iter().chain(&login.password).all(|byte| !byte.is_ascii_control()));
    }
    assert!(!matches!(
        Credentials::read([line, line].into_iter()),
        Credentials::Bearer(_) | Credentials::Basic(_)
    ));
}
