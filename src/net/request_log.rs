//! Records requests and responses for the access log, for both protocols, and gives them ids.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{HttpMessage, Request, Response};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::config::{Config, LogTarget, RequestIds};
use crate::http::request_id;
use crate::limits::client_limits::Limits;
use crate::net::PrerenderedResponse;
use crate::sys::random::random_u128;
use crate::telemetry::access_log::record::{AccessLogRecord, LogField};

/// What is recorded of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestLogOptions {
    /// A line is written to the access log.
    pub(crate) is_written: bool,
    /// The response carries the request id.
    sends_ids: bool,
}

impl RequestLogOptions {
    /// Takes the options from `config`.
    pub(crate) fn of(config: &Config) -> Self {
        let is_written = config.logging.access_log != LogTarget::Off;
        let sends_ids = match config.logging.request_ids {
            RequestIds::Auto => is_written,
            RequestIds::On => true,
            RequestIds::Off => false,
        };
        Self { is_written, sends_ids }
    }

    /// True if anything is recorded.
    pub(super) fn is_on(self) -> bool {
        self.is_written || self.sends_ids
    }
}

impl RequestLogOptions {
    /// The record of a request from `peer`, before the App is called. `None` if nothing is recorded.
    pub(super) fn record(
        self,
        request: &Request,
        peer: Option<SocketAddr>,
        limits: &Limits,
    ) -> Option<Box<AccessLogRecord>> {
        self.is_on().then(|| self.record_of_request(request, peer, limits))
    }

    /// The record of bytes from `peer` that are no acceptable request. `None` if nothing is recorded.
    pub(super) fn record_rejected(
        self,
        head: &[u8],
        peer: Option<SocketAddr>,
        limits: &Limits,
    ) -> Option<Box<AccessLogRecord>> {
        self.is_on().then(|| self.record_of_rejected(head, peer, limits))
    }

    #[inline(never)]
    fn record_of_request(
        self,
        request: &Request,
        peer: Option<SocketAddr>,
        limits: &Limits,
    ) -> Box<AccessLogRecord> {
        let headers = request.headers();
        let connection_peer = limits.connection_peer(peer, headers);
        let ids = || [single(headers, &X_REQUEST_ID), single(headers, &TRACEPARENT)];
        let mut record = self.new_record(peer, connection_peer.is_trusted.then(ids));
        record.client = connection_peer.address;
        if self.is_written {
            record.put(LogField::Method, request.method().as_str().as_bytes());
            put_target(&mut record, request);
            for (field, _, name) in &REQUEST_HEADERS {
                put_header(&mut record, *field, headers, name);
            }
        }
        record
    }

    /// Records the first line of a head that is malformed or too long, and the headers that can be found in it.
    fn record_of_rejected(
        self,
        head: &[u8],
        peer: Option<SocketAddr>,
        limits: &Limits,
    ) -> Box<AccessLogRecord> {
        let ids = || [header_in(head, "x-request-id"), header_in(head, "traceparent")];
        let mut record = self.new_record(peer, limits.trusts(peer).then(ids));
        if self.is_written {
            record.put(LogField::Line, lines_of(head).next().unwrap_or_default());
            for (field, name, _) in &REQUEST_HEADERS {
                if let Some(value) = header_in(head, name) {
                    record.put(*field, value);
                }
            }
        }
        record
    }

    /// A record with the id that a trusted proxy sent in `X-Request-Id` or `traceparent`, or a new id.
    fn new_record(self, peer: Option<SocketAddr>, ids: Option<[Option<&[u8]>; 2]>) -> Box<AccessLogRecord> {
        let mut record = Box::new(AccessLogRecord::new(peer));
        let [x_request_id, traceparent] = ids.unwrap_or_default();
        match request_id::given(x_request_id, traceparent) {
            Some(id) => record.put(LogField::Id, id),
            None => record.put(LogField::Id, &new_id()),
        }
        (record.is_written, record.sends_id) = (self.is_written, self.sends_ids);
        record
    }
}

/// Records what the response says of itself, before it is rendered.
pub(super) fn record_response(
    record: &mut AccessLogRecord,
    response: &Response<BoxBody>,
    began: Instant,
    now: Instant,
) {
    record.lookup = now.saturating_duration_since(began);
    if !record.is_written {
        return;
    }
    let headers = response.headers();
    for (field, _, name) in &RESPONSE_HEADERS {
        put_header(record, *field, headers, name);
    }
    if let Some(prerendered) = response.extensions().get::<PrerenderedResponse>() {
        record.cached = prerendered.cache_result;
        for line in prerendered.lines() {
            let matching = |(field, prefix, _): &(LogField, &[u8], HeaderName)| {
                Some((*field, line.strip_prefix(*prefix)?))
            };
            // The first letter rules out most lines.
            if let [b'c' | b'e', ..] = line
                && let Some((field, value)) = RESPONSE_HEADERS.iter().find_map(matching)
                && record.get(field).is_none()
            {
                record.put(field, value);
            }
        }
    }
}

/// Bytes of content that are rendered with the head of `response`. 0 if the body is generated while it is sent.
pub(super) fn content_length(response: &Response<BoxBody>, is_head: bool) -> u64 {
    let status = response.status().as_u16();
    match response.body().size() {
        _ if is_head || matches!(status, 100..200 | 204 | 304) => 0,
        BodySize::Sized(length) => length,
        BodySize::None | BodySize::Stream => 0,
    }
}

