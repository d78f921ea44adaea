//! `Cache-Control` (RFC 9111 §5.2.2): the default by file name, and the value for protected paths.

use std::sync::LazyLock;

use regex::bytes::{RegexSet, RegexSetBuilder};

use crate::http::header_grammar::split_outside_quotes;
use crate::http::media_type::{essence, split_extension};
use crate::http::target::last_segment;

/// For a file whose name contains a hash of its content: cached for a year without revalidation (RFC 8246).
pub const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// For any other file: cached and revalidated for each use.
///
/// Without a hash the name does not tell how long the content stays the same. Revalidation costs a round trip with a 304; a
/// wrong guess leaves users with an old file that the server cannot replace.
pub const REVALIDATE: &str = "no-cache";

/// The default Cache-Control of the file `name`, whose Content-Type is `media_type`.
///
/// It is [`IMMUTABLE`] for a name with a content hash as build tools write it, and otherwise [`REVALIDATE`]. HTML is always
/// revalidated, since people link to it and it names the hashed files. Of a path the last segment counts.
///
/// A missed hash costs a round trip, while a file whose ordinary name is taken for a hash stays old for a year. So a hash is
/// recognised only if it is everything between a separator (`.`, `-` or `_`) and the extensions (`.js`, `.min.js`, `.module.css`, `.js.map`), and is:
///
/// - 8 to 64 hexadecimal digits in one case, a letter among them. Digits alone are a date or a number, as are
///   a date with a letter or two behind it (`20240101a`) and a word with a number behind it (`facade01`). It may be
///   all of the name from 16 digits on.
/// - 8 letters and digits that fall into at least 5 words, where a capitalised word, a word in one case and a
///   number are one each: `BkQz9d2x` has six, `JohnDoe1` three. Only for what bundlers write (scripts, styles,
///   their maps, images, fonts, WebAssembly), and in capitals alone only for scripts and styles: a picture's
///   name may be the number of a product.
///
/// An identifier does not change with the content, so a UUID, with hyphens or without, and 24 hexadecimal digits (the
/// identifiers of a well-known database) are not hashes.
pub fn default_for(name: &[u8], media_type: &str) -> &'static str {
    let is_html = is_one_of(media_type, &["text/html", "application/xhtml+xml"]);
    match !is_html && has_content_hash(last_segment(name), media_type) {
        true => IMMUTABLE,
        false => REVALIDATE,
    }
}

/// The value for a protected path: `given` with `private` and without directives for shared caches (`public`, `s-maxage`).
/// `None` counts as empty. Directives keep their order.
pub fn private(given: Option<&str>) -> String {
    let mut value = "private".to_owned();
    for directive in directives(given.unwrap_or_default()) {
        let name = directive.split('=').next().unwrap_or_default().trim();
        let is_left_out = SHARED.iter().any(|shared| name.eq_ignore_ascii_case(shared));
        if !is_left_out {
            value.push_str(", ");
            value.push_str(directive);
        }
    }
    value
}

/// The directives of a value. A comma within quotes does not separate them.
fn directives(value: &str) -> impl Iterator<Item = &str> {
    let parts = split_outside_quotes(value.as_bytes(), b',').filter_map(|part| str::from_utf8(part).ok());
    parts.map(str::trim).filter(|directive| !directive.is_empty())
}

/// Directives for shared caches, and `private` in any of its forms.
const SHARED: &[&str] = &["public", "private", "s-maxage", "proxy-revalidate"];

fn has_content_hash(file_name: &[u8], media_type: &str) -> bool {
    let Some(stem) = without_extensions(file_name) else { return false };
    if IDENTIFIERS_AND_WORDS.is_match(stem) {
        return false;
    }
    match stem.iter().rposition(|byte| SEPARATORS.contains(byte)) {
        Some(at) => {
            let part = stem.get(at + 1..).unwrap_or_default();
            at > 0 && (is_hexadecimal_hash(part) || is_bundlers_hash(part, media_type))
        }
        None => stem.len() >= NAMELESS_LENGTH_MIN && is_hexadecimal_hash(stem),
    }
}

/// The name without its extension and those that may stand before it; `None` if it has no extension.
fn without_extensions(file_name: &[u8]) -> Option<&[u8]> {
    let (mut stem, _) = split_extension(file_name)?;
    while let Some((shorter, inner)) = split_extension(stem)
        && INNER_EXTENSIONS.contains(&inner)
    {
        stem = shorter;
    }
    Some(stem)
}

fn is_hexadecimal_hash(part: &[u8]) -> bool {
    let has_capitals = part.iter().any(u8::is_ascii_uppercase);
    let has_small = part.iter().any(u8::is_ascii_lowercase);
    HEX_LENGTHS.contains(&part.len())
        && part.iter().all(u8::is_ascii_hexdigit)
        && has_capitals != has_small
        && !IDENTIFIERS_AND_WORDS.is_match(part)
}

