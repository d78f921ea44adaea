//! `Content-Encoding` and `Accept-Encoding` (RFC 9110 §8.4.1, §12.5.3).

use super::quality::{Quality, highest, parse_weight};
use crate::http::named_enum::named_enum;

named_enum! {
    /// A supported content encoding, in the order of preference among equal weights, with its name in Accept-Encoding and
    /// Content-Encoding.
    #[derive(Hash, PartialOrd, Ord)]
    pub enum Encoding {
        /// Brotli (RFC 7932).
        Br => "br",
        /// Zstandard (RFC 8878), in windows of at most 8 MiB (RFC 9659).
        Zstd => "zstd",
        /// gzip (RFC 1952).
        Gzip => "gzip",
    }
}

impl Encoding {
    /// The suffix of the file name of a compressed sidecar.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The weights that a client gives to each encoding and to identity (no encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptEncoding {
    /// By [`Encoding`].
    weights: [Quality; 3],
    /// `None` if the header does not list it, neither by name nor by `*`: acceptable with the lowest weight.
    identity: Option<Quality>,
}

/// The form in which a representation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingChoice {
    /// Without encoding.
    Identity,
    /// In this encoding.
    Encoded(Encoding),
    /// Not acceptable (406): the client refuses identity and every available encoding.
    NotAcceptable,
}

impl AcceptEncoding {
    /// A client that lists no encoding: it gets identity.
    ///
    /// An absent header would allow any encoding, but clients that send none can rarely decode.
    pub const IDENTITY: Self = Self { weights: [Quality::ZERO; 3], identity: None };

    /// Parses an Accept-Encoding header. Several lines are joined with `, ` by the caller.
    ///
    /// Names are case-insensitive, `x-gzip` is gzip, and unknown ones are skipped. A malformed element is ignored. An encoding
    /// that is listed twice has the higher weight, since the client can decode it. `*` stands for everything that is not
    /// listed, including identity. Nothing is allocated.
    pub fn parse(header: Option<&[u8]>) -> Self {
        const ZERO: Quality = Quality::ZERO;
        const ONE: Quality = Quality::ONE;
        let Some(header) = header else { return Self::IDENTITY };
        match header {
            // The headers of browsers and the most common clients.
            b"gzip, deflate, br, zstd" => Self { weights: [ONE; 3], identity: None },
            b"gzip, deflate, br" => Self { weights: [ONE, ZERO, ONE], identity: None },
            b"gzip" | b"gzip, deflate" => Self { weights: [ZERO, ZERO, ONE], identity: None },
            _ => Self::parse_elements(header),
        }
    }

    fn parse_elements(header: &[u8]) -> Self {
        let elements = header.split(|&byte| byte == b',').filter_map(parse_element);
        let [br, zstd, gzip, x_gzip, identity, any_other] =
            highest(["br", "zstd", "gzip", "x-gzip", "identity", "*"], elements);
        let weight = |listed: Option<Quality>| listed.or(any_other).unwrap_or(Quality::ZERO);
        Self { weights: [br, zstd, gzip.max(x_gzip)].map(weight), identity: identity.or(any_other) }
    }

    /// Chooses among identity and the encodings that are available.
    ///
    /// The highest weight wins, and among equal weights the order of [`Encoding`]. Identity is chosen before an acceptable
    /// encoding only if the header gives it a higher weight, by name or by `*`.
    pub fn choose(&self, is_available: impl Fn(Encoding) -> bool) -> EncodingChoice {
        let mut best = (Quality::ZERO, None);
        for encoding in Encoding::ALL {
            let quality = self.weights[encoding as usize];
            if quality > best.0 && is_available(encoding) {
                best = (quality, Some(encoding));
            }
        }
        match (best, self.identity) {
            ((quality, Some(encoding)), identity) if identity.is_none_or(|identity| identity <= quality) => {
                EncodingChoice::Encoded(encoding)
            }
            (_, Some(Quality::ZERO)) => EncodingChoice::NotAcceptable,
            _ => EncodingChoice::Identity,
        }
    }

