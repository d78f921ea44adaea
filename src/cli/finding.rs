//! One thing that is wrong with a tree.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use serde::{Serialize, Serializer};

use crate::http::target::SitePath;

/// What stands at `path` can't be served, or not as it was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    #[serde(serialize_with = "as_text")]
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Problem,
    pub(crate) detail: String,
}

/// What is wrong, in one word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Problem {
    /// It is not the file whose checksum was noted.
    ChecksumMismatch,
    /// A file of checksums has none where one should be.
    ChecksumUnreadable,
    /// A checksum is of a file that is not there.
    Missing,
    /// The sidecar decodes to other bytes than its original's.
    SidecarDiffers,
    /// The sidecar does not decode.
    SidecarCorrupt,
    /// The sidecar is older than its original, so that it is not sent.
    SidecarOlder,
    /// It can't be opened or read by whoever runs the command.
    Unreadable,
    /// A fifo, a socket, a device.
    SpecialFile,
    /// A link to nothing.
    LinkDangling,
    /// A link that leads out of the root.
    LinkOutside,
    /// Links that lead round in a circle.
    LinkLoop,
    /// No request's head is long enough for its name.
    NameTooLong,
    /// The server answers this name itself.
    NameTaken,
}

impl Finding {
    pub(crate) fn new(path: &SitePath<'_>, kind: Problem, detail: impl Into<String>) -> Self {
        Self { path: path.as_bytes().to_vec(), kind, detail: detail.into() }
    }
}

/// `path: kind: detail`, on one line whatever the names are.
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

/// A path for people: as it is, where that is text without control characters, else percent-encoded. The root is a dot.
pub(crate) fn shown(path: &[u8]) -> String {
    match str::from_utf8(path) {
        Ok("") => ".".to_owned(),
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => encoded(path),
    }
}

/// A path for programs: as it is, where that is text, else percent-encoded as in a URL.
pub(crate) fn text(path: &[u8]) -> String {
    str::from_utf8(path).map_or_else(|_| encoded(path), str::to_owned)
}

fn encoded(path: &[u8]) -> String {
    percent_encode(path, NOT_PLAIN).to_string()
}

fn as_text<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(path))
}

/// All but ASCII is encoded anyway.
const NOT_PLAIN: &AsciiSet =
    &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'`');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_is_unless_it_could_not_be_read() {
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
