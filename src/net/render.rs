//! A response becomes bytes and segments, as RFC 9112 frames them.

use std::rc::Rc;
use std::time::Instant;

use actix_http::header::{self, HeaderMap, HeaderName};
use actix_http::{Response, StatusCode};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};

use super::send::SendQueue;
use crate::net::prerendered::{PrerenderedBody, PrerenderedResponse};
use crate::net::status_line::{ConnectionHeader, Prefixes};

/// What the request says about how its response is framed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Framing {
    pub(crate) is_head: bool,
    pub(crate) is_http10: bool,
    pub(crate) keep_alive: bool,
}

/// What is left to do once a response's head is in the outbox.
pub(crate) enum AfterHead {
    Nothing,
    /// The body comes as it is made.
    Stream(BoxBody, StreamFraming),
}

/// How a body that comes as it is made is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFraming {
    Length(u64),
    Chunked,
    /// HTTP/1.0: the body ends with the connection.
    UntilClose,
}

/// Puts `response` into `outbox`, with one more field line where there is one.
pub(crate) fn render(
    response: Response<BoxBody>,
    more: Option<Bytes>,
    manner: Framing,
    prefixes: &Prefixes,
    now: Instant,
    outbox: &mut SendQueue,
) -> AfterHead {
    let ResponseParts { response, ready, is_unchanged, bytes, body } = take_apart(response);
    let status = response.status();
    let ends_by_close = manner.is_http10 && bytes.is_none() && body.size() == BodySize::Stream;
    let persistence = persistence(Framing { keep_alive: manner.keep_alive && !ends_by_close, ..manner });
    outbox.push(prefixes.lines(now, status, persistence).into());
    if let Some(more) = more {
        outbox.push(more.into());
    }
    let Some(ready) = ready else {
        return plain(&response, bytes, body, manner, outbox);
    };
    if !is_unchanged {
        let kept =
            fields_without(&ready, |name| describes_body(name) || response.headers().contains_key(name));
        outbox.push(kept.freeze().into());
        return plain(&response, bytes, body, manner, outbox);
    }
    drop(body);
    as_rendered(ready, response.headers(), outbox);
    AfterHead::Nothing
}

/// What a response consists of.
pub(super) struct ResponseParts {
    pub(super) response: Response<()>,
    /// What was rendered beforehand.
    pub(super) ready: Option<PrerenderedResponse>,
    /// Whether all of that still holds: neither status nor body were changed since.
    pub(super) is_unchanged: bool,
    /// The body, where it is in one piece; else it is in `body`.
    pub(super) bytes: Option<Bytes>,
    pub(super) body: BoxBody,
}

/// Takes a response apart.
pub(super) fn take_apart(response: Response<BoxBody>) -> ResponseParts {
    let (mut response, body) = response.into_parts();
    let ready = response.extensions_mut().remove::<PrerenderedResponse>();
    let (bytes, body) = match body.try_into_bytes() {
        Ok(bytes) => (Some(bytes), BoxBody::new(())),
        Err(body) => (None, body),
    };
    let status = response.status();
    let is_unchanged = ready.as_ref().is_some_and(|ready| ready.is_unchanged(status, &body, bytes.as_ref()));
    ResponseParts { response, ready, is_unchanged, bytes, body }
}

/// How long the body of a response is whose fields are all in its map; none where there is no such body by its status.
pub(super) fn length_of(status: StatusCode, bytes: Option<&Bytes>, body: &BoxBody) -> Option<BodySize> {
    let has_no_body =
        status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let size = || bytes.map_or_else(|| body.size(), |bytes| BodySize::Sized(bytes.len() as u64));
    (!has_no_body).then(size).map(|size| if size == BodySize::None { BodySize::Sized(0) } else { size })
}