    /// The encoding that is chosen; `None` if identity or nothing is.
    pub fn best(&self, is_available: impl Fn(Encoding) -> bool) -> Option<Encoding> {
        match self.choose(is_available) {
            EncodingChoice::Encoded(encoding) => Some(encoding),
            EncodingChoice::Identity | EncodingChoice::NotAcceptable => None,
        }
    }

    /// Whether the client refuses a representation without encoding.
    pub fn refuses_identity(&self) -> bool {
        self.identity == Some(Quality::ZERO)
    }
}

/// One element: a name and its weight.
fn parse_element(element: &[u8]) -> Option<(&[u8], Quality)> {
    let mut parts = element.splitn(2, |&byte| byte == b';');
    let name = parts.next()?.trim_ascii();
    Some((name, parts.next().map_or(Some(Quality::ONE), parse_weight)?))
}

#[cfg(test)]
mod tests {
    use super::EncodingChoice::{Identity, NotAcceptable};
    use super::*;

    const BR: EncodingChoice = EncodingChoice::Encoded(Encoding::Br);
    const ZSTD: EncodingChoice = EncodingChoice::Encoded(Encoding::Zstd);
    const GZIP: EncodingChoice = EncodingChoice::Encoded(Encoding::Gzip);

    fn any_of(names: &str) -> impl Fn(Encoding) -> bool {
        move |encoding| names.split(' ').any(|name| name == encoding.name())
    }

    fn all(_: Encoding) -> bool {
        true
    }

    fn check(header: &str, available: &str, expected: EncodingChoice) {
        let accepted = AcceptEncoding::parse(Some(header.as_bytes()));
        assert_eq!(accepted.choose(any_of(available)), expected, "{header:?} of {available:?}");
    }

    #[test]
    fn without_the_header_identity_is_sent() {
        let absent = AcceptEncoding::parse(None);
        assert_eq!(absent.choose(all), Identity);
        assert_eq!(absent.choose(any_of("")), Identity);
        assert_eq!(absent.best(all), None);
    }

    #[test]
    fn an_empty_header_accepts_only_identity() {
        for header in ["", " ", ",", " ,\t,"] {
            check(header, "br zstd gzip", Identity);
        }
    }

    #[test]
    fn the_servers_preference_decides_among_equals() {
        for (header, available, expected) in [
            ("gzip, deflate, br, zstd", "br zstd gzip", BR),
            ("gzip, deflate, br, zstd", "zstd gzip", ZSTD),
            ("gzip, deflate, br, zstd", "gzip", GZIP),
            ("gzip, deflate, br, zstd", "", Identity),
            ("gzip, deflate, br", "br zstd gzip", BR),
            ("gzip, deflate, br", "zstd gzip", GZIP),
            ("gzip, deflate, br", "zstd", Identity),
            ("gzip, deflate", "br zstd gzip", GZIP),
            ("gzip", "br zstd gzip", GZIP),
            ("gzip", "br zstd", Identity),
            ("zstd, br, gzip", "br zstd gzip", BR),
            ("gzip;q=0.5, zstd;q=0.5", "br zstd gzip", ZSTD),
            ("*", "br zstd gzip", BR),
            ("*;q=0.001", "gzip", GZIP),
        ] {
            check(header, available, expected);
        }
    }

    #[test]
    fn the_highest_weight_wins() {
        for (header, available, expected) in [
            ("br;q=0.5, gzip", "br gzip", GZIP),
            ("br;q=0.8, zstd;q=0.9, gzip;q=0.7", "br zstd gzip", ZSTD),
            ("br;q=0.8, zstd;q=0.801", "br zstd", ZSTD),
            ("gzip;q=1.0, *;q=0.5", "br gzip", GZIP),
            ("gzip;q=0.5, *", "br gzip", BR),
            ("gzip;q=0, *", "gzip", Identity),
            ("br;q=0, gzip", "br", Identity),
        ] {
            check(header, available, expected);
        }
    }

