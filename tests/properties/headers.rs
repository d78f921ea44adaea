//! Properties of every header, query and file name.

use pagecast::http::accept::{accepts_html, names_html, prefers_json};
use pagecast::http::cache_control::{IMMUTABLE, default_for};
use pagecast::http::checksum_file::{checksum_line, expected_in};
use pagecast::http::digest::{Algorithm, DigestPreference};
use pagecast::http::disposition::{attachment, inline};
use pagecast::http::encoding::{AcceptEncoding, Encoding, EncodingChoice};
use pagecast::http::query::QueryOptions;
use pagecast::http::query_filter::is_suspicious;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// The chosen encoding is available, and unchosen ones do not change the choice, for every Accept-Encoding header.
pub(crate) fn accept_encoding(header: &[u8]) {
    let accepted = AcceptEncoding::parse(Some(header));
    for bits in 0..8 {
        let available = |encoding: Encoding| bits >> encoding as u8 & 1 == 1;
        let choice = accepted.choose(available);
        assert_eq!(
            accepted.best(available),
            match choice {
                EncodingChoice::Encoded(encoding) => Some(encoding),
                EncodingChoice::Identity | EncodingChoice::NotAcceptable => None,
            }
        );
        match choice {
            EncodingChoice::Encoded(encoding) => assert!(available(encoding)),
            EncodingChoice::Identity => assert!(!accepted.refuses_identity()),
            EncodingChoice::NotAcceptable => assert!(accepted.refuses_identity()),
        }
        if accepted.best(available).is_some() {
            assert!(accepted.best(|_| true).is_some());
        }
        // Removing an encoding that is not chosen changes nothing.
        let is_unchosen = |&encoding: &Encoding| choice != EncodingChoice::Encoded(encoding);
        for removed in Encoding::ALL.into_iter().filter(is_unchosen) {
            assert_eq!(accepted.choose(|encoding| encoding != removed && available(encoding)), choice);
        }
    }
    let doubled = [header, b", ", header].concat();
    assert_eq!(AcceptEncoding::parse(Some(&doubled)), accepted);
}

/// The first `download` in a query counts.
pub(crate) fn query(bytes: &[u8]) {
    let wants = QueryOptions::parse(bytes);
    let behind = [b"download=a&".as_slice(), bytes].concat();
    assert_eq!(QueryOptions { download: wants.download.clone(), ..QueryOptions::parse(&behind) }, wants);
    assert_eq!(QueryOptions::parse(&behind).download.as_deref(), Some(b"a".as_slice()));
    let before = [bytes, b"&download=a".as_slice()].concat();
    let first = wants.download.clone().unwrap_or(b"a".as_slice().into());
    assert_eq!(QueryOptions::parse(&before), QueryOptions { download: Some(first), ..wants });
}

/// The header value for any file name is printable and names no directory.
pub(crate) fn disposition(name: &[u8]) {
    let value = attachment(name);
    assert_eq!(inline(name).strip_prefix("inline"), value.strip_prefix("attachment"));
    assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{value:?}");
    let parameters = value.strip_prefix("attachment").expect("a kind");
    if parameters.is_empty() {
        return;
    }
    let quoted = parameters.strip_prefix("; filename=\"").expect("a name");
    let unescaped = quoted.replace("\\\"", "''");
    let end = unescaped.find('"').expect("an end");
    let file_name = &unescaped[..end];
    assert!(!file_name.is_empty() && !file_name.starts_with('.'));
    assert!(!file_name.contains(['/', '\\', '%']));
    let extended = &quoted[end + 1..];
    if !extended.is_empty() {
        let encoded = extended.strip_prefix("; filename*=UTF-8''").expect("an extended name");
        let decoded = percent_decode_str(encoded).decode_utf8().expect("a name in UTF-8");
        assert!(!decoded.starts_with('.') && !decoded.contains(['/', '\\']));
        assert!(!decoded.contains(char::is_control));
        assert_eq!(decoded.chars().count(), quoted[..end].replace("\\\"", "'").len());
    }
}

/// HTML is always revalidated, and a directory before the name changes nothing.
pub(crate) fn cache_control(name: &[u8]) {
    assert_ne!(default_for(name, "text/html; charset=utf-8"), IMMUTABLE);
    let below = [b"a.3f9a1c0b.js/".as_slice(), name].concat();
    for media_type in ["text/javascript", "image/png", ""] {
        assert_eq!(default_for(&below, media_type), default_for(name, media_type));
    }
}

/// The answers about an Accept header are consistent.
pub(crate) fn accept(header: &[u8]) {
    let header = Some(header);
    let (json, html, named) = (prefers_json(header), accepts_html(header), names_html(header));
    let doubled = header.map(|header| [b"text/html, ".as_slice(), header].concat());
    if !json && !html {
        // Neither is accepted: then only XHTML may be named.
        assert!(
            !named
                || header.is_some_and(|header| header.to_ascii_lowercase().windows(5).any(|w| w == b"xhtml"))
        );
    }
    assert!(names_html(doubled.as_deref()) && accepts_html(doubled.as_deref()));
    assert!(!prefers_json(doubled.as_deref()));
}

/// The best algorithm of a Want-Repr-Digest header is an accepted one.
pub(crate) fn want_digest(header: &[u8]) {
    let want = DigestPreference::parse(header);
    match want.best() {
        Some(best) => assert!(want.accepts(best)),
        None => assert!(Algorithm::ALL.into_iter().all(|algorithm| !want.accepts(algorithm))),
    }
    if want != DigestPreference::default() {
        let again = [header, b", md5=1".as_slice()].concat();
        assert_eq!(DigestPreference::parse(&again), want);
    }
}

/// The checksum of any file name is found among others, and no bytes are mistaken for its line.
pub(crate) fn checksum_file(name: &[u8], rest: &[u8], digest: [u8; 32]) {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = checksum_line(&hex, name);
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    let others = checksum_line(&"0".repeat(64), b"another").repeat(2);
    let file = [line, others, rest.to_vec()].concat();
    let is_readable = !name.starts_with(b"./") && !name.is_empty() && name != b"another";
    // A name of only spaces counts as absent.
    if is_readable && !name.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
        assert_eq!(expected_in(&file, name), Some(digest));
    }
    expected_in(rest, name);
}

/// Joined queries are as suspicious as the worst of them, and encoding hides nothing.
pub(crate) fn query_filter(left: &[u8], right: &[u8]) {
    let both = [left, b"&".as_slice(), right].concat();
    assert_eq!(is_suspicious(&both), is_suspicious(left) || is_suspicious(right));
    let encode = |text: &[u8]| percent_encode(text, NON_ALPHANUMERIC).to_string();
    let plain: Vec<_> = left.iter().copied().filter(|byte| !b"%+&".contains(byte)).collect();
    let encoded = encode(&plain);
    assert_eq!(is_suspicious(encoded.as_bytes()), is_suspicious(&plain));
    assert_eq!(is_suspicious(encode(encoded.as_bytes()).as_bytes()), is_suspicious(&plain));
    assert_eq!(is_suspicious(&plain.to_ascii_uppercase()), is_suspicious(&plain));
}
