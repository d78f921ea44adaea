//! `Content-Encoding` and `Accept-Encoding` (RFC 9110 §8.4.1, §12.5.3).

use std::fmt;

use super::quality::{Quality, parse_weight};
use crate::http::header_grammar::trim;

/// A supported content encoding, in the order of preference among equal weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878), in windows of at most 8 MiB (RFC 9659).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Encoding {
    /// All of them, the most preferred first.
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// Its name in Accept-Encoding and Content-Encoding.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The suffix of the file name of a compressed sidecar.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// The suffix of an entity tag for this encoding.
    pub(crate) const fn tag_suffix(self) -> &'static str {
        match self {
            Self::Br => "-br",
            Self::Zstd => "-zstd",
            Self::Gzip => "-gzip",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of encodings.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EncodingSet(u8);

impl EncodingSet {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// All encodings.
    pub const ALL: Self = Self::NONE.with(Encoding::Br).with(Encoding::Zstd).with(Encoding::Gzip);

    /// The set with `encoding`.
    #[must_use]
    pub const fn with(self, encoding: Encoding) -> Self {
        Self(self.0 | encoding.bit())
    }

    /// The set without `encoding`.
    #[must_use]
    pub const fn without(self, encoding: Encoding) -> Self {
        Self(self.0 & !encoding.bit())
    }

    /// Whether `encoding` is in the set.
    pub const fn has(self, encoding: Encoding) -> bool {
        self.0 & encoding.bit() != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The encodings, the most preferred first.
    pub fn iter(self) -> impl Iterator<Item = Encoding> {
        Encoding::ALL.into_iter().filter(move |&encoding| self.has(encoding))
    }
}

impl FromIterator<Encoding> for EncodingSet {
    fn from_iter<I: IntoIterator<Item = Encoding>>(encodings: I) -> Self {
        encodings.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for EncodingSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
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
        let Some(header) = header else { return Self::IDENTITY };
        match header {
            // The headers of browsers and the most common clients.
            b"gzip, deflate, br, zstd" => Self { weights: [Quality::ONE; 3], identity: None },
            b"gzip, deflate, br" => {
                Self { weights: [Quality::ONE, Quality::ZERO, Quality::ONE], identity: None }
            }
            b"gzip" | b"gzip, deflate" => {
                Self { weights: [Quality::ZERO, Quality::ZERO, Quality::ONE], identity: None }
            }
            _ => Listed::parse(header).resolve(),
        }
    }

    /// Chooses among identity and the `available` encodings.
    ///
    /// The highest weight wins, and among equal weights the order of [`Encoding`]. Identity is chosen before an acceptable
    /// encoding only if the header gives it a higher weight, by name or by `*`.
    pub fn choose(&self, available: EncodingSet) -> EncodingChoice {
        let mut best = (Quality::ZERO, None);
        for encoding in available.iter() {
            let quality = self.quality(encoding);
            if quality > best.0 {
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

    /// The encoding that is chosen if `of` are available; `None` if identity or nothing is.
    pub fn best(&self, of: EncodingSet) -> Option<Encoding> {
        match self.choose(of) {
            EncodingChoice::Encoded(encoding) => Some(encoding),
            EncodingChoice::Identity | EncodingChoice::NotAcceptable => None,
        }
    }

    /// Whether the client refuses a representation without encoding.
    pub fn refuses_identity(&self) -> bool {
        self.identity == Some(Quality::ZERO)
    }

    fn quality(&self, encoding: Encoding) -> Quality {
        self.weights[encoding as usize]
    }
}

/// The weights in a header by name.
#[derive(Default)]
struct Listed {
    weights: [Option<Quality>; 3],
    identity: Option<Quality>,
    any_other: Option<Quality>,
}

impl Listed {
    fn parse(header: &[u8]) -> Self {
        let mut listed = Self::default();
        for element in header.split(|&byte| byte == b',') {
            if let Some((name, quality)) = parse_element(element)
                && let Some(slot) = listed.slot(name)
            {
                // `None` is less than any weight.
                *slot = (*slot).max(Some(quality));
            }
        }
        listed
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<Quality>> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name {
            b"*" => Some(&mut self.any_other),
            _ if is("identity") => Some(&mut self.identity),
            _ if is("x-gzip") => Some(&mut self.weights[Encoding::Gzip as usize]),
            _ => {
                let listed = Encoding::ALL.into_iter().find(|encoding| is(encoding.token()))?;
                Some(&mut self.weights[listed as usize])
            }
        }
    }

    fn resolve(self) -> AcceptEncoding {
        let weight = |listed: Option<Quality>| listed.or(self.any_other).unwrap_or(Quality::ZERO);
        AcceptEncoding { weights: self.weights.map(weight), identity: self.identity.or(self.any_other) }
    }
}

/// One element: a name and its weight.
fn parse_element(element: &[u8]) -> Option<(&[u8], Quality)> {
    match element.iter().position(|&byte| byte == b';') {
        None => Some((trim(element), Quality::ONE)),
        Some(at) => {
            let (name, parameter) = element.split_at_checked(at)?;
            Some((trim(name), parse_weight(parameter.get(1..)?)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EncodingChoice::{Identity, NotAcceptable};
    use super::*;

    const BR: EncodingChoice = EncodingChoice::Encoded(Encoding::Br);
    const ZSTD: EncodingChoice = EncodingChoice::Encoded(Encoding::Zstd);
    const GZIP: EncodingChoice = EncodingChoice::Encoded(Encoding::Gzip);

    fn set(names: &str) -> EncodingSet {
        Encoding::ALL
            .into_iter()
            .filter(|encoding| names.split(' ').any(|name| name == encoding.token()))
            .collect()
    }

    fn check(header: &str, available: &str, expected: EncodingChoice) {
        let accepted = AcceptEncoding::parse(Some(header.as_bytes()));
        assert_eq!(accepted.choose(set(available)), expected, "{header:?} of {available:?}");
    }

    #[test]
    fn a_set_has_the_encodings_that_were_added() {
        assert!(EncodingSet::NONE.is_empty());
        assert_eq!(EncodingSet::NONE.with(Encoding::Gzip).with(Encoding::Gzip), set("gzip"));
        assert_eq!(set("gzip br").iter().collect::<Vec<_>>(), [Encoding::Br, Encoding::Gzip]);
        assert_eq!(EncodingSet::ALL.iter().collect::<Vec<_>>(), Encoding::ALL);
        assert_eq!(EncodingSet::ALL.without(Encoding::Zstd), set("br gzip"));
        assert!(set("zstd").has(Encoding::Zstd) && !set("zstd").has(Encoding::Br));
    }

    #[test]
    fn without_the_header_identity_is_sent() {
        let absent = AcceptEncoding::parse(None);
        assert_eq!(absent.choose(EncodingSet::ALL), Identity);
        assert_eq!(absent.choose(EncodingSet::NONE), Identity);
        assert_eq!(absent.best(EncodingSet::ALL), None);
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
            assert_eq!(AcceptEncoding::parse(Some(header)), Listed::parse(header).resolve());
        }
    }

    #[test]
    fn the_best_encoding_is_the_one_that_would_be_chosen() {
        let accepted = AcceptEncoding::parse(Some(b"gzip, br;q=0.5"));
        assert_eq!(accepted.best(EncodingSet::ALL), Some(Encoding::Gzip));
        assert_eq!(accepted.best(set("br zstd")), Some(Encoding::Br));
        assert_eq!(accepted.best(set("zstd")), None);
        assert_eq!(AcceptEncoding::parse(Some(b"identity;q=0")).best(EncodingSet::ALL), None);
    }
}
