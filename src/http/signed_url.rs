//! Signed URLs: anyone who has one may use its path until it expires.
//!
//! The signature is the HMAC-SHA-256 (RFC 2104) of an unambiguous text ([`SignedUrl::text`]). The query contains everything but
//! the method and the path, which are those of the request.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ipnet::IpNet;
use percent_encoding::percent_encode;
use sha2::Sha256;

use super::method::ReadMethod;
use super::named_enum::named_enum;
use super::percent::OUTSIDE_VALUE;
use crate::http::form_encoding::{decode, pairs};

/// The rights of a signed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUrl<'a> {
    /// `GET`, which stands for `HEAD` as well, or `HEAD`.
    pub method: ReadMethod,
    /// The path relative to the root, decoded and without a slash at either end; empty for the root.
    pub path: Cow<'a, [u8]>,
    /// The terms in its query.
    pub terms: Terms<'a>,
}

/// The terms in the query of a signed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms<'a> {
    /// `expires`: the Unix time in seconds from which it is no longer valid.
    pub expires: u64,
    /// `key`: the name of the key that signed it.
    pub key: Cow<'a, [u8]>,
    /// `client`: the address or network from which it may be used.
    pub client: Option<Cow<'a, [u8]>>,
    /// `download`: save the file under this name; if empty, under its own.
    pub download: Option<Cow<'a, [u8]>>,
}

/// A signed URL as found in a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUrlQuery<'a> {
    /// Its terms.
    pub terms: Terms<'a>,
    signature: [u8; SIGNATURE_BYTES],
}

named_enum! {
    /// Why a query with a signature is not a signed URL.
    pub enum SignedUrlQueryError {
        /// A parameter occurs twice.
        Twice => "a parameter is there twice",
        /// `expires` or `key` is missing.
        Incomplete => "expires or key is missing",
        /// `expires` is not a decimal number of seconds.
        Expires => "expires is not a number of seconds",
        /// `client` is neither an address nor a network.
        Client => "client is not a network",
        /// `sig` is not 32 bytes in base64url.
        Signature => "sig is not a signature",
        /// It has an option that no signed URL allows: an archive, a digest, a format of a listing.
        OptionNotAllowed => "it has a parameter that no signature covers",
    }
}

impl<'a> SignedUrlQuery<'a> {
    /// Finds a signed URL in a query. `None` if the query has no `sig`.
    ///
    /// # Errors
    /// It has a `sig`, but is not a valid signed URL.
    pub fn read(query: &'a [u8]) -> Option<Result<Self, SignedUrlQueryError>> {
        let (mut values, mut fault) = ([None; PARAMETERS.len()], None);
        for (name, value) in pairs(query) {
            let name = decode(name);
            let is = |known: &&str| known.as_bytes() == &*name;
            fault = fault.or(match PARAMETERS.iter().position(is) {
                Some(at) => values[at].replace(value).map(|_| SignedUrlQueryError::Twice),
                None => OTHER_OPTIONS.iter().any(is).then_some(SignedUrlQueryError::OptionNotAllowed),
            });
        }
        let [signature, rest @ ..] = values;
        let signature = signature?;
        Some(fault.map_or_else(|| Self::of(signature, rest), Err))
    }

    fn of(
        signature: &[u8],
        values: [Option<&'a [u8]>; PARAMETERS.len() - 1],
    ) -> Result<Self, SignedUrlQueryError> {
        let [expires, key, client, download] = values.map(|value| value.map(decode));
        let expires = expires.ok_or(SignedUrlQueryError::Incomplete)?;
        let expires = seconds(&expires).ok_or(SignedUrlQueryError::Expires)?;
        let key = key.ok_or(SignedUrlQueryError::Incomplete)?;
        if let Some(client) = &client
            && str::from_utf8(client).ok().and_then(network).is_none()
        {
            return Err(SignedUrlQueryError::Client);
        }
        let decoded = URL_SAFE_NO_PAD.decode(decode(signature)).ok();
        let signature = decoded.and_then(|bytes| bytes.try_into().ok());
        let signature = signature.ok_or(SignedUrlQueryError::Signature)?;
        Ok(Self { terms: Terms { expires, key, client, download }, signature })
    }

    /// Whether `key` signed it for `method` and `path`. Takes constant time.
    pub fn is_signed_by(&self, key: &[u8], method: ReadMethod, path: &[u8]) -> bool {
        let url = SignedUrl { method, path: Cow::Borrowed(path), terms: self.terms.clone() };
        mac(key, &url).verify_slice(&self.signature).is_ok()
    }
}

impl Terms<'_> {
    /// Whether it may be used from `address`. With an unknown address, only if it has no `client`.
    pub fn allow(&self, address: Option<IpAddr>) -> bool {
        let Some(client) = &self.client else { return true };
        let network = std::str::from_utf8(client).ok().and_then(network);
        address.zip(network).is_some_and(|(address, network)| network.contains(&address.to_canonical()))
    }
}

