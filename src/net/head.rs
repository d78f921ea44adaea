//! Request heads: where they end, what they say, and which are refused (RFC 9112 §2 to §6).
//!
//! Stricter than the parser below it where leniency lets two readers of one stream disagree: lines end in CRLF and in
//! nothing else, a length and a transfer coding never stand together, `Host` stands once.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use actix_http::header::{HeaderName, HeaderValue};
use actix_http::{Method, Request, StatusCode, Uri, Version};
use bytes::Bytes;

use crate::http::authority;
use crate::net::body_discarder::BodyFraming;

/// A request and how its connection goes on.
pub(crate) struct ParsedHead {
    pub(crate) request: Request,
    pub(crate) framing: BodyFraming,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) is_http10: bool,
    pub(crate) is_head: bool,
}

/// Why a request is answered without being asked for: a status, and the sentence that goes with it.
pub(crate) type HeadError = (StatusCode, &'static str);

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// The valid `Host` that came last: most requests have the same.
#[derive(Debug, Default)]
pub(crate) struct LastHost(RefCell<Vec<u8>>);

impl LastHost {
    /// Whether `host` is valid (RFC 9110 §7.2).
    pub(super) fn vouches_for(&self, host: &[u8]) -> bool {
        if *self.0.borrow() == host {
            return true; // The empty one is valid, too.
        }
        let is_valid = authority::is_valid_host(host);
        if is_valid && host.len() <= HOST_KEPT {
            let mut last = self.0.borrow_mut();
            last.clear();
            last.extend_from_slice(host);
        }
        is_valid
    }
}

/// Looks for the end of a head as its bytes arrive. Every byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    line_start: usize,
    scanned: usize,
}

/// What a [`Scanner`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// The head takes so many bytes, the empty line included.
    Complete(usize),
    /// So many bytes at the front are empty lines before a head: to be dropped.
    Blank(usize),
    Partial,
    Refused(HeadError),
}

impl Scanner {
    /// Looks at what of `bytes` has not been looked at.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Scan {
        if bytes.first().is_some_and(|&byte| !may_begin(byte)) {
            return Scan::Refused(MALFORMED);
        }
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let lf = self.scanned + found;
            if lf >= limits.bytes {
                return Scan::Refused(self.too_long());
            }
            let is_crlf = lf > self.line_start && bytes[lf - 1] == b'\r';
            if !is_crlf {
                return Scan::Refused(BARE_LF);
            }
            if lf - self.line_start == 1 {
                *self = Self::default();
                return if lf == 1 { Scan::Blank(2) } else { Scan::Complete(lf + 1) };
            }
            self.line_start = lf + 1;
            self.scanned = lf + 1;
        }
        self.scanned = bytes.len();
        if bytes.len() < limits.bytes {
            return Scan::Partial;
        }
        Scan::Refused(self.too_long())
    }

    fn too_long(&self) -> HeadError {
        if self.line_start == 0 { TARGET_TOO_LONG } else { HEAD_TOO_LONG }
    }
}

/// Whether a head, or an empty line before one, may begin so. Another protocol is told at once and not waited for.
fn may_begin(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"\r\n!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads a complete head, as [`Scanner`] found it.
///
/// # Errors
/// The status and sentence for a head that is malformed, ambiguous or beyond what is served.
pub(crate) fn parse(bytes: &[u8], limits: HeadLimits, known: &LastHost) -> Result<ParsedHead, HeadError> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_INLINE];
    let mut more_room;
    let room: &mut [MaybeUninit<httparse::Header<'_>>] = if limits.fields <= FIELDS_INLINE {
        &mut room[..limits.fields]
    } else {
        more_room = vec![MaybeUninit::uninit(); limits.fields];
        &mut more_room
    };
    let mut raw = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut raw, bytes, room) {
        Ok(httparse::Status::Complete(_)) => build(&raw, bytes, known),
        Ok(httparse::Status::Partial) => Err(MALFORMED),
        Err(httparse::Error::Version) => parse_later_minor(bytes, limits, known),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_MANY_FIELDS),
        Err(_) => Err(MALFORMED),
    }
}

