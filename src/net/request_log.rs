//! Records requests and responses for the access log, for both protocols, and gives them ids.

use std::borrow::Cow;
use std::time::Instant;

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{HttpMessage, Request, Response};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::config::{LogTarget, LoggingGroup, RequestIds};
use crate::http::digits::hex_digits;
use crate::http::request_id;
use crate::net::{PrerenderedResponse, Socket, WorkerContext};
use crate::sys::random::random_u128;
use crate::telemetry::access_log::record::{AccessLogRecord, LogField};
use crate::telemetry::metrics::exchange::Exchange;

/// True if a line is written to the access log for each request.
pub(crate) fn is_written(logging: &LoggingGroup) -> bool {
    !matches!(logging.access_log, LogTarget::Off)
}

/// True if responses carry the request id.
fn sends_ids(logging: &LoggingGroup) -> bool {
    match logging.request_ids {
        RequestIds::Auto => is_written(logging),
        RequestIds::On => true,
        RequestIds::Off => false,
    }
}

/// True if anything is recorded of each request.
pub(super) fn is_on(logging: &LoggingGroup) -> bool {
    is_written(logging) || sends_ids(logging)
}

/// Begins the record of a request on `socket`, before the App is called, if anything is recorded.
pub(super) fn record(context: &WorkerContext, exchange: &Exchange, request: &Request, socket: &Socket) {
    if is_on(&context.settings().logging) {
        exchange.record.set(Some(record_of_request(context, request, socket)));
    }
}

#[inline(never)]
fn record_of_request(context: &WorkerContext, request: &Request, socket: &Socket) -> Box<AccessLogRecord> {
    let headers = request.headers();
    let connection_peer = context.limits.connection_peer(socket.peer, headers);
    let ids = || [single(headers, &X_REQUEST_ID), single(headers, &TRACEPARENT)];
    let mut record = new_record(context, socket, connection_peer.is_trusted.then(ids).unwrap_or_default());
    record.client = connection_peer.address;
    if record.is_written {
        record.put(LogField::Method, request.method().as_str().as_bytes());
        put_target(&mut record, request);
        for (field, name) in &REQUEST_HEADERS {
            put_header(&mut record, *field, headers, name);
        }
    }
    record
}

/// Begins the record of bytes that are no acceptable request, if anything is recorded: their first line, and the headers
/// that can be found in them.
pub(super) fn record_rejected(context: &WorkerContext, exchange: &Exchange, head: &[u8], socket: &Socket) {
    if !is_on(&context.settings().logging) {
        return;
    }
    let ids = || [header_in(head, &X_REQUEST_ID), header_in(head, &TRACEPARENT)];
    let ids = context.limits.trusts(socket.peer).then(ids).unwrap_or_default();
    let mut record = new_record(context, socket, ids);
    if record.is_written {
        record.put(LogField::Line, lines_of(head).next().unwrap_or_default());
        for (field, name) in &REQUEST_HEADERS {
            if let Some(value) = header_in(head, name) {
                record.put(*field, value);
            }
        }
    }
    exchange.record.set(Some(record));
}

/// A record with the id that a trusted proxy sent in `X-Request-Id` or `traceparent`, or a new id.
fn new_record(context: &WorkerContext, socket: &Socket, ids: [Option<&[u8]>; 2]) -> Box<AccessLogRecord> {
    let logging = &context.settings().logging;
    let mut record = Box::new(AccessLogRecord::new(socket.peer));
    record.tls = socket.tls_facts();
    let [x_request_id, traceparent] = ids;
    match request_id::given(x_request_id, traceparent) {
        Some(id) => record.put(LogField::Id, id),
        None => record.put(LogField::Id, &hex(random_u128())),
    }
    (record.is_written, record.sends_id) = (is_written(logging), sends_ids(logging));
    record
}

/// Records what the response says of itself, before it is rendered.
pub(super) fn record_response(exchange: &mut Exchange, response: &Response<BoxBody>, now: Instant) {
    let began = exchange.began;
    let Some(record) = exchange.record() else { return };
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
            // The first letter rules out most lines.
            if !matches!(line, [b'c' | b'e', ..]) {
                continue;
            }
            for (field, prefix, _) in &RESPONSE_HEADERS {
                if let Some(value) = line.strip_prefix(*prefix)
                    && record.get(*field).is_none()
                {
                    record.put(*field, value);
                }
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
pub(super) fn id_to_send(exchange: &mut Exchange) -> Option<&[u8]> {
    let record = exchange.record().filter(|record| record.sends_id)?;
    record.get(LogField::Id)
}

/// The header line with the request id, if the response carries it.
pub(super) fn id_line(exchange: &mut Exchange) -> Option<Bytes> {
    let id = id_to_send(exchange)?;
    Some([X_REQUEST_ID.as_str().as_bytes(), b": ", id, b"\r\n"].concat().into())
}

/// The request id as a suffix of log messages. Empty if there is no record.
pub(super) fn id_suffix(exchange: Option<&mut Exchange>) -> String {
    exchange
        .and_then(|exchange| exchange.record()?.get(LogField::Id))
        .map_or_else(String::new, |id| format!(" (request {})", id.escape_ascii()))
}

/// The hexadecimal digits of `number`.
fn hex(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&hex_digits(byte));
    }
    digits
}

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
fn header_in<'a>(head: &'a [u8], name: &HeaderName) -> Option<&'a [u8]> {
    let name = name.as_str().as_bytes();
    lines_of(head).skip(1).find_map(|line| {
        let (known, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":").filter(|_| known.eq_ignore_ascii_case(name))?;
        Some(value.trim_ascii())
    })
}

/// Headers of the request that are recorded.
static REQUEST_HEADERS: [(LogField, HeaderName); 4] = [
    (LogField::Host, header::HOST),
    (LogField::Range, header::RANGE),
    (LogField::Referer, header::REFERER),
    (LogField::UserAgent, header::USER_AGENT),
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
        let make = || (0..5_000).map(|_| hex(random_u128())).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().flatten().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn numbers_are_written_in_hexadecimal() {
        for number in [0, 1, 0x9a, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210 << 64, u128::MAX] {
            assert_eq!(std::str::from_utf8(&hex(number)), Ok(format!("{number:032x}").as_str()));
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
            ("get", None),
        ] {
            assert_eq!(header_in(head, &HeaderName::from_static(name)), expected, "{name}");
        }
    }
}
