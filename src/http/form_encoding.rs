//! Form encoding of queries (WHATWG URL, `application/x-www-form-urlencoded`).

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use percent_encoding::percent_decode;

/// The names and values of a query, still encoded. A pair without `=` is a name with an empty value.
pub(crate) fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let end = memchr(b'=', pair).unwrap_or(pair.len());
        (pair.get(..end).unwrap_or_default(), pair.get(end + 1..).unwrap_or_default())
    })
}

/// The first value of each of these names in a query, still encoded.
pub(crate) fn first_values<'a, const N: usize>(query: &'a [u8], names: [&str; N]) -> [Option<&'a [u8]>; N] {
    let mut values = [None; N];
    for (name, value) in pairs(query) {
        let name = decode(name);
        if let Some(at) = names.iter().position(|known| known.as_bytes() == &*name) {
            values[at].get_or_insert(value);
        }
    }
    values
}

/// Decodes a name or a value once: `+` is a space, and a `%` without two digits is kept.
pub(crate) fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr2(b'%', b'+', text).is_none() {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_names_and_values() {
        for (query, expected) in [
            ("", [].as_slice()),
            ("&&", &[]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("a=b=c", &[("a", "b=c")]),
            ("=b", &[("", "b")]),
            ("a=1&&b=2&a=3&", &[("a", "1"), ("b", "2"), ("a", "3")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(a, b)| (a.as_bytes(), b.as_bytes())).collect();
            assert_eq!(pairs(query.as_bytes()).collect::<Vec<_>>(), expected, "{query}");
        }
    }

    #[test]
    fn an_escape_is_decoded_once() {
        for (text, expected) in [
            ("plain", b"plain".as_slice()),
            ("a+b%20c", b"a b c"),
            ("%2B+%2b", b"+ +"),
            ("%2541", b"%41"),
            ("%C3%A9%ff%00", b"\xC3\xA9\xFF\0"),
            ("%", b"%"),
            ("100%&%4&%zz", b"100%&%4&%zz"),
        ] {
            assert_eq!(decode(text.as_bytes()), expected, "{text}");
        }
    }
}