/// A later minor version of HTTP/1 is served as HTTP/1.1 (RFC 9110 §2.5); another major version is not.
fn parse_later_minor(bytes: &[u8], limits: HeadLimits, known: &LastHost) -> Result<ParsedHead, HeadError> {
    let line_end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
    let (start, version) = bytes[..line_end].split_at(line_end.saturating_sub(VERSION_LENGTH));
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => {
            let mut copy = bytes.to_vec();
            copy[start.len() + VERSION_LENGTH - 1] = b'1';
            parse(&copy, limits, known)
        }
        // The version is one that is served, so it is not what the parser stumbled over.
        b"HTTP/1.0" | b"HTTP/1.1" => Err(MALFORMED),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(VERSION),
        _ => Err(MALFORMED),
    }
}

/// The target of the request head in `bytes`, which ends in an empty line, as a connection reads it. Property tests, fuzzing
/// and benchmarks enter here.
///
/// # Errors
/// The status for a head that is refused.
pub fn read_target(bytes: &[u8]) -> Result<Uri, StatusCode> {
    let limits = HeadLimits { bytes: usize::MAX, fields: FIELDS_INLINE };
    match Scanner::default().scan(bytes, limits) {
        Scan::Complete(length) => match parse(&bytes[..length], limits, &LastHost::default()) {
            Ok(head) => Ok(head.request.uri().clone()),
            Err((status, _)) => Err(status),
        },
        Scan::Refused((status, _)) => Err(status),
        Scan::Blank(_) | Scan::Partial => Err(StatusCode::BAD_REQUEST),
    }
}

fn build(raw: &httparse::Request<'_, '_>, bytes: &[u8], known: &LastHost) -> Result<ParsedHead, HeadError> {
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(MALFORMED);
    };
    // One allocation that every value of the request shares.
    let shared = Bytes::copy_from_slice(bytes);
    let slice_of = |part: &[u8]| {
        let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
        shared.slice(start..start + part.len())
    };
    let is_http10 = minor == 0;
    let mut request = Request::new();
    let head = request.head_mut();
    head.method = method_of(method)?;
    head.version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    head.uri = uri_of(target, slice_of(target.as_bytes()))?;
    let mut facts = FramingHeaders::default();
    for field in raw.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| MALFORMED)?;
        facts.note(&name, field.value, known)?;
        let value = HeaderValue::from_maybe_shared(slice_of(field.value)).map_err(|_| MALFORMED)?;
        head.headers.append(name, value);
    }
    let framing = facts.framing(is_http10)?;
    if !is_http10 && facts.hosts == 0 {
        return Err(HOST_MISSING);
    }
    if !is_http10 && facts.expects_something_else {
        return Err(EXPECTATION);
    }
    let keep_alive = !facts.close && (!is_http10 || facts.keep_alive);
    let is_head = head.method == Method::HEAD;
    Ok(ParsedHead {
        request,
        framing,
        keep_alive,
        expects_continue: facts.expects_continue && !is_http10,
        is_http10,
        is_head,
    })
}

fn method_of(method: &str) -> Result<Method, HeadError> {
    match method {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        // The parser has seen to it that it is a token; a token that this type does not take is no method known here.
        other => Method::from_bytes(other.as_bytes()).map_err(|_| METHOD),
    }
}

fn uri_of(target: &str, shared: Bytes) -> Result<Uri, HeadError> {
    // A fragment has no place in a request (RFC 9112 §3.2), and the parser below would drop it silently.
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(TARGET);
    }
    Uri::from_maybe_shared(shared).map_err(|_| TARGET)
}

/// What the fields say of framing and connection.
#[derive(Default)]
struct FramingHeaders {
    hosts: u32,
    lengths: u32,
    length: u64,
    has_transfer_encoding: bool,
    codings: u32,
    is_chunked: bool,
    has_unknown_coding: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_something_else: bool,
}

