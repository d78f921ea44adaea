//! Media types by file name (RFC 9110 §8.3).

use std::borrow::Cow;

use memchr::memrchr;

/// The value of the Content-Type field for a file, from the extension of its name in any case.
///
/// `name` may be a path; its last segment counts. Text, scripts and SVG are said to be UTF-8. JSON is always
/// UTF-8 and has no such parameter (RFC 8259 §11); XML names its own encoding, which the parameter would
/// overrule (RFC 7303 §3). Unknown is `application/octet-stream`.
pub fn media_type(name: &[u8]) -> Cow<'static, str> {
    let Some(extension) = extension(name) else { return Cow::Borrowed(UNKNOWN) };
    let guessed = match known(extension) {
        Some(known) => known,
        None => mime_guess::from_ext(extension).first_raw().unwrap_or(UNKNOWN),
    };
    with_charset(guessed)
}

/// What follows the last dot of the name, unless that dot is its first character.
fn extension(name: &[u8]) -> Option<&str> {
    let file_name = match memrchr(b'/', name) {
        Some(at) => name.get(at + 1..)?,
        None => name,
    };
    let dot = memrchr(b'.', file_name).filter(|&at| at > 0)?;
    str::from_utf8(file_name.get(dot + 1..)?).ok()
}

fn known(extension: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension)).map(|&(_, media_type)| media_type)
}

fn with_charset(media_type: &'static str) -> Cow<'static, str> {
    match media_type {
        // The commonest, so that they are not built.
        "text/html" => Cow::Borrowed("text/html; charset=utf-8"),
        "text/css" => Cow::Borrowed("text/css; charset=utf-8"),
        "text/javascript" => Cow::Borrowed("text/javascript; charset=utf-8"),
        "text/plain" => Cow::Borrowed("text/plain; charset=utf-8"),
        "image/svg+xml" => Cow::Borrowed("image/svg+xml; charset=utf-8"),
        _ if media_type.starts_with("text/") => Cow::Owned(format!("{media_type}; charset=utf-8")),
        _ => Cow::Borrowed(media_type),
    }
}

const UNKNOWN: &str = "application/octet-stream";

/// Where the general table is silent, outdated or means something else.
const KNOWN: &[(&str, &str)] = &[
    // Scripts have one type, and it is text (RFC 9239).
    ("js", "text/javascript"),
    ("mjs", "text/javascript"),
    ("cjs", "text/javascript"),
    ("map", "application/json"),
    // A segment of a stream, not a TypeScript source: players need the type, while no browser runs the
    // source.
    ("ts", "video/mp2t"),
    ("mts", "video/mp2t"),
    ("m2ts", "video/mp2t"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mpd", "application/dash+xml"),
    ("m4s", "video/iso.segment"),
    ("xml", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("otf", "font/otf"),
    ("md", "text/markdown"),
    ("markdown", "text/markdown"),
    // Data (RFC 9512 for YAML).
    ("toml", "application/toml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("ipynb", "application/x-ipynb+json"),
    ("ndjson", "application/x-ndjson"),
    ("jsonl", "application/jsonl"),
    ("geojson", "application/geo+json"),
    // Packages and archives. The extension tells how the bytes are packed, never a Content-Encoding.
    ("gz", "application/gzip"),
    ("tgz", "application/gzip"),
    ("zst", "application/zstd"),
    ("br", UNKNOWN),
    ("xz", "application/x-xz"),
    ("iso", "application/vnd.efi.iso"),
    ("deb", "application/vnd.debian.binary-package"),
    ("rpm", "application/x-rpm"),
    ("whl", UNKNOWN),
    // Models.
    ("safetensors", UNKNOWN),
    ("gguf", UNKNOWN),
    ("onnx", UNKNOWN),
    // Checksums beside an artifact, to be read.
    ("md5", "text/plain"),
    ("sha1", "text/plain"),
    ("sha256", "text/plain"),
    ("sha512", "text/plain"),
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
}
