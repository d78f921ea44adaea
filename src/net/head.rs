//! Finds, parses and checks request heads (RFC 9112 §2 to §6).
//!
//! Stricter than `httparse` where leniency would let two readers of one stream disagree: lines end in CRLF only,
//! `Content-Length` and `Transfer-Encoding` never come together, `Host` comes once.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use actix_http::header::{HeaderName, HeaderValue};
use actix_http::{Method, Request, Uri, Version};
use bytes::Bytes;

use crate::http::authority;
use crate::http::canned_response::{self as canned, CannedResponse};
use crate::net::BodyFraming;

/// A request, and what its connection needs to know of it.
pub(super) struct ParsedHead {
    pub(super) request: Request,
    pub(super) framing: BodyFraming,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) is_http10: bool,
    pub(super) is_head: bool,
}

/// Limits of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    pub(super) bytes: usize,
    /// Number of headers.
    pub(super) headers: usize,
}

/// The last valid `Host`: most requests have the same.
#[derive(Debug, Default)]
pub(super) struct LastHost(RefCell<Vec<u8>>);

impl LastHost {
    /// True if `host` is valid (RFC 9110 §7.2).
    pub(super) fn is_valid(&self, host: &[u8]) -> bool {
        if *self.0.borrow() == host {
            return true; // The empty host is valid, too.
        }
        let is_valid = authority::is_valid_host(host);
        if is_valid && host.len() <= HOST_CACHED_MAX {
            let mut last = self.0.borrow_mut();
            last.clear();
            last.extend_from_slice(host);
        }
        is_valid
    }
}

/// Finds the end of a head as its bytes arrive. Every byte is scanned once. Empty lines before a head are dropped before.
///
/// Decision: docs/decisions/001-request-head-parser.md.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    line_start: usize,
    scanned: usize,
}

/// The result of a [`Scanner`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Length of the head in bytes, the empty line included.
    Complete(usize),
    Partial,
    Rejected(CannedResponse),
}

impl Scanner {
    /// Scans the part of `bytes` that was not scanned yet.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: HeadLimits) -> Scan {
        if bytes.first().is_some_and(|&byte| !may_begin_head(byte)) {
            return Scan::Rejected(canned::BAD_REQUEST);
        }
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let lf = self.scanned + found;
            if lf >= limits.bytes {
                return Scan::Rejected(self.too_long());
            }
            let is_crlf = lf > self.line_start && bytes[lf - 1] == b'\r';
            if !is_crlf {
                return Scan::Rejected(canned::BARE_LINE_FEED);
            }
            if lf - self.line_start == 1 {
                *self = Self::default();
                return Scan::Complete(lf + 1);
            }
            self.line_start = lf + 1;
            self.scanned = lf + 1;
        }
        self.scanned = bytes.len();
        if bytes.len() < limits.bytes {
            return Scan::Partial;
        }
        Scan::Rejected(self.too_long())
    }

    fn too_long(&self) -> CannedResponse {
        if self.line_start == 0 { canned::TARGET_TOO_LONG } else { canned::HEADERS_TOO_LARGE }
    }
}

/// True if a head, or an empty line before one, may begin with `byte`. Other protocols are rejected at once.
fn may_begin_head(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"\r\n!#$%&'*+-.^_`|~".contains(&byte)
}

