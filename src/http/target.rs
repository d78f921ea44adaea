//! Request targets (RFC 9112 §3.2) and the paths within the site that they name.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use percent_encoding::{percent_decode, percent_encode};

use super::authority::is_valid_host;
use super::percent::{OUTSIDE_PATH, OUTSIDE_QUERY, has_valid_escapes};

/// A path relative to the root of the site: percent-decoded once, and never outside the root.
///
/// It has no leading, trailing or double slash, no `.` or `..` segment and no NUL. The root itself is empty. All other bytes
/// are allowed, since file names are bytes. The length is not checked.
///
/// A path without escapes is borrowed from the target, so that a lookup allocates nothing;
/// [`into_owned`](SitePath::into_owned) makes one to keep, whose clones share its bytes. It hashes and compares like
/// its bytes, so a map with `SitePath<'static>` keys can be searched with `&[u8]`.
#[derive(Clone)]
pub struct SitePath<'a> {
    bytes: PathBytes<'a>,
}

#[derive(Clone)]
enum PathBytes<'a> {
    Borrowed(&'a [u8]),
    Shared(Arc<[u8]>),
}

/// A parsed path of a request target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedTarget<'a> {
    /// The path of a file or directory.
    pub path: SitePath<'a>,
    /// Whether the target can only be a directory: it ends in a slash, or in `.` or `..`. Not part of the path, since `a` and
    /// `a/` are the same on disk.
    pub wants_directory: bool,
}

/// Why a request target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// The path does not start with a slash.
    NotAbsolute,
    /// A `%` is not followed by two hexadecimal digits.
    Escape,
    /// The path contains a NUL, which no file name can.
    Nul,
    /// The path contains an encoded slash (`%2F`).
    EncodedSlash,
    /// The path climbs above the root.
    Climbs,
}

impl<'a> SitePath<'a> {
    /// Parses the raw path of a request target, without its query.
    pub fn parse(path: &'a [u8]) -> Result<ParsedTarget<'a>, TargetError> {
        let relative = path.strip_prefix(b"/").ok_or(TargetError::NotAbsolute)?;
        if is_plain(path, relative) { Ok(borrow_plain(relative)) } else { resolve(relative) }
    }

    /// The root itself.
    pub const fn root() -> SitePath<'static> {
        SitePath { bytes: PathBytes::Borrowed(b"") }
    }

