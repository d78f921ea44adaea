//! What must hold for whatever somebody makes of a signed link, and shows as credentials.

use std::borrow::Cow;

use pagecast::http::credentials::Credentials;
use pagecast::http::signed_url::{SignedMethod, SignedUrl, SignedUrlQuery, Terms};
use pagecast::http::target::SitePath;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A link of any path and any terms.
pub(crate) fn link<'a>(path: &'a [u8], client: Option<&'a str>, download: Option<&'a [u8]>) -> SignedUrl<'a> {
    let terms = Terms {
        expires: 1_767_225_600,
        key: Cow::Borrowed(b"k2"),
        client: client.map(|client| Cow::Borrowed(client.as_bytes())),
        download: download.map(Cow::Borrowed),
    };
    SignedUrl { method: SignedMethod::Get, path: Cow::Borrowed(path), terms }
}

/// The target of a link, as it is sent.
pub(crate) fn target(link: &SignedUrl<'_>) -> Vec<u8> {
    let path: String = link
        .path
        .iter()
        .map(|byte| if *byte == b'/' { "/".to_owned() } else { format!("%{byte:02X}") })
        .collect();
    format!("/{path}?{}", link.query(KEY)).into_bytes()
}

/// Whatever was made of the target of a link, it opens what the link was for on its terms, or nothing.
pub(crate) fn mutated(link: &SignedUrl<'_>, target: &[u8]) {
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let (Ok(parsed), Some(Ok(shown))) = (SitePath::parse(path), SignedUrlQuery::read(query)) else { return };
    for method in [SignedMethod::Get, SignedMethod::Head] {
        if shown.is_signed_by(KEY, method, parsed.path.as_bytes()) {
            assert_eq!(
                (method, parsed.path.as_bytes(), &shown.terms),
                (link.method, &*link.path, &link.terms)
            );
        }
    }
}

/// Links that differ are signed as different texts.
pub(crate) fn told_apart(one: &SignedUrl<'_>, other: &SignedUrl<'_>) {
    assert_eq!(one.text() == other.text(), one == other, "{one:?} {other:?}");
}

/// Whatever is shown as credentials, what is read of it has no control character and no colon in its name.
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