impl HeadLimits {
    /// Parses a complete head, as found by [`Scanner`].
    ///
    /// # Errors
    /// The response to a head that is malformed, ambiguous or over a limit.
    pub(super) fn parse(self, bytes: &[u8], last_host: &LastHost) -> Result<ParsedHead, CannedResponse> {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_INLINE];
        let mut more_room = Vec::new();
        let room = room.get_mut(..self.headers).unwrap_or_else(|| {
            more_room.resize_with(self.headers, MaybeUninit::uninit);
            &mut more_room
        });
        let mut raw = httparse::Request::new(&mut []);
        match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut raw, bytes, room) {
            Ok(httparse::Status::Complete(_)) => build(&raw, bytes, last_host),
            Ok(httparse::Status::Partial) => Err(canned::BAD_REQUEST),
            Err(httparse::Error::Version) => self.parse_later_minor(bytes, last_host),
            Err(httparse::Error::TooManyHeaders) => Err(canned::TOO_MANY_HEADERS),
            Err(_) => Err(canned::BAD_REQUEST),
        }
    }

    /// Serves a later minor version of HTTP/1 as HTTP/1.1 (RFC 9110 §2.5). Other major versions are rejected.
    fn parse_later_minor(self, bytes: &[u8], last_host: &LastHost) -> Result<ParsedHead, CannedResponse> {
        let line_end = memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
        match bytes[..line_end].last_chunk() {
            Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']) => {
                let mut copy = bytes.to_vec();
                copy[line_end - 1] = b'1';
                self.parse(&copy, last_host)
            }
            // The version is supported, so another part of the head is malformed.
            Some(b"HTTP/1.0" | b"HTTP/1.1") => Err(canned::BAD_REQUEST),
            Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => {
                Err(canned::VERSION_NOT_SUPPORTED)
            }
            _ => Err(canned::BAD_REQUEST),
        }
    }
}

/// Parses the request head in `bytes`, which ends in an empty line, as a connection does, and returns its target.
/// Property tests, fuzzing and benchmarks enter here.
///
/// # Errors
/// The response to a head that is rejected.
pub fn read_target(bytes: &[u8]) -> Result<Uri, CannedResponse> {
    let limits = HeadLimits { bytes: usize::MAX, headers: HEADERS_INLINE };
    match Scanner::default().scan(bytes, limits) {
        Scan::Complete(length) => {
            limits.parse(&bytes[..length], &LastHost::default()).map(|head| head.request.uri().clone())
        }
        Scan::Rejected(response) => Err(response),
        Scan::Partial => Err(canned::BAD_REQUEST),
    }
}

fn build(
    raw: &httparse::Request<'_, '_>,
    bytes: &[u8],
    last_host: &LastHost,
) -> Result<ParsedHead, CannedResponse> {
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(canned::BAD_REQUEST);
    };
    // One allocation, shared by all values of the request.
    let shared = Bytes::copy_from_slice(bytes);
    let slice_of = |value: &[u8]| {
        let start = value.as_ptr() as usize - bytes.as_ptr() as usize;
        shared.slice(start..start + value.len())
    };
    let is_http10 = minor == 0;
    let mut request = Request::new();
    let head = request.head_mut();
    head.method = method_of(method)?;
    head.version = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    // A request has no fragment (RFC 9112 §3.2), and `Uri` would drop it silently.
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(canned::BAD_TARGET);
    }
    head.uri = Uri::from_maybe_shared(slice_of(target.as_bytes())).map_err(|_| canned::BAD_TARGET)?;
    let mut facts = FramingHeaders::default();
    for raw in raw.headers.iter() {
        let name = HeaderName::from_bytes(raw.name.as_bytes()).map_err(|_| canned::BAD_REQUEST)?;
        facts.add(&name, raw.value, last_host)?;
        let value = HeaderValue::from_maybe_shared(slice_of(raw.value)).map_err(|_| canned::BAD_REQUEST)?;
        head.headers.append(name, value);
    }
    let framing = facts.framing(is_http10)?;
    if !is_http10 && facts.hosts == 0 {
        return Err(canned::HOST_MISSING);
    }
    if !is_http10 && facts.has_unknown_expectation {
        return Err(canned::EXPECTATION_FAILED);
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

pub(super) fn method_of(method: &str) -> Result<Method, CannedResponse> {
    // The parser accepts tokens only; a token that this type does not accept is an unknown method.
    Method::from_bytes(method.as_bytes()).map_err(|_| canned::METHOD_UNKNOWN)
}

/// The headers of a request that decide its framing and whether the connection persists.
#[derive(Default)]
pub(super) struct FramingHeaders {
    hosts: u32,
    /// Number of `Content-Length` headers.
    pub(super) lengths: u32,
    pub(super) length: u64,
    has_transfer_encoding: bool,
    encodings: u32,
    is_chunked: bool,
    has_unknown_encoding: bool,
    close: bool,
    keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) has_unknown_expectation: bool,
}

