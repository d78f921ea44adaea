//! `ETag`, `If-Match` and `If-None-Match` (RFC 9110 §8.8.3, §13.1.1, §13.1.2).

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

use super::digest::hexadecimal;
use super::encoding::Encoding;

/// An entity tag as in headers: with quotes, and `W/` in front of a weak one.
///
/// There is no `==`: callers choose between the two comparisons (RFC 9110 §8.8.3.2).
#[derive(Clone)]
pub struct EntityTag<'a> {
    bytes: Cow<'a, [u8]>,
}

impl<'a> EntityTag<'a> {
    /// Parses a header value that is one entity tag.
    pub fn parse(header: &'a [u8]) -> Option<EntityTag<'a>> {
        match split_tag(header)? {
            (bytes, []) => Some(EntityTag { bytes: Cow::Borrowed(bytes) }),
            _ => None,
        }
    }

    /// A strong tag of three numbers in hexadecimal digits.
    pub(crate) fn strong_hex(
        [first, second, third]: [u64; 3],
        encoding: Option<Encoding>,
    ) -> EntityTag<'static> {
        Self::strong(&format!("{first:x}-{second:x}-{third:016x}"), encoding)
    }

    /// A strong tag of the first half of a checksum of at least 16 bytes.
    pub(crate) fn strong_content(digest: &[u8], encoding: Option<Encoding>) -> EntityTag<'static> {
        Self::strong(&hexadecimal(digest.get(..16).unwrap_or(digest)), encoding)
    }

    /// A strong tag of hexadecimal digits and hyphens, and the name of the encoding of the bytes.
    fn strong(opaque: &str, encoding: Option<Encoding>) -> EntityTag<'static> {
        let (hyphen, name) = encoding.map_or(("", ""), |encoding| ("-", encoding.name()));
        EntityTag { bytes: Cow::Owned(format!("\"{opaque}{hyphen}{name}\"").into_bytes()) }
    }

    /// The same tag as a weak one.
    pub(crate) fn weakened(&self) -> EntityTag<'static> {
        EntityTag { bytes: Cow::Owned([WEAK, self.quoted()].concat()) }
    }

    /// The tag as in headers.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the tag promises only semantic equivalence.
    pub fn is_weak(&self) -> bool {
        self.bytes.starts_with(WEAK)
    }

    /// Strong comparison (RFC 9110 §8.8.3.2): true if the tags are equal and neither is weak.
    pub fn strong_eq(&self, other: &EntityTag<'_>) -> bool {
        !self.is_weak() && self.bytes == other.bytes
    }

    /// Weak comparison (RFC 9110 §8.8.3.2): true if the tags are equal apart from `W/`.
    pub fn weak_eq(&self, other: &EntityTag<'_>) -> bool {
        self.quoted() == other.quoted()
    }

    fn quoted(&self) -> &[u8] {
        self.bytes.strip_prefix(WEAK).unwrap_or(&self.bytes)
    }
}

/// Whether an If-Match header lists the tag of a representation that exists (RFC 9110 §13.1.1): strong
/// comparison. A malformed list matches nothing.
pub fn if_match_names(header: &[u8], tag: &EntityTag<'_>) -> bool {
    names(header, |listed| listed.strong_eq(tag))
}

/// Whether an If-None-Match header lists the tag of a representation that exists (RFC 9110 §13.1.2): weak
/// comparison. A malformed list matches nothing.
pub fn if_none_match_names(header: &[u8], tag: &EntityTag<'_>) -> bool {
    // Browsers send back our tag alone.
    header == tag.as_bytes() || names(header, |listed| listed.weak_eq(tag))
}

fn names(header: &[u8], is_same: impl Fn(&EntityTag<'_>) -> bool) -> bool {
    if header == b"*" {
        return true;
    }
    let mut rest = header;
    let mut named = false;
    loop {
        rest = skip_empty_elements(rest);
        if rest.is_empty() {
            return named;
        }
        let Some((tag, tail)) = split_tag(rest) else { return false };
        named |= is_same(&EntityTag { bytes: Cow::Borrowed(tag) });
        rest = tail.trim_ascii_start();
        if !matches!(rest, [] | [b',', ..]) {
            return false;
        }
    }
}

/// Splits the tag at the start of `text` from the rest. A comma within the quotes belongs to the tag.
fn split_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = text.strip_prefix(WEAK).unwrap_or(text);
    let opaque = quoted.strip_prefix(b"\"")?;
    let opaque_length = memchr(b'"', opaque)?;
    if !opaque.get(..opaque_length)?.iter().copied().all(is_etagc) {
        return None;
    }
    let length = (text.len() - opaque.len()) + opaque_length + 1;
    text.split_at_checked(length)
}

