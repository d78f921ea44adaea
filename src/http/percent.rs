//! Percent-encoding (RFC 3986 §2.1): the characters that are encoded in each place, and whether escapes are valid.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC};

/// Outside a path: all but unreserved characters, sub-delims, `:`, `@` and the slash (RFC 3986 §3.3).
pub(super) const OUTSIDE_PATH: &AsciiSet = &without(NON_ALPHANUMERIC, b"-._~!$&'()*+,;=:@/");

/// Outside a value within a query or a fragment: all but unreserved characters.
pub(super) const OUTSIDE_VALUE: &AsciiSet = &without(NON_ALPHANUMERIC, b"-._~");

/// Outside `attr-char` (RFC 8187 §3.2.1).
pub(super) const OUTSIDE_ATTR_CHAR: &AsciiSet = &without(NON_ALPHANUMERIC, b"!#$&+-.^_`|~");

/// Characters to encode in a query in a header. It is encoded already, so `%` is kept.
pub(super) const OUTSIDE_QUERY: &AsciiSet = &with(CONTROLS.add(b' '), b"\"#<>");

/// Characters to encode in a URL that an operator wrote; its escapes are kept.
pub(super) const OUTSIDE_URL: &AsciiSet = &with(CONTROLS.add(b' '), b"\"<>\\^`{|}");

/// Whether two hexadecimal digits follow each `%`.
pub(super) fn has_valid_escapes(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|at| {
        let digits = text.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

const fn with(mut set: AsciiSet, mut bytes: &[u8]) -> AsciiSet {
    while let [first, rest @ ..] = bytes {
        set = set.add(*first);
        bytes = rest;
    }
    set
}

const fn without(set: &AsciiSet, bytes: &[u8]) -> AsciiSet {
    with(set.complement(), bytes).complement()
}
