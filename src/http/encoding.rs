//! Content codings (RFC 9110 §8.4.1) and the negotiation of them by Accept-Encoding (§12.5.3).

use std::fmt;

use super::quality::{Quality, parse_weight};
use crate::http::header_grammar::trim;

/// A content coding that is known here, in the order in which they are preferred among equals.
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

    /// What the name of a compressed sidecar adds to that of its original.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// What an entity tag adds for bytes in this coding.
    pub(crate) const fn tag_suffix(self) -> &'static str {
        match self {
            Self::Br => "-br",
            Self::Zstd => "-zstd",
            Self::Gzip => "-gzip",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Br => 1,
            Self::Zstd => 2,
            Self::Gzip => 4,
        }
    }
}

/// A set of codings.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EncodingSet(u8);

impl EncodingSet {
    /// Not one.
    pub const NONE: Self = Self(0);
    /// Every coding that there is.
    pub const ALL: Self = Self::NONE.with(Encoding::Br).with(Encoding::Zstd).with(Encoding::Gzip);

    /// These and `coding`.
    #[must_use]
    pub const fn with(self, coding: Encoding) -> Self {
        Self(self.0 | coding.bit())
    }

    /// These but `coding`.
    #[must_use]
    pub const fn without(self, coding: Encoding) -> Self {
        Self(self.0 & !coding.bit())
    }

    /// Whether `coding` is among them.
    pub const fn has(self, coding: Encoding) -> bool {
        self.0 & coding.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, the most preferred first.
    pub fn iter(self) -> impl Iterator<Item = Encoding> {
        Encoding::ALL.into_iter().filter(move |&coding| self.has(coding))
    }
}

impl FromIterator<Encoding> for EncodingSet {
    fn from_iter<I: IntoIterator<Item = Encoding>>(codings: I) -> Self {
        codings.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for EncodingSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How much a client likes each coding, and identity, which is no coding at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptEncoding {
    br: Quality,
    zstd: Quality,
    gzip: Quality,
    /// `None` where the field says nothing of it, neither by name nor by `*`: acceptable, and liked least.
    identity: Option<Quality>,
}

/// In what form a representation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingChoice {
    /// As it is.
    Identity,
    /// In this coding.
    Coded(Encoding),
    /// Not at all (406): identity is refused, and so is every coding that is to be had.
    NotAcceptable,
}

impl AcceptEncoding {
    /// A client that names no coding: it takes identity.
    ///
    /// An absent field would allow any coding, yet whoever sends none is seldom ready to decode.
    pub const IDENTITY: Self =
        Self { br: Quality::ZERO, zstd: Quality::ZERO, gzip: Quality::ZERO, identity: None };

    /// Parses an Accept-Encoding field, whose lines, if there are several, are joined with `, `.
    ///
    /// Names are in any case, `x-gzip` is gzip, and unknown ones are skipped. A malformed element counts as
    /// absent. What is listed twice has the higher weight: somewhere the client said that it can decode it.
    /// `*` stands for whatever is not listed, identity included. Nothing is allocated.
    pub fn parse(field: Option<&[u8]>) -> Self {
        let Some(field) = field else { return Self::IDENTITY };
        match field {
            // What browsers and the commonest clients send.
            b"gzip, deflate, br, zstd" => Self { br: Quality::ONE, zstd: Quality::ONE, ..Self::GZIP },
            b"gzip, deflate, br" => Self { br: Quality::ONE, ..Self::GZIP },
            b"gzip" | b"gzip, deflate" => Self::GZIP,
            _ => Listed::parse(field).resolve(),
        }
    }

    /// Chooses among identity and the codings that are `available`.
    ///
    /// The highest weight wins, and among equals the order of [`Encoding`]. An acceptable coding yields only to
    /// an identity to which the field gives a higher weight, by name or by `*`.
    pub fn choose(&self, available: EncodingSet) -> EncodingChoice {
        let mut best = (Quality::ZERO, None);
        for coding in available.iter() {
            let quality = self.quality(coding);
            if quality > best.0 {
                best = (quality, Some(coding));
            }
        }
        match (best, self.identity) {
            ((quality, Some(coding)), identity) if identity.is_none_or(|identity| identity <= quality) => {
                EncodingChoice::Coded(coding)
            }
            (_, Some(Quality::ZERO)) => EncodingChoice::NotAcceptable,
            _ => EncodingChoice::Identity,
        }
    }

    /// The coding that the client would get if `of` were available; `None` where it would get none.
    pub fn best(&self, of: EncodingSet) -> Option<Encoding> {
        match self.choose(of) {
            EncodingChoice::Coded(coding) => Some(coding),
            EncodingChoice::Identity | EncodingChoice::NotAcceptable => None,
        }
    }

    /// Whether the client refuses to be sent a representation as it is.
    pub fn refuses_identity(&self) -> bool {
        self.identity == Some(Quality::ZERO)
    }

    /// Whether the client takes this coding.
    pub fn accepts(&self, coding: Encoding) -> bool {
        self.quality(coding) > Quality::ZERO
    }

    fn quality(&self, coding: Encoding) -> Quality {
        match coding {
            Encoding::Br => self.br,
            Encoding::Zstd => self.zstd,
            Encoding::Gzip => self.gzip,
        }
    }

    const GZIP: Self = Self { gzip: Quality::ONE, ..Self::IDENTITY };
}

/// The weights that a field gives by name.
#[derive(Default)]
struct Listed {
    br: Option<Quality>,
    zstd: Option<Quality>,
    gzip: Option<Quality>,
    identity: Option<Quality>,
    any_other: Option<Quality>,
}

impl Listed {
    fn parse(field: &[u8]) -> Self {
        let mut listed = Self::default();
        for element in field.split(|&byte| byte == b',') {
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
            _ if is("gzip") || is("x-gzip") => Some(&mut self.gzip),
            _ if is("br") => Some(&mut self.br),
            _ if is("zstd") => Some(&mut self.zstd),
            _ if is("identity") => Some(&mut self.identity),
            _ => None,
        }
    }