impl FramingHeaders {
    /// Adds one header.
    ///
    /// # Errors
    /// The response to an invalid or repeated `Host`, or an invalid `Content-Length`.
    pub(super) fn add(
        &mut self,
        name: &HeaderName,
        value: &[u8],
        last_host: &LastHost,
    ) -> Result<(), CannedResponse> {
        use actix_http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
        if *name == HOST {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(canned::HOST_TWICE);
            }
            if !last_host.is_valid(value) {
                return Err(canned::HOST_INVALID);
            }
        } else if *name == CONNECTION {
            for token in tokens(value) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == CONTENT_LENGTH {
            self.lengths += 1;
            self.length = length_of(value).ok_or(canned::LENGTH_INVALID)?;
        } else if *name == TRANSFER_ENCODING {
            self.has_transfer_encoding = true;
            for encoding in tokens(value) {
                self.encodings += 1;
                let is_chunked = encoding.eq_ignore_ascii_case(b"chunked");
                self.has_unknown_encoding |= !is_chunked;
                self.is_chunked = is_chunked;
            }
        } else if *name == EXPECT {
            let is_continue = value.eq_ignore_ascii_case(b"100-continue");
            self.expects_continue |= is_continue;
            self.has_unknown_expectation |= !is_continue;
        }
        Ok(())
    }

    /// The body's framing by RFC 9112 §6.3, without what lets a request hide in another's body.
    fn framing(&self, is_http10: bool) -> Result<BodyFraming, CannedResponse> {
        if self.has_transfer_encoding {
            return match self {
                _ if self.lengths > 0 || is_http10 || !self.is_chunked => Err(canned::LENGTH_AMBIGUOUS),
                _ if self.has_unknown_encoding => Err(canned::TRANSFER_CODING_UNKNOWN),
                _ if self.encodings > 1 => Err(canned::LENGTH_AMBIGUOUS),
                _ => Ok(BodyFraming::Chunked),
            };
        }
        match (self.lengths, self.length) {
            (0, _) | (1, 0) => Ok(BodyFraming::Empty),
            (1, length) => Ok(BodyFraming::Length(length)),
            _ => Err(canned::LENGTH_AMBIGUOUS),
        }
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn length_of(value: &[u8]) -> Option<u64> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Headers that are parsed without an allocation: as many as a head may have by default.
const HEADERS_INLINE: usize = 100;

/// Longer hosts are checked every time.
const HOST_CACHED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::target::{SitePath, is_valid_origin};

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, headers: 20 };

    fn status_of(text: &str) -> u16 {
        match Scanner::default().scan(text.as_bytes(), LIMITS) {
            Scan::Complete(length) => match LIMITS.parse(&text.as_bytes()[..length], &LastHost::default()) {
                Ok(_) => 200,
                Err(response) => response.status,
            },
            Scan::Rejected(response) => response.status,
            Scan::Partial => 0,
        }
    }

    fn target(target: &str) -> Result<Uri, CannedResponse> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        read_target(head.as_bytes())
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
    fn a_target_of_another_form_names_no_path_or_is_rejected() {
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
    fn heads_are_accepted_or_rejected_by_rfc_9112() {
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
            ("\r\nGET / HTTP/1.1\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\n", 0),
        ] {
            assert_eq!(status_of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ambiguous_framing_is_rejected() {
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
    fn heads_over_a_limit_are_rejected_by_what_is_too_long() {
        assert_eq!(status_of(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(2000))), 414);
        assert_eq!(status_of(&format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(2000))), 431);
        assert_eq!(status_of(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(21))), 431);
    }

    #[test]
    fn connections_persist_by_version_and_connection_header() {
        for (line, field, expected) in [
            ("HTTP/1.1", "", true),
            ("HTTP/1.1", "Connection: close\r\n", false),
            ("HTTP/1.1", "Connection: x, Close\r\n", false),
            ("HTTP/1.0", "", false),
            ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let text = format!("GET / {line}\r\nHost: x\r\n{field}\r\n");
            assert_eq!(
                LIMITS.parse(text.as_bytes(), &LastHost::default()).ok().unwrap().keep_alive,
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