/// The request id, if the response carries it.
pub(super) fn id_to_send(record: &AccessLogRecord) -> Option<&[u8]> {
    record.get(LogField::Id).filter(|_| record.sends_id)
}

/// The header line with the request id, if the response carries it.
pub(super) fn id_line(record: &AccessLogRecord) -> Option<Bytes> {
    let id = id_to_send(record)?;
    Some([X_REQUEST_ID.as_str().as_bytes(), b": ", id, b"\r\n"].concat().into())
}

/// The request id as a suffix of log messages. Empty if there is no record.
pub(super) fn id_suffix(record: Option<&AccessLogRecord>) -> String {
    record
        .and_then(|record| record.get(LogField::Id))
        .map_or_else(String::new, |id| format!(" (request {})", id.escape_ascii()))
}

/// 128 random bits in hexadecimal.
fn new_id() -> [u8; 32] {
    let number = random_u128();
    let mut id = [0; 32];
    for (half, number) in id.chunks_exact_mut(16).zip([(number >> 64) as u64, number as u64]) {
        half.copy_from_slice(&hex(number));
    }
    id
}

/// The hexadecimal digits of `number`, computed all at once: each becomes a byte, then its character.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = u128::from(number);
    for (shift, mask) in SPREAD {
        digits = (digits | digits << shift) & mask;
    }
    // A digit above 9 has its fifth bit set once 6 is added.
    let letters = (digits + EACH * 6) >> 4 & EACH;
    (digits + EACH * u128::from(b'0') + letters * u128::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// One in each byte.
const EACH: u128 = u128::MAX / 0xff;

/// How the digits of 64 bits are spread over 128.
const SPREAD: [(u32, u128); 4] = [
    (32, 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff),
    (16, 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff),
    (8, 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff),
    (4, 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f),
];

fn put_target(record: &mut AccessLogRecord, request: &Request) {
    let uri = request.uri();
    match uri.path_and_query() {
        Some(target) if uri.scheme().is_none() => {
            record.put(LogField::Target, without_signature(target.as_str()).as_bytes());
        }
        _ => record.put(LogField::Target, without_signature(&uri.to_string()).as_bytes()),
    }
}

/// The target without the signature of a signed URL: readers of the log could use the URL as well.
fn without_signature(target: &str) -> Cow<'_, str> {
    let is_signature = |parameter: &str| parameter.starts_with("sig=");
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    if !query.split('&').any(is_signature) {
        return target.into();
    }
    let hide = |parameter| if is_signature(parameter) { "sig=(hidden)" } else { parameter };
    format!("{path}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&")).into()
}

fn put_header(record: &mut AccessLogRecord, field: LogField, headers: &HeaderMap, name: &HeaderName) {
    if let Some(value) = headers.get(name) {
        record.put(field, value.as_bytes());
    }
}

/// The value of a header that occurs once. `None` if it is repeated.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name);
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

fn lines_of(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The value of the first header `name` in a head that may be malformed.
fn header_in<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = lines_of(head).skip(1).find_map(|line| {
        let (known, rest) = line.split_at_checked(name.len())?;
        known.eq_ignore_ascii_case(name.as_bytes()).then(|| rest.strip_prefix(b":")).flatten()
    })?;
    Some(value.trim_ascii())
}

/// Headers of the request that are recorded.
static REQUEST_HEADERS: [(LogField, &str, HeaderName); 4] = [
    (LogField::Host, "host", header::HOST),
    (LogField::Range, "range", header::RANGE),
    (LogField::Referer, "referer", header::REFERER),
    (LogField::UserAgent, "user-agent", header::USER_AGENT),
];

/// Headers of the response that are recorded, as they are rendered and as they stand in a map.
static RESPONSE_HEADERS: [(LogField, &[u8], HeaderName); 3] = [
    (LogField::Etag, b"etag: ", header::ETAG),
    (LogField::ContentEncoding, b"content-encoding: ", header::CONTENT_ENCODING),
    (LogField::ContentRange, b"content-range: ", header::CONTENT_RANGE),
];

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn signatures_are_removed_from_targets() {
        for (target, expected) in [
            ("/a", "/a"),
            ("/a?b=sig=c", "/a?b=sig=c"),
            ("/sig=a", "/sig=a"),
            ("/a?expires=1&key=k&sig=abc", "/a?expires=1&key=k&sig=(hidden)"),
            ("/a?sig=abc&sig=&b", "/a?sig=(hidden)&sig=(hidden)&b"),
            ("http://x/a?sig=abc", "http://x/a?sig=(hidden)"),
        ] {
            assert_eq!(without_signature(target), expected);
        }
    }

    #[test]
    fn new_ids_are_hexadecimal_and_unique_across_threads() {
        let make = || (0..5_000).map(|_| new_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().flatten().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn numbers_are_written_in_hexadecimal() {
        for number in [0, 1, 0x9a, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(std::str::from_utf8(&hex(number)), Ok(format!("{number:016x}").as_str()));
        }
    }

    #[test]
    fn headers_are_found_in_malformed_heads() {
        let head = b"GET / HTTP/1.1\r\nUser-Agent:  a b \r\nhost:x\nReferer\r\nHost: y\r\nBroken";
        for (name, expected) in [
            ("user-agent", Some(&b"a b"[..])),
            ("host", Some(b"x")),
            ("referer", None),
            ("broken", None),
            ("get / http/1.1", None),
        ] {
            assert_eq!(header_in(head, name), expected, "{name}");
        }
    }
}