    fn resolve(self) -> AcceptEncoding {
        let coding = |listed: Option<Quality>| listed.or(self.any_other).unwrap_or(Quality::ZERO);
        AcceptEncoding {
            br: coding(self.br),
            zstd: coding(self.zstd),
            gzip: coding(self.gzip),
            identity: self.identity.or(self.any_other),
        }
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

    const BR: EncodingChoice = EncodingChoice::Coded(Encoding::Br);
    const ZSTD: EncodingChoice = EncodingChoice::Coded(Encoding::Zstd);
    const GZIP: EncodingChoice = EncodingChoice::Coded(Encoding::Gzip);

    fn set(names: &str) -> EncodingSet {
        Encoding::ALL
            .into_iter()
            .filter(|coding| names.split(' ').any(|name| name == coding.token()))
            .collect()
    }

    fn check(field: &str, available: &str, expected: EncodingChoice) {
        let accepted = AcceptEncoding::parse(Some(field.as_bytes()));
        assert_eq!(accepted.choose(set(available)), expected, "{field:?} of {available:?}");
    }

    #[test]
    fn a_set_has_what_was_put_into_it() {
        assert!(EncodingSet::NONE.is_empty());
        assert_eq!(EncodingSet::NONE.with(Encoding::Gzip).with(Encoding::Gzip), set("gzip"));
        assert_eq!(set("gzip br").iter().collect::<Vec<_>>(), [Encoding::Br, Encoding::Gzip]);
        assert_eq!(EncodingSet::ALL.iter().collect::<Vec<_>>(), Encoding::ALL);
        assert_eq!(EncodingSet::ALL.without(Encoding::Zstd), set("br gzip"));
        assert!(set("zstd").has(Encoding::Zstd) && !set("zstd").has(Encoding::Br));
    }

    #[test]
    fn without_a_field_identity_is_sent() {
        let absent = AcceptEncoding::parse(None);
        assert_eq!(absent.choose(EncodingSet::ALL), Identity);
        assert_eq!(absent.choose(EncodingSet::NONE), Identity);
        assert_eq!(absent.best(EncodingSet::ALL), None);
    }

    #[test]
    fn an_empty_field_takes_identity_alone() {
        for field in ["", " ", ",", " ,\t,"] {
            check(field, "br zstd gzip", Identity);
        }
    }

    #[test]
    fn the_servers_preference_decides_among_equals() {
        for (field, available, expected) in [
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
            check(field, available, expected);
        }
    }

    #[test]
    fn the_highest_weight_wins() {
        for (field, available, expected) in [
            ("br;q=0.5, gzip", "br gzip", GZIP),
            ("br;q=0.8, zstd;q=0.9, gzip;q=0.7", "br zstd gzip", ZSTD),
            ("br;q=0.8, zstd;q=0.801", "br zstd", ZSTD),
            ("gzip;q=1.0, *;q=0.5", "br gzip", GZIP),
            ("gzip;q=0.5, *", "br gzip", BR),
            ("gzip;q=0, *", "gzip", Identity),
            ("br;q=0, gzip", "br", Identity),
        ] {
            check(field, available, expected);
        }
    }

    #[test]
    fn identity_is_the_fallback_unless_it_is_liked_better() {
        for (field, expected) in [
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
            check(field, "gzip", expected);
        }
    }

    #[test]
    fn nothing_is_acceptable_only_where_identity_is_refused() {
        for (field, available, expected) in [
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
            check(field, available, expected);
            let refused = AcceptEncoding::parse(Some(field.as_bytes())).refuses_identity();
            assert!(refused || expected != NotAcceptable, "{field}");
        }
    }

    #[test]
    fn names_are_in_any_case_and_whitespace_is_optional() {
        for field in ["GZIP", "x-gzip", "X-GZip", "gzip;Q=1", " gzip\t;\tq=0.5 ", "deflate,gzip", ",,gzip ,"]
        {
            check(field, "gzip", GZIP);
        }
    }

    #[test]
    fn a_malformed_element_is_ignored() {
        for field in [
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
            check(field, "br gzip", Identity);
            check(&format!("{field}, br;q=0.1"), "br gzip", BR);
        }
        check("identity;q=nought", "gzip", Identity);
    }

    #[test]
    fn what_is_listed_twice_has_the_higher_weight() {
        for field in ["gzip;q=0, gzip", "gzip, gzip;q=0", "gzip;q=0, x-gzip", "gzip;q=0.1, br;q=0.5, gzip"] {
            check(field, "br gzip", GZIP);
        }
        check("identity;q=0, identity;q=0.1", "", Identity);
    }

    #[test]
    fn a_usual_field_means_what_its_elements_mean() {
        for field in ["gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "gzip"] {
            let field = field.as_bytes();
            assert_eq!(AcceptEncoding::parse(Some(field)), Listed::parse(field).resolve());
        }
    }

    #[test]
    fn the_best_is_what_would_be_chosen() {
        let accepted = AcceptEncoding::parse(Some(b"gzip, br;q=0.5"));
        assert_eq!(accepted.best(EncodingSet::ALL), Some(Encoding::Gzip));
        assert_eq!(accepted.best(set("br zstd")), Some(Encoding::Br));
        assert_eq!(accepted.best(set("zstd")), None);
        assert_eq!(AcceptEncoding::parse(Some(b"identity;q=0")).best(EncodingSet::ALL), None);
    }
}
