//! What is noted of requests and responses for the log, whatever protocol they came by, and the ids by which they are known.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{HttpMessage, Request, Response};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::worker::Worker;
use crate::config::{Config, LogTarget, RequestIds};
use crate::http::request_id;
use crate::net::prerendered::PrerenderedResponse;
use crate::sys::random::random_u128;
use crate::telemetry::access_log::record::{AccessLogRecord, LogField};

/// What is noted of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestLogOptions {
    /// A line is written of it.
    writes: bool,
    /// The response tells its id.
    tells_ids: bool,
}

impl RequestLogOptions {
    /// What `config` says.
    pub(crate) fn of(config: &Config) -> Self {
        let writes = config.logging.access_log != LogTarget::Off;
        let tells_ids = match config.logging.request_ids {
            RequestIds::Auto => writes,
            RequestIds::On => true,
            RequestIds::Off => false,
        };
        Self { writes, tells_ids }
    }

    /// Whether a line is written of each request.
    pub(crate) fn writes(self) -> bool {
        self.writes
    }

    fn is_on(self) -> bool {
        self.writes || self.tells_ids
    }
}

impl<S> Worker<S> {
    /// The note of a request from `peer`, before the App is called; none where nothing is to be noted.
    pub(super) fn note(&self, request: &Request, peer: Option<SocketAddr>) -> Option<Box<AccessLogRecord>> {
        let noting = self.noting.get();
        noting.is_on().then(|| self.note_of(noting, request, peer))
    }

    /// The note of what came from `peer` and could not be read as a request; none where nothing is to be noted.
    pub(super) fn note_of_refused(
        &self,
        head: &[u8],
        peer: Option<SocketAddr>,
    ) -> Option<Box<AccessLogRecord>> {
        let noting = self.noting.get();
        noting.is_on().then(|| self.note_of_head(noting, head, peer))
    }

    /// Whether anything is noted of requests.
    pub(super) fn is_noting(&self) -> bool {
        self.noting.get().is_on()
    }

    #[inline(never)]
    fn note_of(
        &self,
        noting: RequestLogOptions,
        request: &Request,
        peer: Option<SocketAddr>,
    ) -> Box<AccessLogRecord> {
        let mut note = Box::new(AccessLogRecord::new(peer));
        let headers = request.headers();
        let speaker = self.guard.connection_peer(peer, headers);
        note.client = speaker.address;
        if speaker.is_trusted {
            put_id(&mut note, only(headers, &X_REQUEST_ID), only(headers, &TRACEPARENT));
        } else {
            put_id(&mut note, None, None);
        }
        (note.is_written, note.sends_id) = (noting.writes, noting.tells_ids);
        if noting.writes {
            note.put(LogField::Method, request.method().as_str().as_bytes());
            put_target(&mut note, request);
            for (part, name) in [
                (LogField::Host, header::HOST),
                (LogField::Range, header::RANGE),
                (LogField::Referer, header::REFERER),
            ] {
                put_field(&mut note, part, headers, &name);
            }
            put_field(&mut note, LogField::UserAgent, headers, &header::USER_AGENT);
        }
        note
    }

    /// What can be read of a head that is malformed or too long: its first line, and fields that are where they belong.
    fn note_of_head(
        &self,
        noting: RequestLogOptions,
        head: &[u8],
        peer: Option<SocketAddr>,
    ) -> Box<AccessLogRecord> {
        let mut note = Box::new(AccessLogRecord::new(peer));
        let field = |name: &str| field_in(head, name);
        if self.guard.trusts(peer) {
            put_id(&mut note, field("x-request-id"), field("traceparent"));
        } else {
            put_id(&mut note, None, None);
        }
        (note.is_written, note.sends_id) = (noting.writes, noting.tells_ids);
        if noting.writes {
            let line = lines_of(head).next().unwrap_or_default();
            note.put(LogField::Line, line);
            for (part, name) in [
                (LogField::Host, "host"),
                (LogField::Range, "range"),
                (LogField::Referer, "referer"),
                (LogField::UserAgent, "user-agent"),
            ] {
                if let Some(value) = field(name) {
                    note.put(part, value);
                }
            }
        }
        note
    }
}

/// Notes what the response says of itself, as it was made: before it is rendered.
pub(super) fn answered(
    note: &mut AccessLogRecord,
    response: &Response<BoxBody>,
    began: Instant,
    now: Instant,
) {
    note.lookup = now.saturating_duration_since(began);
    if !note.is_written {
        return;
    }
    let headers = response.headers();
    for (part, name) in PARTS_OF_RESPONSE {
        put_field(note, part, headers, &name);
    }
    if let Some(ready) = response.extensions().get::<PrerenderedResponse>() {
        note.cached = ready.cached;
        ready.each_line(|line| {
            let told = |(part, name): &(LogField, &[u8])| Some((*part, line.strip_prefix(*name)?));
            // Most lines are told from these by their first letter.
            if let [b'c' | b'e', ..] = line
                && let Some((part, value)) = LINES_OF_RESPONSE.iter().find_map(told)
                && note.get(part).is_none()
            {
                note.put(part, value);
            }
        });
    }
}