impl SignedUrl<'_> {
    /// The text to sign: a sequence of netstrings, each the decimal length of a part, a colon, the part and a comma. The parts are
    /// `pagecast-link-v1`, `method=`, `path=` (with its leading slash), `expires=`, `key=`, and if given `client=` and
    /// `download=`, in this order.
    pub fn text(&self) -> Vec<u8> {
        let Terms { expires, key, client, download } = &self.terms;
        let mut text = Vec::with_capacity(128 + self.path.len());
        put(&mut text, VERSION, b"");
        put(&mut text, "method=", self.method.name().as_bytes());
        put(&mut text, "path=/", &self.path);
        put(&mut text, "expires=", expires.to_string().as_bytes());
        put(&mut text, "key=", key);
        for (name, value) in [("client=", client), ("download=", download)] {
            value.iter().for_each(|value| put(&mut text, name, value));
        }
        text
    }

    /// The query, signed by `key`.
    pub fn query(&self, key: &[u8]) -> String {
        let Terms { expires, key: id, client, download } = &self.terms;
        let escaped = |text: &[u8]| percent_encode(text, OUTSIDE_VALUE).to_string();
        let mut query = format!("expires={expires}&key={}", escaped(id));
        for (name, value) in [("client", client), ("download", download)] {
            value.iter().for_each(|value| query.push_str(&format!("&{name}={}", escaped(value))));
        }
        let signature = mac(key, self).finalize().into_bytes();
        query.push_str(&format!("&sig={}", URL_SAFE_NO_PAD.encode(signature)));
        query
    }
}

/// Parses an address, or a network with its prefix length.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).ok()
}

/// Whether `id` is a valid key id: 1 to 64 letters, digits, `.`, `_` and `-`.
pub fn is_key_id(id: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=KEY_ID_MAX).contains(&id.len()) && id.bytes().all(is_usual)
}

/// A decimal number without leading zeros.
fn seconds(text: &[u8]) -> Option<u64> {
    let is_written_so = text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || !text.starts_with(b"0"));
    std::str::from_utf8(text).ok().filter(|_| is_written_so)?.parse().ok()
}

fn put(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    text.extend_from_slice(format!("{}:{name}", name.len() + value.len()).as_bytes());
    text.extend_from_slice(value);
    text.push(b',');
}

fn mac(key: &[u8], url: &SignedUrl<'_>) -> Hmac<Sha256> {
    // HMAC takes keys of any length; only the trait's constructor is fallible.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(&url.text());
    mac
}

/// The parameters of a signed URL.
const PARAMETERS: [&str; 5] = ["sig", "expires", "key", "client", "download"];

/// Options that it cannot have.
const OTHER_OPTIONS: [&str; 5] = ["archive", "digest", "format", "sort", "order"];

const VERSION: &str = "pagecast-link-v1";

const SIGNATURE_BYTES: usize = 32;