    #[test]
    fn identity_is_the_fallback_unless_it_has_a_higher_weight() {
        for (header, expected) in [
            ("gzip;q=0.001", GZIP),
            ("gzip, identity", GZIP),
            ("gzip;q=0.5, identity;q=0.5", GZIP),
            ("gzip;q=0.5, identity;q=0.4", GZIP),
            ("gzip;q=0.5, identity;q=0.6", Identity),
            ("gzip;q=0.5, identity", Identity),
            ("gzip;q=0.5, *", Identity),
            ("identity", Identity),
            ("deflate", Identity),
            ("gzip;q=0", Identity),
        ] {
            check(header, "gzip", expected);
        }
    }

    #[test]
    fn nothing_is_acceptable_only_where_identity_is_refused() {
        for (header, available, expected) in [
            ("identity;q=0", "gzip", NotAcceptable),
            ("identity;q=0", "", NotAcceptable),
            ("identity;q=0.000, gzip", "", NotAcceptable),
            ("identity;q=0, gzip", "br", NotAcceptable),
            ("identity;q=0, gzip", "br gzip", GZIP),
            ("identity;q=0, *", "zstd", ZSTD),
            ("*;q=0", "br zstd gzip", NotAcceptable),
            ("*;q=0, gzip", "br zstd gzip", GZIP),
            ("*;q=0, gzip", "br", NotAcceptable),
            ("*;q=0, identity", "br zstd gzip", Identity),
            ("*;q=0, identity;q=0.1", "br", Identity),
            ("*;q=0, gzip;q=0.1, identity;q=0.1", "gzip", GZIP),
        ] {
            check(header, available, expected);
            let refused = AcceptEncoding::parse(Some(header.as_bytes())).refuses_identity();
            assert!(refused || expected != NotAcceptable, "{header}");
        }
    }

    #[test]
    fn names_are_case_insensitive_and_whitespace_is_optional() {
        for header in ["GZIP", "x-gzip", "X-GZip", "gzip;Q=1", " gzip\t;\tq=0.5 ", "deflate,gzip", ",,gzip ,"]
        {
            check(header, "gzip", GZIP);
        }
    }

    #[test]
    fn a_malformed_element_is_ignored() {
        for header in [
            "gzip;q=2",
            "gzip;q=-1",
            "gzip;q=0.0001",
            "gzip;q=",
            "gzip;q",
            "gzip;",
            "gzip;;q=1",
            "gzip;q=1;q=1",
            "gzip;level=9",
            "gzip;q = 1",
            "gzip br",
            "\"gzip\"",
            "gzip\0",
            "gzi",
            "gzipp",
            ";q=1",
        ] {
            check(header, "br gzip", Identity);
            check(&format!("{header}, br;q=0.1"), "br gzip", BR);
        }
        check("identity;q=nought", "gzip", Identity);
    }

    #[test]
    fn an_encoding_listed_twice_has_the_higher_weight() {
        for header in ["gzip;q=0, gzip", "gzip, gzip;q=0", "gzip;q=0, x-gzip", "gzip;q=0.1, br;q=0.5, gzip"] {
            check(header, "br gzip", GZIP);
        }
        check("identity;q=0, identity;q=0.1", "", Identity);
    }

    #[test]
    fn a_common_header_is_parsed_like_its_elements() {
        for header in ["gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "gzip"] {
            let header = header.as_bytes();
            assert_eq!(AcceptEncoding::parse(Some(header)), AcceptEncoding::parse_elements(header));
        }
    }

    #[test]
    fn the_best_encoding_is_the_one_that_would_be_chosen() {
        let accepted = AcceptEncoding::parse(Some(b"gzip, br;q=0.5"));
        assert_eq!(accepted.best(all), Some(Encoding::Gzip));
        assert_eq!(accepted.best(any_of("br zstd")), Some(Encoding::Br));
        assert_eq!(accepted.best(any_of("zstd")), None);
        assert_eq!(AcceptEncoding::parse(Some(b"identity;q=0")).best(all), None);
    }
}
