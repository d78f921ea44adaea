//! A problem that `pagecast verify` reports.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use serde::{Serialize, Serializer};

use crate::http::target::SitePath;

/// A problem with the file at `path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    #[serde(serialize_with = "as_text")]
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Problem,
    pub(crate) detail: String,
}

/// Kind of a problem, as a word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Problem {
    /// The content does not match its checksum.
    ChecksumMismatch,
    /// A line of a checksum file has no checksum.
    ChecksumUnreadable,
    /// There is a checksum and no file.
    Missing,
    /// The sidecar decodes to other bytes than its original.
    SidecarDiffers,
    /// The sidecar does not decode.
    SidecarCorrupt,
    /// The sidecar is older than its original, and so is not sent.
    SidecarOlder,
    /// The user of the command can't open or read it.
    Unreadable,
    /// A fifo, a socket, a device.
    SpecialFile,
    /// A symbolic link to no file.
    LinkDangling,
    /// A symbolic link out of the document root.
    LinkOutside,
    /// A circle of symbolic links.
    LinkLoop,
    /// No request head has room for its name.
    NameTooLong,
    /// The server answers requests for this name itself.
    NameTaken,
}

impl Finding {
    pub(crate) fn new(path: &SitePath<'_>, kind: Problem, detail: impl Into<String>) -> Self {
        Self { path: path.as_bytes().to_vec(), kind, detail: detail.into() }
    }
}

/// `path: kind: detail`, on one line whatever the path contains.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", shown(&self.path), self.kind, self.detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A path for people: as it is if it is UTF-8 without control characters, else percent-encoded. The root is a dot.
pub(crate) fn shown(path: &[u8]) -> String {
    match str::from_utf8(path) {
        Ok("") => ".".to_owned(),
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => encoded(path),
    }
}

/// A path for programs: as it is if it is UTF-8, else percent-encoded as in a URL.
pub(crate) fn text(path: &[u8]) -> String {
    str::from_utf8(path).map_or_else(|_| encoded(path), str::to_owned)
}

fn encoded(path: &[u8]) -> String {
    percent_encode(path, NOT_PLAIN).to_string()
}

fn as_text<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(path))
}

/// Characters outside ASCII are always encoded.
const NOT_PLAIN: &AsciiSet =
    &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'`');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_is_unless_it_is_not_plain_text() {
        for (path, for_people, for_programs) in [
            (&b""[..], ".", ""),
            (b"a/b c.txt", "a/b c.txt", "a/b c.txt"),
            ("caf\u{e9}".as_bytes(), "caf\u{e9}", "caf\u{e9}"),
            (b"a\nb", "a%0Ab", "a\nb"),
            (b"a\x1b[2J", "a%1B[2J", "a\x1b[2J"),
            (b"\xFF%/a b", "%FF%25/a%20b", "%FF%25/a%20b"),
        ] {
            assert_eq!(shown(path), for_people);
            assert_eq!(text(path), for_programs);
        }
    }

    #[test]
    fn a_finding_is_one_line() {
        let path = SitePath::parse(b"/a%0ab").unwrap().path;
        let finding = Finding::new(&path, Problem::SidecarOlder, "by 3s");
        assert_eq!(finding.to_string(), "a%0Ab: sidecar-older: by 3s");
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(json, r#"{"path":"a\nb","kind":"sidecar-older","detail":"by 3s"}"#);
    }
}