    /// The bytes relative to the root. Empty for the root itself.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            PathBytes::Borrowed(bytes) => bytes,
            PathBytes::Shared(bytes) => bytes,
        }
    }

    /// The same bytes for system calls. Empty for the root itself.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.as_bytes())
    }

    /// A path that has no empty, `.` or `..` segment and no NUL.
    pub(super) fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> SitePath<'static> {
        SitePath { bytes: PathBytes::Shared(bytes.into()) }
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The names from the root on, without empty ones.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.as_bytes().split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
    }

    /// Whether a segment starts with a dot. `.well-known` at the root does not count (RFC 8615).
    pub fn is_hidden(&self) -> bool {
        // Nearly every path has its dots inside names, so search for a slash and a dot before splitting.
        let starts_with_dot = self.as_bytes().first() == Some(&b'.');
        if !starts_with_dot && !self.as_bytes().windows(2).any(|pair| pair == b"/.") {
            return false;
        }
        self.segments()
            .enumerate()
            .any(|(index, segment)| segment.starts_with(b".") && !(index == 0 && segment == b".well-known"))
    }

    /// The path of the index file `name` in this directory. A `name` of several segments is resolved like a target but not
    /// decoded, and never climbs above the root.
    pub fn index(&self, name: &str) -> SitePath<'static> {
        let mut names: Vec<&[u8]> = self.segments().collect();
        for segment in name.as_bytes().split(|&byte| byte == b'/' || byte == 0) {
            // A segment that would climb above the root is dropped.
            let _ = push_segment(&mut names, segment);
        }
        SitePath::from_bytes(names.join(&b'/'))
    }

    /// The target of this path as a directory, for a Location header: percent-encoded, with a trailing slash and the query of
    /// the request. It never starts with two slashes, which would name another host, and has only visible ASCII.
    pub fn to_location(&self, query: Option<&[u8]>) -> String {
        self.location(!self.is_root(), query)
    }

    /// The same without the trailing slash.
    pub(crate) fn to_file_location(&self, query: Option<&[u8]>) -> String {
        self.location(false, query)
    }

    fn location(&self, has_slash: bool, query: Option<&[u8]>) -> String {
        let mut location =
            String::with_capacity(self.as_bytes().len() + query.map_or(2, |query| query.len() + 3));
        location.push('/');
        location.extend(percent_encode(self.as_bytes(), OUTSIDE_PATH));
        if has_slash {
            location.push('/');
        }
        if let Some(query) = query {
            location.push('?');
            location.extend(percent_encode(query, OUTSIDE_QUERY));
        }
        location
    }

    /// The parent directory; that of the root is the root.
    pub fn parent(&self) -> SitePath<'static> {
        let end = self.as_bytes().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        SitePath::from_bytes(self.as_bytes().get(..end).unwrap_or_default())
    }

    /// The last name; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        self.segments().next_back().unwrap_or_default()
    }

    /// The path with `suffix` appended to its last name.
    pub(crate) fn suffixed(&self, suffix: &str) -> SitePath<'static> {
        SitePath::from_bytes([self.as_bytes(), suffix.as_bytes()].concat())
    }

    /// The path without `suffix` at the end of its last name; `None` if it has no such suffix or no name is left.
    pub(crate) fn without_suffix(&self, suffix: &str) -> Option<SitePath<'static>> {
        let shorter = self.as_bytes().strip_suffix(suffix.as_bytes())?;
        let has_name = !shorter.is_empty() && !shorter.ends_with(b"/");
        has_name.then(|| SitePath::from_bytes(shorter))
    }

    /// The entry `name` of this directory as listed by the file system: one name, neither `.` nor `..`.
    pub(crate) fn entry(&self, name: &[u8]) -> SitePath<'static> {
        let separator: &[u8] = if self.is_root() { b"" } else { b"/" };
        SitePath::from_bytes([self.as_bytes(), separator, name].concat())
    }

    /// The same path with its own bytes.
    pub fn into_owned(self) -> SitePath<'static> {
        match self.bytes {
            PathBytes::Borrowed(bytes) => SitePath::from_bytes(bytes),
            PathBytes::Shared(bytes) => SitePath { bytes: PathBytes::Shared(bytes) },
        }
    }
}

/// For logs: control characters are escaped, so that no name can forge a line.
impl fmt::Display for SitePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// Whether a target in absolute form names a scheme and a host that could be this server's (RFC 9112 §3.2.2). Both are
/// `None` in origin form. A host with user information is refused (RFC 9110 §4.2.4).
pub fn is_valid_origin(scheme: Option<&str>, authority: Option<&str>) -> bool {
    scheme.is_none_or(|scheme| matches!(scheme, "http" | "https"))
        && authority.is_none_or(|host| is_valid_host(host.as_bytes()))
}

/// Whether a path needs no resolving: nothing to decode, merge or drop.
///
/// It examines every byte without leaving early, which the compiler turns into vector instructions.
fn is_plain(path: &[u8], relative: &[u8]) -> bool {
    path.iter().zip(relative).fold(true, |plain, (&previous, &byte)| {
        let needs_decoding = (byte == b'%') | (byte == 0);
        let is_structure = (previous == b'/') & ((byte == b'/') | (byte == b'.'));
        plain & !needs_decoding & !is_structure
    })
}

fn borrow_plain(relative: &[u8]) -> ParsedTarget<'_> {
    let (bytes, wants_directory) = match relative.strip_suffix(b"/") {
        Some(bytes) => (bytes, true),
        None => (relative, relative.is_empty()),
    };
    ParsedTarget { path: SitePath { bytes: PathBytes::Borrowed(bytes) }, wants_directory }
}