fn is_bundlers_hash(part: &[u8], media_type: &str) -> bool {
    let in_capitals = !part.iter().any(u8::is_ascii_lowercase);
    part.len() == BUNDLERS_LENGTH
        && part.iter().all(u8::is_ascii_alphanumeric)
        && part.iter().any(u8::is_ascii_uppercase)
        && words(part) >= WORDS_MIN
        && (is_one_of(media_type, SCRIPTS_AND_STYLES) || (!in_capitals && is_one_of(media_type, OTHERS)))
}

/// The number of words and numbers in a part.
fn words(part: &[u8]) -> usize {
    let starts = part.windows(2).filter(|pair| match pair {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_lowercase() => false,
        [a, b] => kind(*a) != kind(*b),
        _ => false,
    });
    // Of `ABc` the last capital begins a word.
    let acronyms = part.windows(3).filter(|three| {
        matches!(three, [a, b, c] if a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_lowercase())
    });
    usize::from(!part.is_empty()) + starts.count() + acronyms.count()
}

fn kind(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        _ => 2,
    }
}

/// Whether a Content-Type is one of these media types, or of one of these kinds (`image/`).
fn is_one_of(media_type: &str, types: &[&str]) -> bool {
    let essence = essence(media_type);
    types.iter().any(|known| match known.ends_with('/') {
        true => essence.get(..known.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(known)),
        false => essence.eq_ignore_ascii_case(known),
    })
}

const SEPARATORS: &[u8] = b".-_";

const HEX_LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;

/// Names and parts of names that are not hashes, although their digits could be hexadecimal.
static IDENTIFIERS_AND_WORDS: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = [
        // A day, perhaps with a time, and one or two letters after it, as in the second issue of that day.
        "^(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])[0-9]*[a-z]{0,2}$",
        // An English word of the letters from a to f and a number after it; those of fewer than four letters begin too many
        // hashes.
        "^(abed|acceded?|aced|added|babe|bade|beaded|bead|beef|cafe|ceded?|dead|deaf|decade|decaf|deed|defaced?|ebbed)[0-9]*$",
        "^(effaced?|facade|faced?|faded?|feed)[0-9]*$",
        // A UUID at the end; one without hyphens, with its version and variant where a random one has them (RFC 9562 §5.4).
        "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        "^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$",
        // An identifier of a well-known database.
        "^[0-9a-f]{24}$",
    ];
    let set = RegexSetBuilder::new(patterns).unicode(false).case_insensitive(true).build();
    // The tests show that they are valid.
    set.unwrap_or_else(|_| RegexSet::empty())
});

/// Minimum number of digits of a hash that is the whole name.
const NAMELESS_LENGTH_MIN: usize = 16;

const BUNDLERS_LENGTH: usize = 8;

const WORDS_MIN: usize = 5;

/// Name parts allowed between a hash and the last extension.
const INNER_EXTENSIONS: &[&[u8]] =
    &[b"js", b"mjs", b"cjs", b"css", b"min", b"module", b"chunk", b"bundle", b"LICENSE"];

const SCRIPTS_AND_STYLES: &[&str] = &["text/javascript", "application/javascript", "text/css"];