impl FramingHeaders {
    fn note(&mut self, name: &HeaderName, value: &[u8], known: &LastHost) -> Result<(), HeadError> {
        use actix_http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
        if *name == HOST {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(HOST_TWICE);
            }
            if !known.vouches_for(value) {
                return Err(HOST_INVALID);
            }
        } else if *name == CONNECTION {
            for token in tokens(value) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == CONTENT_LENGTH {
            self.lengths += 1;
            self.length = length_of(value).ok_or(LENGTH)?;
        } else if *name == TRANSFER_ENCODING {
            self.has_transfer_encoding = true;
            for coding in tokens(value) {
                self.codings += 1;
                let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                self.has_unknown_coding |= !is_chunked;
                self.is_chunked = is_chunked;
            }
        } else if *name == EXPECT {
            let is_continue = value.eq_ignore_ascii_case(b"100-continue");
            self.expects_continue |= is_continue;
            self.expects_something_else |= !is_continue;
        }
        Ok(())
    }

    /// RFC 9112 §6.3, without the readings that let a request hide in another's body.
    fn framing(&self, is_http10: bool) -> Result<BodyFraming, HeadError> {
        if self.has_transfer_encoding {
            return match self {
                _ if self.lengths > 0 || is_http10 || !self.is_chunked => Err(AMBIGUOUS),
                _ if self.has_unknown_coding => Err(CODING),
                _ if self.codings > 1 => Err(AMBIGUOUS),
                _ => Ok(BodyFraming::Chunked),
            };
        }
        match (self.lengths, self.length) {
            (0, _) | (1, 0) => Ok(BodyFraming::Empty),
            (1, length) => Ok(BodyFraming::Length(length)),
            _ => Err(AMBIGUOUS),
        }
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

pub(super) fn length_of(value: &[u8]) -> Option<u64> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// As many fields as a head may have by default are parsed without an allocation.
const FIELDS_INLINE: usize = 100;

/// Longer hosts are checked every time.
const HOST_KEPT: usize = 256;

const VERSION_LENGTH: usize = "HTTP/1.1".len();

pub(crate) const MALFORMED: HeadError = (StatusCode::BAD_REQUEST, "The request is malformed.\n");
const BARE_LF: HeadError = (StatusCode::BAD_REQUEST, "A line of the request does not end in CRLF.\n");
pub(super) const TARGET: HeadError = (StatusCode::BAD_REQUEST, "The request target is malformed.\n");
pub(super) const HOST_MISSING: HeadError = (StatusCode::BAD_REQUEST, "The request has no Host.\n");
pub(super) const HOST_TWICE: HeadError = (StatusCode::BAD_REQUEST, "The request has more than one Host.\n");
pub(super) const HOST_INVALID: HeadError = (StatusCode::BAD_REQUEST, "The request's Host is malformed.\n");
const LENGTH: HeadError = (StatusCode::BAD_REQUEST, "The request's Content-Length is malformed.\n");
const AMBIGUOUS: HeadError = (StatusCode::BAD_REQUEST, "The request's length is ambiguous.\n");
const CODING: HeadError = (StatusCode::NOT_IMPLEMENTED, "The request's transfer coding is not known here.\n");
const METHOD: HeadError = (StatusCode::NOT_IMPLEMENTED, "This method is not known here.\n");
pub(super) const EXPECTATION: HeadError =
    (StatusCode::EXPECTATION_FAILED, "The request's expectation can't be met.\n");
pub(super) const TARGET_TOO_LONG: HeadError = (StatusCode::URI_TOO_LONG, "The request target is too long.\n");
pub(super) const HEAD_TOO_LONG: HeadError =
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's header fields are too large.\n");
pub(super) const TOO_MANY_FIELDS: HeadError =
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many header fields.\n");
pub(super) const VERSION: HeadError =
    (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "This version of HTTP is not served here.\n");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::target::{SitePath, is_valid_origin};

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 20 };

    fn status_of(text: &str) -> u16 {
        match Scanner::default().scan(text.as_bytes(), LIMITS) {
            Scan::Complete(length) => match parse(&text.as_bytes()[..length], LIMITS, &LastHost::default()) {
                Ok(_) => 200,
                Err((status, _)) => status.as_u16(),
            },
            Scan::Refused((status, _)) => status.as_u16(),
            Scan::Blank(_) => 1,
            Scan::Partial => 0,
        }
    }