/// `etagc`: any visible character but the quote, and obs-text.
fn is_etagc(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7E | 0x80..)
}

fn skip_empty_elements(mut text: &[u8]) -> &[u8] {
    while let [b',' | b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

const WEAK: &[u8] = b"W/";

impl fmt::Debug for EntityTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityTag({})", self.bytes.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> EntityTag<'_> {
        EntityTag::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_tag_is_quoted_and_perhaps_weak() {
        for (text, weak) in
            [("\"a\"", false), ("W/\"a\"", true), ("\"\"", false), ("\"a,b\"", false), ("\"\u{e9}\"", false)]
        {
            assert_eq!(tag(text).is_weak(), weak, "{text}");
            assert_eq!(tag(text).as_bytes(), text.as_bytes());
        }
        assert!(EntityTag::parse(b"\"\xFF\"").is_some());
    }

    #[test]
    fn anything_else_is_not_a_tag() {
        for text in [
            "",
            "a",
            "\"",
            "\"a",
            "a\"",
            "w/\"a\"",
            "W/",
            "W /\"a\"",
            "\"a b\"",
            "\"a\"b",
            "\"a\" ",
            " \"a\"",
            "\"\x7f\"",
            "\"a\"b\"",
            "\"a\r\n\"",
        ] {
            assert!(EntityTag::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_strong_tag_is_digits_and_the_name_of_the_encoding() {
        let tag = |encoding| EntityTag::strong_hex([0x1f, 2, 3], encoding);
        assert_eq!(tag(None).as_bytes(), b"\"1f-2-0000000000000003\"");
        assert_eq!(tag(Some(Encoding::Gzip)).as_bytes(), b"\"1f-2-0000000000000003-gzip\"");
        let content = EntityTag::strong_content(&[0xab; 32], Some(Encoding::Br));
        assert_eq!(content.as_bytes(), b"\"abababababababababababababababab-br\"");
    }

    #[test]
    fn comparisons_are_those_of_the_table_in_rfc_9110() {
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "W/\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
            ("\"1\"", "\"2\"", false, false),
        ] {
            assert_eq!(tag(a).strong_eq(&tag(b)), strong, "{a} {b}");
            assert_eq!(tag(a).weak_eq(&tag(b)), weak, "{a} {b}");
        }
    }

    #[test]
    fn a_list_matches_its_tags() {
        for (header, strongly, weakly) in [
            ("*", true, true),
            ("\"a\"", true, true),
            ("W/\"a\"", false, true),
            ("\"b\", \"a\"", true, true),
            ("\"a\",\"b\"", true, true),
            (" ,, \"b\" ,\t, \"a\" ,", true, true),
            ("\"b\"", false, false),
            ("\"b,a\"", false, false),
            ("\"x,\", \"a\"", true, true),
            ("", false, false),
            (",", false, false),
        ] {
            assert_eq!(if_match_names(header.as_bytes(), &tag("\"a\"")), strongly, "{header}");
            assert_eq!(if_none_match_names(header.as_bytes(), &tag("\"a\"")), weakly, "{header}");
        }
    }

    #[test]
    fn a_malformed_list_matches_nothing() {
        for header in [
            "a",
            "\"a\" \"a\"",
            "\"a\", b",
            "b, \"a\"",
            "\"a\", *",
            "*, \"a\"",
            "**",
            "\"a\", \"b",
            "\"a\"; \"b\"",
            "w/\"a\"",
        ] {
            assert!(!if_match_names(header.as_bytes(), &tag("\"a\"")), "{header}");
            assert!(!if_none_match_names(header.as_bytes(), &tag("\"a\"")), "{header}");
        }
    }
}
