//! `Repr-Digest`, `Content-Digest` and the `Want-` headers (RFC 9530).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};

use super::digits::hex_digits;
use super::named_enum::named_enum;

named_enum! {
    /// A hash algorithm for digests, in the order in which they are preferred among equals, with its key in headers
    /// (RFC 9530 §5).
    #[derive(Hash, PartialOrd, Ord)]
    pub enum Algorithm {
        /// SHA-256 (FIPS 180-4).
        Sha256 => "sha-256",
        /// SHA-512 (FIPS 180-4).
        Sha512 => "sha-512",
    }
}

impl Algorithm {
    /// The algorithm of this key, in any case.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        Self::named(&token.to_ascii_lowercase())
    }
}

/// The value of a Repr-Digest or Content-Digest header (RFC 9530 §2 and §3) with one digest.
pub fn header_value(algorithm: Algorithm, digest: &[u8]) -> String {
    format!("{}=:{}:", algorithm.name(), BASE64_STANDARD.encode(digest))
}

/// A digest in hexadecimal digits, as in checksum files.
pub fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().flat_map(|&byte| hex_digits(byte)).map(char::from).collect()
}

/// The preferences in a Want-Repr-Digest or Want-Content-Digest header (RFC 9530 §4), by [`Algorithm`]: from 0, not
/// acceptable, to 10, most wanted. By default none is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestPreference([u8; Algorithm::ALL.len()]);

impl DigestPreference {
    /// Parses the header. Several lines are joined with `, ` by the caller.
    ///
    /// It is a structured dictionary (RFC 9651 §3.2) whose values are integers from 0 to 10. Any other value is ignored as a
    /// whole. The last value of a key counts; unknown keys and all parameters are skipped.
    pub fn parse(header: &[u8]) -> Self {
        parse_wanted(header).unwrap_or_default()
    }

    /// The most wanted algorithm; `None` if no supported one is wanted.
    pub fn best(self) -> Option<Algorithm> {
        // Of several equal ones, the last in reverse order is the first.
        let wanted = Algorithm::ALL.into_iter().rev().filter(|algorithm| self.accepts(*algorithm));
        wanted.max_by_key(|algorithm| self.0[*algorithm as usize])
    }

    /// Whether the client wants a digest by `algorithm`.
    pub fn accepts(self, algorithm: Algorithm) -> bool {
        self.0[algorithm as usize] > 0
    }
}

fn parse_wanted(header: &[u8]) -> Option<DigestPreference> {
    let members: Dictionary = Parser::new(header).parse().ok()?;
    let mut wanted = DigestPreference::default();
    for (key, member) in &members {
        let ListEntry::Item(Item { bare_item: BareItem::Integer(number), .. }) = member else { return None };
        let preference = u8::try_from(i64::from(*number)).ok().filter(|number| *number <= PREFERENCE_MAX)?;
        if let Some(algorithm) = Algorithm::named(key.as_str().as_bytes()) {
            wanted.0[algorithm as usize] = preference;
        }
    }
    Some(wanted)
}

const PREFERENCE_MAX: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of nothing.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn digest(hex: &str) -> [u8; 32] {
        {
            let text = format!("{hex}\n");
            crate::http::checksum_file::expected_in(text.as_bytes(), b"").unwrap()
        }
    }

    #[test]
    fn an_algorithm_is_found_by_its_token() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_token(algorithm.name().as_bytes()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_token(b"SHA-512"), Some(Algorithm::Sha512));
        for token in ["", "sha256", "md5", "sha-1", "sha-256 "] {
            assert_eq!(Algorithm::from_token(token.as_bytes()), None, "{token}");
        }
    }

    #[test]
    fn a_header_has_the_digest_in_base64() {
        assert_eq!(
            header_value(Algorithm::Sha256, &digest(EMPTY)),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
        assert_eq!(header_value(Algorithm::Sha512, b"\xFF"), "sha-512=:/w==:");
    }

    #[test]
    fn the_highest_preference_is_the_best() {
        for (header, expected) in [
            ("sha-256=10", Some(Algorithm::Sha256)),
            ("sha-256=1", Some(Algorithm::Sha256)),
            ("sha-512=3, sha-256=10, unixsum=0", Some(Algorithm::Sha256)),
            ("sha-512=3,sha-256=2", Some(Algorithm::Sha512)),
            ("sha-512=5, sha-256=5", Some(Algorithm::Sha256)),
            ("sha-256=0, sha-512=1", Some(Algorithm::Sha512)),
            ("md5=10, sha-512=1", Some(Algorithm::Sha512)),
            ("sha-256=9, sha-512=5, sha-256=1", Some(Algorithm::Sha512)),
            ("  sha-256=1 \t,\t sha-512=2  ", Some(Algorithm::Sha512)),
            ("sha-512=010", Some(Algorithm::Sha512)),
            ("sha-512=2;a;b=1.5; c=\"x,\\\"y\";d=:YQ==:;e=?1, sha-256=1", Some(Algorithm::Sha512)),
            ("", None),
            (" ", None),
            ("sha-256=0", None),
            ("md5=10", None),
            ("*=1", None),
        ] {
            assert_eq!(DigestPreference::parse(header.as_bytes()).best(), expected, "{header}");
        }
    }

    #[test]
    fn a_malformed_header_is_ignored_as_a_whole() {
        for header in [
            "sha-256",
            "sha-256=",
            "sha-256=11",
            "sha-256=-1",
            "sha-256=1.0",
            "sha-256=1.",
            "sha-256=?1",
            "sha-256=\"1\"",
            "sha-256=ten",
            "sha-256=(1)",
            "sha-256=:AQ==:",
            "sha-256 = 1",
            "sha-256= 1",
            "SHA-256=1",
            "sha-256=1,",
            ",sha-256=1",
            "sha-256=1,,sha-512=1",
            "sha-256=1 sha-512=1",
            "sha-256=1, md5",
            "sha-256=1, md5=12",
            "sha-256=1;",
            "sha-256=1;A",
            "sha-256=1;a=",
            "sha-256=1;a=\"",
            "sha-256=1;a=\"\\x\"",
            "sha-256=1 ;a",
            "sha-256=0000000000000001",
            "\tsha-256=1",
            "sha-256=1\0",
        ] {
            assert_eq!(DigestPreference::parse(header.as_bytes()), DigestPreference::default(), "{header}");
        }
    }

    #[test]
    fn an_algorithm_with_a_preference_above_zero_is_accepted() {
        let want = DigestPreference::parse(b"sha-256=0, sha-512=1");
        assert!(want.accepts(Algorithm::Sha512) && !want.accepts(Algorithm::Sha256));
        assert!(!DigestPreference::default().accepts(Algorithm::Sha256));
    }
}
