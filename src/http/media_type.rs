//! `Content-Type` (RFC 9110 §8.3) by file name.

use super::header_grammar::{is_quoted_string, is_token, split_outside_quotes};
use super::target::last_segment;

/// The value of the Content-Type header for a file, by the extension of its name, ignoring case.
///
/// `name` may be a path; its last segment counts. Text, scripts and SVG get `charset=utf-8`. JSON is always
/// UTF-8 and has no such parameter (RFC 8259 §11); XML names its own encoding, which the parameter would
/// override (RFC 7303 §3). An unknown extension gives `application/octet-stream`.
pub fn media_type(name: &[u8]) -> String {
    let guessed = |extension| known(extension).or_else(|| mime_guess::from_ext(extension).first_raw());
    let media_type = extension(name).and_then(guessed).unwrap_or(UNKNOWN);
    let has_charset = media_type.starts_with("text/") || media_type == "image/svg+xml";
    format!("{media_type}{}", if has_charset { "; charset=utf-8" } else { "" })
}

/// Whether files of this type are worth compressing: text in any form, and binary formats without compression of their own.
/// `media_type` is a header value with its parameters, in any case.
///
/// Archives and packages are not, including tar, since their authors have chosen a compression.
pub(crate) fn is_compressible(media_type: &str) -> bool {
    let essence = essence(media_type).to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let suffix = subtype.rsplit_once('+').map(|(_, suffix)| suffix);
    let is_listed = |(of, subtypes): &(&str, &str)| {
        *of == kind && subtypes.split_whitespace().any(|listed| listed == subtype)
    };
    kind == "text"
        || suffix.is_some_and(|suffix| COMPRESSIBLE_SUFFIXES.contains(&suffix))
        || COMPRESSIBLE.iter().any(is_listed)
}

/// A Content-Type without its parameters.
pub(super) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Whether a text is `type/subtype`, with or without parameters (RFC 9110 §8.3.1).
pub(crate) fn is_media_type(text: &str) -> bool {
    let mut parts = split_outside_quotes(text.as_bytes(), b';').map(<[u8]>::trim_ascii);
    let essence = parts.next().unwrap_or_default();
    let Some(slash) = memchr::memchr(b'/', essence) else { return false };
    is_token(&essence[..slash]) && is_token(&essence[slash + 1..]) && parts.all(is_parameter)
}

/// Whether a text is `name=value`; the value is a token or a quoted string.
fn is_parameter(text: &[u8]) -> bool {
    let Some(equals) = memchr::memchr(b'=', text) else { return false };
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    is_token(name) && (is_token(value) || is_quoted_string(value))
}

fn extension(name: &[u8]) -> Option<&str> {
    let (_, extension) = split_extension(last_segment(name))?;
    str::from_utf8(extension).ok()
}

/// Splits a file name at its last dot, unless that is its first or last character.
pub(super) fn split_extension(file_name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memrchr(b'.', file_name).filter(|&at| at > 0)?;
    let extension = file_name.get(dot + 1..).filter(|extension| !extension.is_empty())?;
    Some((file_name.get(..dot)?, extension))
}

fn known(extension: &str) -> Option<&'static str> {
    let is_listed = |(extensions, _): &&(&str, &str)| {
        extensions.split_whitespace().any(|listed| listed.eq_ignore_ascii_case(extension))
    };
    KNOWN.iter().find(is_listed).map(|&(_, media_type)| media_type)
}

const UNKNOWN: &str = "application/octet-stream";

/// Structured syntax suffixes (RFC 6839, RFC 9512 §2.2): `image/svg+xml`, `application/manifest+json`.
const COMPRESSIBLE_SUFFIXES: &[&str] = &["json", "xml", "yaml"];

/// Subtypes by their kind.
const COMPRESSIBLE: &[(&str, &str)] = &[
    (
        "application",
        "ecmascript graphql javascript json json5 jsonl postscript rtf sql toml vnd.apple.mpegurl vnd.ms-fontobject \
         wasm x-csh x-httpd-php x-javascript x-latex x-ndjson x-perl x-sh x-sql x-subrip x-tcl x-tex x-yaml xml \
         xml-dtd yaml",
    ),
    ("font", "collection otf sfnt ttf"),
    ("image", "bmp vnd.microsoft.icon x-icon x-ms-bmp"),
    ("message", "rfc822"),
];