/// How many bytes of `response` are content that is rendered with its head: none where it is made while it is sent.
pub(super) fn content_length(response: &Response<BoxBody>, is_head: bool) -> u64 {
    let status = response.status().as_u16();
    match response.body().size() {
        _ if is_head || matches!(status, 100..200 | 204 | 304) => 0,
        BodySize::Sized(length) => length,
        BodySize::None | BodySize::Stream => 0,
    }
}

/// The id of the request, where its response is to tell it.
pub(super) fn id_to_tell(note: &AccessLogRecord) -> Option<&[u8]> {
    note.get(LogField::Id).filter(|_| note.sends_id)
}

/// The field line by which the response tells the request's id, where it is to.
pub(super) fn id_line(note: &AccessLogRecord) -> Option<Bytes> {
    let id = id_to_tell(note)?;
    Some([X_REQUEST_ID.as_str().as_bytes(), b": ", id, b"\r\n"].concat().into())
}

/// The request's id as the diagnostics tell it, behind what is said of it.
pub(super) fn told_id(note: &AccessLogRecord) -> String {
    note.get(LogField::Id).map_or_else(String::new, |id| format!(" (request {})", id.escape_ascii()))
}

/// The id that came with the request, or a new one.
fn put_id(note: &mut AccessLogRecord, x_request_id: Option<&[u8]>, traceparent: Option<&[u8]>) {
    match request_id::given(x_request_id, traceparent) {
        Some(id) => note.put(LogField::Id, id),
        None => note.put(LogField::Id, &new_id()),
    }
}

/// 128 bits that nobody can guess and no other request has, in hexadecimal.
fn new_id() -> [u8; 32] {
    let number = random_u128();
    let mut id = [0; 32];
    for (half, number) in id.chunks_exact_mut(16).zip([(number >> 64) as u64, number as u64]) {
        half.copy_from_slice(&hex(number));
    }
    id
}

/// The digits of `number`, all at once: each becomes a byte, and then that of its character.
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

fn put_target(note: &mut AccessLogRecord, request: &Request) {
    let uri = request.uri();
    match uri.path_and_query() {
        Some(target) if uri.scheme().is_none() => {
            note.put(LogField::Target, without_signature(target.as_str()).as_bytes());
        }
        _ => note.put(LogField::Target, without_signature(&uri.to_string()).as_bytes()),
    }
}

/// A target without the signature of a link: whoever reads the log could use the link as well.
fn without_signature(target: &str) -> Cow<'_, str> {
    let is_signature = |parameter: &str| parameter.starts_with("sig=");
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    if !query.split('&').any(is_signature) {
        return target.into();
    }
    let hide = |parameter| if is_signature(parameter) { "sig=(hidden)" } else { parameter };
    format!("{path}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&")).into()
}

fn put_field(note: &mut AccessLogRecord, part: LogField, headers: &HeaderMap, name: &HeaderName) {
    if let Some(value) = headers.get(name) {
        note.put(part, value.as_bytes());
    }
}

/// The value of a field of one line; none where several contradict each other.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name);
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

fn lines_of(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The value of the first line of a field, as far as one can tell in a head that is not to be relied on.
fn field_in<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = lines_of(head).skip(1).find_map(|line| {
        let (known, rest) = line.split_at_checked(name.len())?;
        known.eq_ignore_ascii_case(name.as_bytes()).then(|| rest.strip_prefix(b":")).flatten()
    })?;
    Some(value.trim_ascii())
}

const PARTS_OF_RESPONSE: [(LogField, HeaderName); 3] = [
    (LogField::Etag, header::ETAG),
    (LogField::ContentEncoding, header::CONTENT_ENCODING),
    (LogField::ContentRange, header::CONTENT_RANGE),
];

/// The same as they are rendered.
const LINES_OF_RESPONSE: [(LogField, &[u8]); 3] = [
    (LogField::Etag, b"etag: "),
    (LogField::ContentEncoding, b"content-encoding: "),
    (LogField::ContentRange, b"content-range: "),
];

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn signatures_of_links_are_left_out_of_targets() {
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
    fn new_ids_are_hexadecimal_and_no_two_are_the_same_in_any_thread() {
        let make = || (0..5_000).map(|_| new_id()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().flatten().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn numbers_are_told_in_hexadecimal() {
        for number in [0, 1, 0x9a, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(std::str::from_utf8(&hex(number)), Ok(format!("{number:016x}").as_str()));
        }
    }

    #[test]
    fn fields_are_found_in_heads_that_are_not_to_be_relied_on() {
        let head = b"GET / HTTP/1.1\r\nUser-Agent:  a b \r\nhost:x\nReferer\r\nHost: y\r\nBroken";
        for (name, expected) in [
            ("user-agent", Some(&b"a b"[..])),
            ("host", Some(b"x")),
            ("referer", None),
            ("broken", None),
            ("get / http/1.1", None),
        ] {
            assert_eq!(field_in(head, name), expected, "{name}");
        }
    }
}