fn resolve(relative: &[u8]) -> Result<ParsedTarget<'static>, TargetError> {
    let decoded = decode(relative)?;
    let mut names = Vec::new();
    let mut wants_directory = true;
    for segment in decoded.split(|&byte| byte == b'/') {
        wants_directory = !push_segment(&mut names, segment)?;
    }
    Ok(ParsedTarget { path: SitePath::from_bytes(names.join(&b'/')), wants_directory })
}

/// Follows one segment from the directory that `names` lead to. Returns whether it is a name, and not empty, `.` or `..`.
fn push_segment<'a>(names: &mut Vec<&'a [u8]>, segment: &'a [u8]) -> Result<bool, TargetError> {
    match segment {
        b"" | b"." => return Ok(false),
        b".." => return names.pop().map(|_| false).ok_or(TargetError::Climbs),
        name => names.push(name),
    }
    Ok(true)
}

/// Decodes a path once.
pub(super) fn decode(path: &[u8]) -> Result<Vec<u8>, TargetError> {
    if !has_valid_escapes(path) {
        return Err(TargetError::Escape);
    }
    let decoded: Vec<u8> = percent_decode(path).collect();
    let slashes = |path| memchr::memchr_iter(b'/', path).count();
    match decoded.contains(&0) {
        true => Err(TargetError::Nul),
        false if slashes(&decoded) != slashes(path) => Err(TargetError::EncodedSlash),
        false => Ok(decoded),
    }
}