const KEY_ID_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn url<'a>(path: &'a str, client: Option<&'a str>, download: Option<&'a str>) -> SignedUrl<'a> {
        let value = |text: &'a str| Cow::Borrowed(text.as_bytes());
        let terms = Terms {
            expires: 1_767_225_600,
            key: value("k2"),
            client: client.map(value),
            download: download.map(value),
        };
        SignedUrl { method: ReadMethod::Get, path: value(path), terms }
    }

    #[test]
    fn the_signed_text_is_a_sequence_of_netstrings() {
        let text = url("reports/q1 final.pdf", Some("203.0.113.0/24"), Some("q1.pdf")).text();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "16:pagecast-link-v1,10:method=GET,26:path=/reports/q1 final.pdf,18:expires=1767225600,6:key=k2,\
             21:client=203.0.113.0/24,15:download=q1.pdf,"
        );
    }

    #[test]
    fn different_signed_urls_have_different_texts() {
        let urls = [
            url("a", None, None),
            url("b", None, None),
            url("", None, None),
            url("a", None, Some("")),
            url("a", Some("192.0.2.1"), None),
            url("a", Some("192.0.2.0/24"), None),
            url("a,10:client=a", None, None),
            url("a", None, Some("x,13:download=y")),
            SignedUrl { method: ReadMethod::Head, ..url("a", None, None) },
        ];
        for (index, one) in urls.iter().enumerate() {
            for other in &urls[..index] {
                assert_ne!(one.text(), other.text(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_signed_query_is_parsed_and_its_signature_is_valid() {
        for url in [
            url("a/b.txt", None, None),
            url("", None, Some("")),
            url("ä b&c", Some("2001:db8::/32"), Some("r & d=100%+é.pdf")),
        ] {
            let query = url.query(KEY);
            let parsed = SignedUrlQuery::read(query.as_bytes()).unwrap().unwrap();
            assert_eq!(parsed.terms, url.terms, "{query}");
            assert!(parsed.is_signed_by(KEY, ReadMethod::Get, &url.path), "{query}");
            for (key, method, path) in [
                (b"another key".as_slice(), ReadMethod::Get, &*url.path),
                (KEY, ReadMethod::Head, &*url.path),
                (KEY, ReadMethod::Get, b"another/path"),
            ] {
                assert!(!parsed.is_signed_by(key, method, path), "{query}");
            }
        }
    }

    #[test]
    fn a_query_without_a_signature_is_not_a_signed_url_and_faults_are_reported() {
        let sig = "A".repeat(43);
        for query in ["", "expires=1&key=a", "download=x&archive=zip", "Sig=a", "sigs=b"] {
            assert_eq!(SignedUrlQuery::read(query.as_bytes()), None, "{query}");
        }
        for (query, why) in [
            ("sig=A&expires=1&key=a".to_owned(), SignedUrlQueryError::Signature),
            (format!("sig={sig}A&expires=1&key=a"), SignedUrlQueryError::Signature),
            (format!("sig={sig}=&expires=1&key=a"), SignedUrlQueryError::Signature),
            (format!("sig={}B&expires=1&key=a", &sig[1..]), SignedUrlQueryError::Signature),
            (format!("sig={}%2B&expires=1&key=a", &sig[1..]), SignedUrlQueryError::Signature),
            ("sig&expires=1&key=a".to_owned(), SignedUrlQueryError::Signature),
            (format!("sig={sig}&expires=1"), SignedUrlQueryError::Incomplete),
            (format!("sig={sig}&key=1"), SignedUrlQueryError::Incomplete),
            (format!("sig={sig}&key=a&expires="), SignedUrlQueryError::Expires),
            (format!("sig={sig}&key=a&expires=+1"), SignedUrlQueryError::Expires),
            (format!("sig={sig}&key=a&expires=01"), SignedUrlQueryError::Expires),
            (format!("sig={sig}&key=a&expires=-1"), SignedUrlQueryError::Expires),
            (format!("sig={sig}&key=a&expires=18446744073709551616"), SignedUrlQueryError::Expires),
            (format!("sig={sig}&key=a&expires=1&client=x"), SignedUrlQueryError::Client),
            (format!("sig={sig}&key=a&expires=1&client="), SignedUrlQueryError::Client),
            (format!("sig={sig}&key=a&expires=1&expires=2"), SignedUrlQueryError::Twice),
            (format!("sig={sig}&key=a&%65xpires=2&expires=1"), SignedUrlQueryError::Twice),
            (format!("sig={sig}&key=a&expires=1&download=a&download=b"), SignedUrlQueryError::Twice),
            (format!("sig={sig}&sig={sig}&key=a&expires=1"), SignedUrlQueryError::Twice),
            (format!("archive=zip&sig={sig}&key=a&expires=1"), SignedUrlQueryError::OptionNotAllowed),
            (format!("sig={sig}&key=a&expires=1&%64igest=md5"), SignedUrlQueryError::OptionNotAllowed),
            (format!("sig={sig}&key=a&expires=1&sort"), SignedUrlQueryError::OptionNotAllowed),
        ] {
            assert_eq!(SignedUrlQuery::read(query.as_bytes()), Some(Err(why)), "{query}");
        }
        let with_others = format!("v=3&sig={sig}&key=a&expires=0&utm=x");
        assert!(SignedUrlQuery::read(with_others.as_bytes()).unwrap().is_ok());
    }

    #[test]
    fn addresses_match_the_network_of_a_signed_url() {
        for (client, address, expected) in [
            (None, Some("192.0.2.1"), true),
            (None, None, true),
            (Some("192.0.2.0/24"), Some("192.0.2.255"), true),
            (Some("192.0.2.0/24"), Some("::ffff:192.0.2.7"), true),
            (Some("192.0.2.0/24"), Some("192.0.3.1"), false),
            (Some("192.0.2.1"), Some("192.0.2.1"), true),
            (Some("192.0.2.1"), Some("192.0.2.2"), false),
            (Some("2001:db8::/32"), Some("2001:db8:1::1"), true),
            (Some("2001:db8::/32"), Some("192.0.2.1"), false),
            (Some("192.0.2.0/24"), None, false),
        ] {
            let address = address.map(|text| text.parse().unwrap());
            assert_eq!(url("a", client, None).terms.allow(address), expected, "{client:?} {address:?}");
        }
    }

    #[test]
    fn keys_have_plain_names() {
        for id in ["k", "k2", "2026-01", "a.b_c-D", &"x".repeat(64)] {
            assert!(is_key_id(id), "{id}");
        }
        for id in ["", "a b", "a/b", "é", "a=b", &"x".repeat(65)] {
            assert!(!is_key_id(id), "{id}");
        }
    }
}