/// A response of fixed text, made by the connection itself, with one more field line where there is one.
pub(crate) fn refuse(
    (status, sentence): (StatusCode, &'static str),
    more: Option<Bytes>,
    is_head: bool,
    prefixes: &Prefixes,
    now: Instant,
    outbox: &mut SendQueue,
) {
    outbox.push(prefixes.lines(now, status, ConnectionHeader::Close).into());
    if let Some(more) = more {
        outbox.push(more.into());
    }
    let length = sentence.len();
    let retry = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    outbox.push(
        Bytes::from(format!(
            "{retry}content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
             content-length: {length}\r\n\r\n"
        ))
        .into(),
    );
    if !is_head {
        outbox.push(Bytes::from_static(sentence.as_bytes()).into());
    }
}

/// The frame around a chunk of `length` bytes.
pub(crate) fn chunk_size_line(length: usize) -> Bytes {
    Bytes::from(format!("{length:x}\r\n"))
}

fn persistence(manner: Framing) -> ConnectionHeader {
    match manner {
        Framing { keep_alive: false, .. } => ConnectionHeader::Close,
        Framing { is_http10: true, .. } => ConnectionHeader::KeepAlive,
        Framing { .. } => ConnectionHeader::Implied,
    }
}

fn as_rendered(ready: PrerenderedResponse, added: &HeaderMap, outbox: &mut SendQueue) {
    if added.is_empty() {
        if !ready.lead.is_empty() {
            outbox.push(Bytes::from(ready.lead).into());
        }
        outbox.push(ready.block.into());
        outbox.push(ready.tail.into());
    } else {
        let mut lines = fields_without(&ready, |name| added.contains_key(name));
        put_fields(&mut lines, added, |_| true);
        lines.put_slice(b"\r\n");
        outbox.push(lines.freeze().into());
        outbox.push(ready.block.slice(ready.body_at..).into());
    }
    if let PrerenderedBody::Segments(segments) = ready.content
        && let Ok(segments) = Rc::try_unwrap(segments)
    {
        segments.into_list().into_iter().for_each(|segment| outbox.push(segment));
    }
}

/// A response whose fields are all in its map.
fn plain(
    response: &Response<()>,
    bytes: Option<Bytes>,
    body: BoxBody,
    manner: Framing,
    outbox: &mut SendQueue,
) -> AfterHead {
    let mut lines = BytesMut::with_capacity(256);
    put_fields(&mut lines, response.headers(), |name| !is_framing(name));
    let framing = length_of(response.status(), bytes.as_ref(), &body).map(|size| match size {
        BodySize::None => StreamFraming::Length(0),
        BodySize::Sized(length) => StreamFraming::Length(length),
        BodySize::Stream if manner.is_http10 => StreamFraming::UntilClose,
        BodySize::Stream => StreamFraming::Chunked,
    });
    match framing {
        Some(StreamFraming::Length(length)) => {
            lines.put_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Some(StreamFraming::Chunked) => lines.put_slice(b"transfer-encoding: chunked\r\n"),
        Some(StreamFraming::UntilClose) | None => {}
    }
    lines.put_slice(b"\r\n");
    outbox.push(lines.freeze().into());
    match framing {
        None => AfterHead::Nothing,
        Some(_) if manner.is_head => AfterHead::Nothing,
        Some(framing) => match bytes {
            Some(bytes) => {
                outbox.push(bytes.into());
                AfterHead::Nothing
            }
            None if framing == StreamFraming::Length(0) => AfterHead::Nothing,
            None => AfterHead::Stream(body, framing),
        },
    }
}

/// The rendered field lines but those whose name is `unwanted`; no empty line.
fn fields_without(ready: &PrerenderedResponse, unwanted: impl Fn(&HeaderName) -> bool) -> BytesMut {
    let mut kept = BytesMut::with_capacity(ready.body_at + ready.tail.len() + 64);
    let rendered = ready.block[..ready.body_at].split_inclusive(|byte| *byte == b'\n');
    for line in ready
        .lead
        .split_inclusive(|byte| *byte == b'\n')
        .chain(rendered)
        .chain(ready.tail.split_inclusive(|byte| *byte == b'\n'))
    {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_wanted = HeaderName::from_bytes(name).is_ok_and(|name| !unwanted(&name));
        if is_wanted && line.len() > 2 {
            kept.put_slice(line);
        }
    }
    kept
}

fn put_fields(lines: &mut BytesMut, fields: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in fields.iter().filter(|(name, _)| wanted(name)) {
        lines.put_slice(name.as_str().as_bytes());
        lines.put_slice(b": ");
        lines.put_slice(value.as_bytes());
        lines.put_slice(b"\r\n");
    }
}

/// Fields that belong to the connection and are written by it alone.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    [header::CONNECTION, header::CONTENT_LENGTH, header::DATE, header::TRANSFER_ENCODING].contains(name)
}

/// Fields that are wrong once the body is another.
pub(super) fn describes_body(name: &HeaderName) -> bool {
    let names = [
        header::ACCEPT_RANGES,
        header::CONTENT_DISPOSITION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::ETAG,
        header::LAST_MODIFIED,
    ];
    names.contains(name) || matches!(name.as_str(), "content-digest" | "repr-digest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::prerendered::PacedResponse;
    use crate::net::segments::Segments;
    use actix_web::HttpResponse;
    use actix_web::http::header::HeaderValue;

    const MANNER: Framing = Framing { is_head: false, is_http10: false, keep_alive: true };

    fn ready() -> HttpResponse {
        let block =
            Bytes::from_static(b"etag: \"x\"\r\ncontent-type: text/css\r\ncontent-length: 4\r\n\r\nbody");
        PrerenderedResponse::inline(StatusCode::OK, block, 54, None)
    }

    fn text(response: HttpResponse) -> String {
        let mut outbox = SendQueue::new(crate::http::client_key::ClientKey::Local);
        render(Response::from(response), None, MANNER, &Prefixes::new(), Instant::now(), &mut outbox);
        let text = String::from_utf8(outbox.bytes_for_tests()).unwrap();
        text.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_ready_response_goes_out_as_it_was_rendered() {
        assert_eq!(
            text(ready()),
            "HTTP/1.1 200 OK|etag: \"x\"|content-type: text/css|content-length: 4||body"
        );
    }

    #[test]
    fn a_field_that_a_middleware_adds_goes_out_and_one_it_sets_takes_the_place_of_the_rendered_one() {
        let mut response = ready();
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
        response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"y\""));
        let text = text(response);
        assert!(text.contains("|vary: origin|") && text.contains("|etag: \"y\"|"), "{text}");
        assert!(!text.contains("\"x\""), "{text}");
        assert!(text.ends_with("||body"), "{text}");
    }

    #[test]
    fn a_body_that_a_middleware_replaces_takes_its_description_along() {
        let response = ready().map_body(|_, _| BoxBody::new("other"));
        assert_eq!(text(response), "HTTP/1.1 200 OK||content-length: 5||other".replacen("||", "|", 1));
    }

    #[test]
    fn a_status_that_a_middleware_changes_goes_out_changed() {
        let mut response = ready();
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        assert!(text(response).starts_with("HTTP/1.1 418 I'm a teapot|"));
    }

    #[test]
    fn segments_are_known_again_until_their_body_is_dropped() {
        let mut segments = Segments::default();
        segments.push(Bytes::from_static(b"one").into());
        let make = || {
            let mut segments = Segments::default();
            segments.push(Bytes::from_static(b"one").into());
            let block = Bytes::from_static(b"content-length: 3\r\n");
            PrerenderedResponse::segments(
                StatusCode::OK,
                block,
                Bytes::from_static(b"\r\n"),
                segments,
                PacedResponse(None),
            )
        };
        assert_eq!(text(make()), "HTTP/1.1 200 OK|content-length: 3||one");
        assert_eq!(
            text(make().map_body(|_, _| BoxBody::new("two"))),
            "HTTP/1.1 200 OK|content-length: 3||two"
        );
        assert_eq!(segments.length(), 3);
    }
}