/// Other media types that bundlers write, or their beginnings.
const OTHERS: &[&str] = &["application/json", "application/wasm", "image/", "font/"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::media_type::media_type;

    fn check(name: &str, expected: &str) {
        assert_eq!(default_for(name.as_bytes(), &media_type(name.as_bytes())), expected, "{name}");
    }

    #[test]
    fn a_private_value_allows_no_shared_cache() {
        for (given, expected) in [
            (None, "private"),
            (Some(""), "private"),
            (Some("public, max-age=31536000, immutable"), "private, max-age=31536000, immutable"),
            (Some("no-cache"), "private, no-cache"),
            (Some("no-store"), "private, no-store"),
            (Some("Public,S-MaxAge=60 , max-age=5"), "private, max-age=5"),
            (Some("private"), "private"),
            (Some("private=\"a, public\", max-age=1"), "private, max-age=1"),
            (Some("x=\"a, public\", proxy-revalidate"), "private, x=\"a, public\""),
            (Some("x=\"\\\"\", public"), "private, x=\"\\\"\""),
            (Some(",, ,"), "private"),
        ] {
            assert_eq!(private(given), expected, "{given:?}");
            assert_eq!(private(Some(expected)), expected);
        }
    }

    #[test]
    fn a_name_with_a_hexadecimal_hash_is_immutable() {
        for name in [
            "app.3f9a1c0b.js",
            "app-3f9a1c0b.js",
            "app.deadbeef.js",
            "app.abcdef12.js",
            "style.0123abcd.css",
            "chunk-0a1b2c3d.js",
            "app.1234567a.js",
            "app.a1234567.js",
            "app.12345678abcdef.js",
            "app.20241301a.js",
            "app.20240101abc.js",
            "app.20240101a5.js",
            "app.facade0b.js",
            "assets/app-3f9a1c0b.js",
            "app.3F9A1C0B.js",
            "chunk.0123456789abcdef0123.js",
            "logo_3f9a1c0b2d.svg",
            "vendor.min.3f9a1c0b.js",
            "app.3f9a1c0b.min.js",
            "app.3f9a1c0b.js.map",
            "app.3f9a1c0b.min.js.map",
            "app.3f9a1c0b.chunk.css",
            "app.3f9a1c0b.module.css",
            "main.3f9a1c0b.js.LICENSE.txt",
            "app.3f9a1c0b.js.br",
            "1234.3f9a1c0b.js",
            "my-font-v12.3f9a1c0b.woff2",
            "3f9a1c0b2d4e5f60.png",
            "d41d8cd98f00b204e9800998ecf8427e.png",
            "a.e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.wasm",
        ] {
            check(name, IMMUTABLE);
        }
    }

    #[test]
    fn a_name_with_a_bundlers_hash_is_immutable() {
        for name in [
            "index-BkQz9d2x.css",
            "index-BkQz9d2x.js",
            "index-BkQz9d2x.js.map",
            "logo-BkQz9d2x.svg",
            "font.Ab3dE4fG.woff2",
            "chunk-A3B7CD2F.js",
        ] {
            check(name, IMMUTABLE);
        }
    }

    #[test]
    fn html_is_always_revalidated() {
        for name in ["index.html", "index.3f9a1c0b.html", "a-BkQz9d2x.htm", "a.3f9a1c0b.xhtml"] {
            check(name, REVALIDATE);
        }
        assert_eq!(default_for(b"app.3f9a1c0b.js", "TEXT/HTML ; charset=utf-8"), REVALIDATE);
    }

    #[test]
    fn dates_versions_and_numbers_are_not_hashes() {
        for name in [
            "report-20240101.pdf",
            "report-20240101a.pdf",
            "report-20240101ab.pdf",
            "report_19991231F.pdf",
            "backup-20240101120000b.tar.gz",
            "20240101120000ab.zip",
            "report-2024-01-01.pdf",
            "backup_20240101120000.zip",
            "photo-12345678.jpg",
            "IMG_20240101.jpg",
            "DSC02345.JPG",
            "jquery-3.7.1.min.js",
            "lib-1.2.3-rc1.js",
            "bootstrap.5.3.0.min.css",
            "image-1920x1080.png",
            "app.v2.js",
        ] {
            check(name, REVALIDATE);
        }
    }

    #[test]
    fn words_are_not_hashes() {
        for name in [
            "app.js",
            "app.min.js",
            "my-document.pdf",
            "some-backgrounds.css",
            "the-facade01.jpg",
            "THE-FACADE01.JPG",
            "decade80.css",
            "the-decade80.css",
            "a-defaced2.css",
            "menu-cafe2024.pdf",
            "img_face0001.jpg",
            "rss-feed2024.json",
            "recently-added2024.css",
            "resume-JohnDoe1.png",
            "hero-iPhone15.jpg",
            "vendor-jQueryUI.js",
            "convert-Mp3ToWav.js",
            "convert-MP4TOMP3.js",
            "theme-DARK2024.css",
            "styles-Material.css",
            "index-DiwrgTda.css",
        ] {
            check(name, REVALIDATE);
        }
    }

    #[test]
    fn identifiers_are_not_hashes() {
        for name in [
            "550e8400-e29b-41d4-a716-4466554400ab.jpg",
            "avatar-550e8400-e29b-41d4-a716-4466554400ab.jpg",
            "avatar_550e8400e29b41d4a7164466554400ab.jpg",
            "550e8400e29b41d4a7164466554400ab.jpg",
            "user-507f1f77bcf86cd799439011.jpg",
            "sku-A1B2K3D4.jpg",
            "book-Ab3dE4fG.pdf",
        ] {
            check(name, REVALIDATE);
        }
    }

    #[test]
    fn a_hash_is_a_whole_part_before_the_extension() {
        for name in [
            "app3f9a1c0b.js",
            "app.3f9a1c0b",
            "app-3f9a1c0b",
            "app-3f9a1c0b.",
            "app.3f9a1c0b.old.js",
            "3f9a1c0b-app.js",
            "app-3f9a1c0bx.js",
            "app-3f9A1c0b.pdf",
            "app-3f9a1c0.js",
            "3f9a1c0b.js",
            ".3f9a1c0b.js",
            "-3f9a1c0b.js",
            "app-3f9a1c0b.js/readme.txt",
            "app.e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8550.js",
            "",
            ".",
            "..",
            "/",
        ] {
            check(name, REVALIDATE);
        }
    }

    #[test]
    fn a_part_falls_into_words_and_numbers() {
        for (part, expected) in [
            ("", 0),
            ("word", 1),
            ("Word", 1),
            ("WORD", 1),
            ("2024", 1),
            ("JohnDoe1", 3),
            ("iPhone15", 3),
            ("ABc", 2),
            ("BkQz9d2x", 6),
            ("A4toB5v2", 7),
        ] {
            assert_eq!(words(part.as_bytes()), expected, "{part}");
        }
    }
}