/// Types of extensions that the general table lacks, or for which it is outdated or means something else.
const KNOWN: &[(&str, &str)] = &[
    // Scripts have one type, and it is text (RFC 9239).
    ("js mjs cjs", "text/javascript"),
    ("map", "application/json"),
    // A segment of a stream, not a TypeScript source: players need the type, while no browser runs the
    // source.
    ("ts mts m2ts", "video/mp2t"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mpd", "application/dash+xml"),
    ("m4s", "video/iso.segment"),
    ("xml", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("otf", "font/otf"),
    ("md markdown", "text/markdown"),
    // Data (RFC 9512 for YAML).
    ("toml", "application/toml"),
    ("yaml yml", "application/yaml"),
    ("ipynb", "application/x-ipynb+json"),
    ("ndjson", "application/x-ndjson"),
    ("jsonl", "application/jsonl"),
    ("geojson", "application/geo+json"),
    // Packages and archives. The extension names the format, never a Content-Encoding.
    ("gz tgz svgz", "application/gzip"),
    ("zst", "application/zstd"),
    ("xz", "application/x-xz"),
    ("iso", "application/vnd.efi.iso"),
    ("deb", "application/vnd.debian.binary-package"),
    ("rpm", "application/x-rpm"),
    // Brotli, Python packages and models.
    ("br whl safetensors gguf onnx", UNKNOWN),
    // Checksums beside an artifact, to be read.
    ("md5 sha1 sha256 sha512", "text/plain"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_type_of_its_extension() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.htm", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.min.js", "text/javascript; charset=utf-8"),
            ("a.js.map", "application/json"),
            ("a.json", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.jpg", "image/jpeg"),
            ("a.avif", "image/avif"),
            ("a.webp", "image/webp"),
            ("a.ico", "image/x-icon"),
            ("a.woff2", "font/woff2"),
            ("a.ttf", "font/ttf"),
            ("a.otf", "font/otf"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.xml", "application/xml"),
            ("a.pdf", "application/pdf"),
            ("a.mp4", "video/mp4"),
            ("a.ts", "video/mp2t"),
            ("a.m3u8", "application/vnd.apple.mpegurl"),
            ("a.toml", "application/toml"),
            ("a.yaml", "application/yaml"),
            ("a.ipynb", "application/x-ipynb+json"),
            ("a.zip", "application/zip"),
            ("a.tar", "application/x-tar"),
            ("a.gz", "application/gzip"),
            ("a.tar.gz", "application/gzip"),
            ("a.tgz", "application/gzip"),
            ("a.zst", "application/zstd"),
            ("a.xz", "application/x-xz"),
            ("a.br", "application/octet-stream"),
            ("a.iso", "application/vnd.efi.iso"),
            ("a.deb", "application/vnd.debian.binary-package"),
            ("a.rpm", "application/x-rpm"),
            ("a.apk", "application/vnd.android.package-archive"),
            ("a.jar", "application/java-archive"),
            ("a.whl", "application/octet-stream"),
            ("a.safetensors", "application/octet-stream"),
            ("a.gguf", "application/octet-stream"),
            ("a.onnx", "application/octet-stream"),
            ("a.iso.sha256", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(media_type(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn the_case_of_an_extension_does_not_matter() {
        assert_eq!(media_type(b"A.HTML"), "text/html; charset=utf-8");
        assert_eq!(media_type(b"A.Js"), "text/javascript; charset=utf-8");
        assert_eq!(media_type(b"A.JPG"), "image/jpeg");
    }

    #[test]
    fn a_name_without_an_extension_is_of_unknown_type() {
        for name in ["", "LICENSE", ".profile", ".html", "a.", "a.html/b", "a/.html", "a.unheard-of", "a.h\0"]
        {
            assert_eq!(media_type(name.as_bytes()), "application/octet-stream", "{name}");
        }
        assert_eq!(media_type(b"a.\xFF"), "application/octet-stream");
    }

    #[test]
    fn only_the_last_segment_of_a_path_counts() {
        assert_eq!(media_type(b"a.html/b.css"), "text/css; charset=utf-8");
        assert_eq!(media_type(b"a/.hidden.html"), "text/html; charset=utf-8");
    }

    #[test]
    fn text_in_any_form_and_raw_formats_are_worth_compressing() {
        for (name, expected) in [
            ("a.html", true),
            ("a.css", true),
            ("a.js", true),
            ("a.mjs", true),
            ("a.js.map", true),
            ("a.json", true),
            ("a.geojson", true),
            ("a.webmanifest", true),
            ("a.ndjson", true),
            ("a.ipynb", true),
            ("a.xml", true),
            ("a.atom", true),
            ("a.xhtml", true),
            ("a.mpd", true),
            ("a.m3u8", true),
            ("a.svg", true),
            ("a.wasm", true),
            ("a.ttf", true),
            ("a.otf", true),
            ("a.ttc", true),
            ("a.eot", true),
            ("a.ico", true),
            ("a.bmp", true),
            ("a.md", true),
            ("a.csv", true),
            ("a.vtt", true),
            ("a.srt", true),
            ("a.yaml", true),
            ("a.toml", true),
            ("a.sh", true),
            ("a.sql", true),
            ("a.tex", true),
            ("a.rtf", true),
            ("a.gltf", true),
            ("a.sha256", true),
            ("a.woff", false),
            ("a.woff2", false),
            ("a.svgz", false),
            ("a.png", false),
            ("a.jpg", false),
            ("a.webp", false),
            ("a.avif", false),
            ("a.mp4", false),
            ("a.ts", false),
            ("a.pdf", false),
            ("a.zip", false),
            ("a.tar", false),
            ("a.gz", false),
            ("a.br", false),
            ("a.zst", false),
            ("a.whl", false),
            ("a.epub", false),
            ("a.docx", false),
            ("a.bin", false),
            ("LICENSE", false),
        ] {
            let media_type = media_type(name.as_bytes());
            assert_eq!(is_compressible(&media_type), expected, "{name}: {media_type}");
        }
    }

    #[test]
    fn parameters_and_case_of_a_type_do_not_matter() {
        for (media_type, expected) in [
            ("TEXT/Plain", true),
            ("application/json ; charset=utf-8", true),
            ("Application/LD+JSON", true),
            ("application/octet-stream", false),
            ("application/epub+zip", false),
            ("application/xml+zip", false),
            ("text", false),
            ("", false),
            (";text/html", false),
        ] {
            assert_eq!(is_compressible(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn a_media_type_has_a_subtype_and_may_have_parameters() {
        for text in [
            "text/html",
            "text/html; charset=utf-8",
            "text/html;charset=\"utf-8\"",
            "a/b ; c=d; e=\"f;\\\"g\"",
            "application/vnd.oci.image.manifest.v1+json",
        ] {
            assert!(is_media_type(text), "{text}");
        }
        for text in [
            "",
            "text",
            "text/",
            "/html",
            "a/b;",
            "a/b; c",
            "a/b; c=",
            "a/b; c=\"d",
            "a /b",
            "a/b c",
            "a/b/c",
        ] {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