    #[test]
    fn heads_are_taken_or_refused_as_rfc_9112_demands() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET / HTTP/1.7\r\nHost: x\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: x\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            ("GET / HTTX/1.1\r\nHost: x\r\n\r\n", 400),
            ("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", 417),
            ("\u{16}\u{3}\u{1}", 400),
            ("!#$&'*+.^_|~09 / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
            ("\r\nGET / HTTP/1.1\r\n", 1),
            ("GET / HTTP/1.1\r\nHost: x\r\n", 0),
        ] {
            assert_eq!(status_of(text), expected, "{text:?}");
        }
    }

    fn target(target: &str) -> Result<Uri, u16> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        read_target(head.as_bytes()).map_err(|status| status.as_u16())
    }

    #[test]
    fn a_target_is_split_into_path_and_query() {
        for (text, path, query) in [
            ("/", "/", None),
            ("/a?b=c", "/a", Some("b=c")),
            ("/a?", "/a", Some("")),
            ("/a?b?c", "/a", Some("b?c")),
            ("/a?//b/../c", "/a", Some("//b/../c")),
            ("//host/a", "//host/a", None),
            ("http://host/a?b", "/a", Some("b")),
            ("HtTp://host:80/a", "/a", None),
            ("https://[::1]:443/a", "/a", None),
            ("http://host", "/", None),
            ("http://host?b", "/", Some("b")),
            ("http://host/", "/", None),
        ] {
            let uri = target(text).unwrap();
            assert_eq!((uri.path(), uri.query()), (path, query), "{text}");
            let authority = uri.authority().map(actix_http::uri::Authority::as_str);
            assert!(is_valid_origin(uri.scheme_str(), authority), "{text}");
        }
    }

    #[test]
    fn a_target_of_another_form_names_no_path_or_is_refused() {
        for text in
            ["", "*", "a/b", "?a", "host:443", "ftp://host/a", "http:/a", "http:///a"].into_iter().chain([
                "http://user@host/a",
                "http://host:x/a",
                "/a#b",
                "/a?b#c",
                "/a b",
                "/a\tb",
                "/a\x7f",
                "/a?\r\n",
            ])
        {
            let Ok(uri) = target(text) else { continue };
            let authority = uri.authority().map(actix_http::uri::Authority::as_str);
            let has_origin = is_valid_origin(uri.scheme_str(), authority);
            assert!(!has_origin || SitePath::parse(uri.path().as_bytes()).is_err(), "{text}: {uri:?}");
        }
    }

    #[test]
    fn framing_that_two_readers_could_read_differently_is_refused() {
        for (fields, expected) in [
            ("Content-Length: 5\r\n", 200),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -5\r\n", 400),
            ("Content-Length: 0x5\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 99999999999999999999999\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 200),
            ("Transfer-Encoding: Chunked\r\n", 200),
            ("Transfer-Encoding: chunked, chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked, gzip\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 400),
            ("Transfer-Encoding:\r\n", 400),
            ("Transfer-Encoding: ,\r\nContent-Length: 5\r\n", 400),
            ("Transfer-Encoding : chunked\r\n", 400),
        ] {
            assert_eq!(
                status_of(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")),
                expected,
                "{fields:?}"
            );
        }
        assert_eq!(status_of("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    }

    #[test]
    fn heads_past_their_bounds_are_refused_by_what_is_too_long() {
        assert_eq!(status_of(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(2000))), 414);
        assert_eq!(status_of(&format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(2000))), 431);
        assert_eq!(status_of(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(21))), 431);
    }

    #[test]
    fn connections_persist_as_version_and_connection_say() {
        for (line, field, expected) in [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "Connection: close\r\n", false),
            ("HTTP/1.1", "Connection: x, Close\r\n", false),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let text = format!("GET / {line}\r\nHost: x\r\n{field}\r\n");
            assert_eq!(
                parse(text.as_bytes(), LIMITS, &LastHost::default()).ok().unwrap().keep_alive,
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_head_that_arrives_byte_by_byte_ends_where_one_that_arrives_at_once_does() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /next";
        let mut scanner = Scanner::default();
        let mut end = None;
        for length in 1..=text.len() {
            if let Scan::Complete(at) = scanner.scan(&text[..length], LIMITS) {
                end = Some((at, length));
                break;
            }
        }
        assert_eq!(end, Some((27, 27)));
    }
}