/// The part of a path after its last slash.
pub(super) fn last_segment(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

impl PartialEq for SitePath<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SitePath<'_> {}

impl Hash for SitePath<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for SitePath<'_> {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for SitePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SitePath(\"{}\")", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn check(raw: &str, expected: Result<(&str, bool), TargetError>) {
        let parsed = SitePath::parse(raw.as_bytes());
        let found = parsed.as_ref().map(|target| (target.path.as_bytes(), target.wants_directory));
        let expected = expected.as_ref().map(|(path, directory)| (path.as_bytes(), *directory));
        assert_eq!(found, expected, "{raw}");
    }

    fn path(raw: &str) -> SitePath<'_> {
        SitePath::parse(raw.as_bytes()).unwrap().path
    }

    #[test]
    fn a_path_is_decoded_once_and_its_structure_resolved() {
        for (raw, expected, wants_directory) in [
            ("/", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("/a/b.txt", "a/b.txt", false),
            ("//a///b", "a/b", false),
            ("/a//", "a", true),
            ("//", "", true),
            ("/a/./b", "a/b", false),
            ("/a/.", "a", true),
            ("/a/..", "", true),
            ("/a/../b", "b", false),
            ("/a/b/../../c", "c", false),
            ("/a/%2e%2E/b", "b", false),
            ("/a/.%2e", "", true),
            ("/...", "...", false),
            ("/..a", "..a", false),
            ("/a..", "a..", false),
            ("/.hidden", ".hidden", false),
            ("/a%20b", "a b", false),
            ("/%252e%252e/x", "%2e%2e/x", false),
            ("/%2541", "%41", false),
            ("/a\\..\\b", "a\\..\\b", false),
            ("/caf\u{e9}", "caf\u{e9}", false),
            ("/caf%C3%A9", "caf\u{e9}", false),
            ("/a%3Fb%23c", "a?b#c", false),
        ] {
            check(raw, Ok((expected, wants_directory)));
        }
    }

    #[test]
    fn a_path_that_cannot_be_trusted_is_refused_with_its_reason() {
        for (raw, reason) in [
            ("", TargetError::NotAbsolute),
            ("a", TargetError::NotAbsolute),
            ("../a", TargetError::NotAbsolute),
            ("/%", TargetError::Escape),
            ("/%4", TargetError::Escape),
            ("/%4/1", TargetError::Escape),
            ("/%g1", TargetError::Escape),
            ("/%+1", TargetError::Escape),
            ("/a%00", TargetError::Nul),
            ("/a\0", TargetError::Nul),
            ("/a%2fb", TargetError::EncodedSlash),
            ("/..%2F", TargetError::EncodedSlash),
            ("/..", TargetError::Climbs),
            ("/%2e%2e/etc/passwd", TargetError::Climbs),
            ("/a/../..", TargetError::Climbs),
            ("/a/..//../b", TargetError::Climbs),
        ] {
            check(raw, Err(reason));
        }
    }

    #[test]
    fn a_plain_path_is_borrowed_from_the_target() {
        for raw in ["/", "/a", "/a/b.min.js", "/a/"] {
            assert!(matches!(path(raw).bytes, PathBytes::Borrowed(_)), "{raw}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_kept_byte_for_byte() {
        let parsed = SitePath::parse(b"/%FF\xFE").unwrap();
        assert_eq!(parsed.path.as_bytes(), b"\xFF\xFE");
        assert_eq!(parsed.path.as_os_str().as_bytes(), b"\xFF\xFE");
    }

    #[test]
    fn a_path_too_long_for_the_file_system_still_parses() {
        let raw = format!("/{}", "a".repeat(5000));
        assert_eq!(path(&raw).as_bytes().len(), 5000);
    }

    #[test]
    fn a_name_with_a_leading_dot_is_hidden_unless_it_is_well_known_at_the_root() {
        for (raw, hidden) in [
            ("/", false),
            ("/a.b/c.d", false),
            ("/.git/config", true),
            ("/a/.env", true),
            ("/%2eenv", true),
            ("/.well-known/security.txt", false),
            ("/.well-known", false),
            ("/.well-known/.secret", true),
            ("/.well-known-not", true),
            ("/a/.well-known/x", true),
        ] {
            assert_eq!(path(raw).is_hidden(), hidden, "{raw}");
        }
    }

    #[test]
    fn segments_are_the_names_on_the_way() {
        assert_eq!(path("/a//b/c/").segments().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(SitePath::root().segments().count(), 0);
    }

    #[test]
    fn an_index_is_in_its_directory_and_cannot_climb() {
        for (raw, name, expected) in [
            ("/", "index.html", "index.html"),
            ("/a/b/", "index.html", "a/b/index.html"),
            ("/a", "100%.html", "a/100%.html"),
            ("/", "../../etc/passwd", "etc/passwd"),
        ] {
            assert_eq!(path(raw).index(name).as_bytes(), expected.as_bytes(), "{raw} {name}");
        }
    }

    #[test]
    fn a_location_is_encoded_and_stays_on_this_host() {
        for (raw, query, expected) in [
            ("/", None, "/"),
            ("/a", None, "/a/"),
            ("/a/b", Some("x=1&y=%20"), "/a/b/?x=1&y=%20"),
            ("/a", Some(""), "/a/?"),
            ("//evil.example/..", None, "/"),
            ("//evil.example/x", None, "/evil.example/x/"),
            ("/\\evil.example", None, "/%5Cevil.example/"),
            ("/a%0d%0ab", Some("c\r\nd"), "/a%0D%0Ab/?c%0D%0Ad"),
            ("/a%20b%25%3F%23", None, "/a%20b%25%3F%23/"),
            ("/caf%c3%a9", None, "/caf%C3%A9/"),
            ("/-._~!$&'()*+,;=:@", None, "/-._~!$&'()*+,;=:@/"),
        ] {
            assert_eq!(path(raw).to_location(query.map(str::as_bytes)), expected, "{raw}");
        }
    }

    #[test]
    fn a_map_of_paths_answers_for_bytes() {
        let map = HashMap::from([(path("/%61/b").into_owned(), 1)]);
        assert_eq!(map.get(b"a/b".as_slice()), Some(&1));
        assert_eq!(map.get(path("/a/b").as_bytes()), Some(&1));
        assert_eq!(map.get(&path("/a/b/")), Some(&1));
    }
}
