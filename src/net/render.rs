//! Renders responses as HTTP/1.1 frames them (RFC 9112): bytes and segments in the send queue.

use std::rc::Rc;

use actix_http::header::{HeaderMap, HeaderName};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};

use crate::net::{
    PrerenderedBody, PrerenderedResponse, ResponseParts, SendQueue, describes_body, is_framing,
};

/// Facts of the request that decide the framing of its response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    pub(super) is_head: bool,
    pub(super) is_http10: bool,
    pub(super) keep_alive: bool,
}

/// A body that is generated while it is sent.
pub(super) type GeneratedBody = (BoxBody, StreamFraming);

/// The framing of a [`GeneratedBody`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFraming {
    Length(u64),
    Chunked,
    /// HTTP/1.0: the body ends with the connection.
    UntilClose,
}

impl Framing {
    /// The `Connection` header of the response in `parts`. Empty: HTTP/1.1 connections persist by default.
    pub(super) fn connection_line(self, parts: &ResponseParts) -> &'static str {
        let ends_by_close = || parts.bytes.is_none() && parts.body.size() == BodySize::Stream;
        match self {
            Self { keep_alive: false, .. } => CLOSE,
            Self { is_http10: false, .. } => "",
            _ if ends_by_close() => CLOSE,
            _ => "connection: keep-alive\r\n",
        }
    }
}

/// Puts a response into `queue`, behind its first lines. Returns a body that is generated while it is sent.
pub(super) fn render(
    mut parts: ResponseParts,
    framing: Framing,
    queue: &mut SendQueue,
) -> Option<GeneratedBody> {
    match parts.prerendered.take() {
        Some(prerendered) if parts.is_unchanged => {
            let ResponseParts { response, body, .. } = parts;
            // The segments of the body are shared with it until it is dropped.
            drop(body);
            render_prerendered(prerendered, response.headers(), queue);
            return None;
        }
        Some(prerendered) => {
            let added = parts.response.headers();
            let kept = lines_without(&prerendered, |name| describes_body(name) || added.contains_key(name));
            queue.push(kept.freeze());
        }
        None => {}
    }
    render_plain(parts, framing, queue)
}

/// A prerendered response to which a middleware has at most added headers.
fn render_prerendered(prerendered: PrerenderedResponse, added: &HeaderMap, queue: &mut SendQueue) {
    if added.is_empty() {
        if !prerendered.extra_headers.is_empty() {
            queue.push(Bytes::from(prerendered.extra_headers));
        }
        queue.push(prerendered.block);
        queue.push(prerendered.tail);
    } else {
        let mut lines = lines_without(&prerendered, |name| added.contains_key(name));
        put_headers(&mut lines, added, |_| true);
        lines.put_slice(b"\r\n");
        queue.push(lines.freeze());
        queue.push(prerendered.block.slice(prerendered.body_at..));
    }
    if let PrerenderedBody::Segments(segments) = prerendered.body
        && let Ok(segments) = Rc::try_unwrap(segments)
    {
        segments.list.into_iter().for_each(|segment| queue.push(segment));
    }
}

/// A response whose headers are in its map.
fn render_plain(parts: ResponseParts, framing: Framing, queue: &mut SendQueue) -> Option<GeneratedBody> {
    let mut lines = BytesMut::with_capacity(256);
    put_headers(&mut lines, parts.response.headers(), |name| !is_framing(name));
    let (line, body_framing) = match parts.body_size() {
        None => (String::new(), StreamFraming::Length(0)),
        Some(BodySize::Stream) if framing.is_http10 => (String::new(), StreamFraming::UntilClose),
        Some(BodySize::Stream) => ("transfer-encoding: chunked\r\n".to_owned(), StreamFraming::Chunked),
        Some(BodySize::Sized(length)) => {
            (format!("content-length: {length}\r\n"), StreamFraming::Length(length))
        }
        Some(BodySize::None) => ("content-length: 0\r\n".to_owned(), StreamFraming::Length(0)),
    };
    lines.put_slice(line.as_bytes());
    lines.put_slice(b"\r\n");
    queue.push(lines.freeze());
    match parts.bytes {
        _ if framing.is_head || body_framing == StreamFraming::Length(0) => None,
        None => Some((parts.body, body_framing)),
        Some(bytes) => {
            queue.push(bytes);
            None
        }
    }
}

/// The rendered header lines except those whose name is `unwanted`, without the empty line.
pub(super) fn lines_without(
    prerendered: &PrerenderedResponse,
    unwanted: impl Fn(&HeaderName) -> bool,
) -> BytesMut {
    let mut kept = BytesMut::with_capacity(prerendered.body_at + prerendered.tail.len() + 64);
    for line in prerendered.lines() {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if HeaderName::from_bytes(name).is_ok_and(|name| !unwanted(&name)) {
            kept.put_slice(line);
            kept.put_slice(b"\r\n");
        }
    }
    kept
}

fn put_headers(lines: &mut BytesMut, headers: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    for (name, value) in headers.iter().filter(|(name, _)| wanted(name)) {
        lines.put_slice(name.as_str().as_bytes());
        lines.put_slice(b": ");
        lines.put_slice(value.as_bytes());
        lines.put_slice(b"\r\n");
    }
}

const CLOSE: &str = "connection: close\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::StatusLines;
    use crate::net::prerendered::PacedResponse;
    use crate::net::segments::Segments;
    use actix_http::{Response, StatusCode};
    use actix_web::HttpResponse;
    use actix_web::http::header;
    use std::time::Instant;

    const FRAMING: Framing = Framing { is_head: false, is_http10: false, keep_alive: true };

    fn prerendered() -> HttpResponse {
        let block =
            Bytes::from_static(b"etag: \"x\"\r\ncontent-type: text/css\r\ncontent-length: 4\r\n\r\nbody");
        PrerenderedResponse::inline(StatusCode::OK, block, 54, None)
    }

    fn text(response: HttpResponse) -> String {
        let mut queue = SendQueue::new(crate::http::client_key::ClientKey::Local);
        let parts = ResponseParts::of(Response::from(response));
        let connection = FRAMING.connection_line(&parts);
        queue.push(StatusLines::new().lines(Instant::now(), parts.response.status(), connection));
        render(parts, FRAMING, &mut queue);
        let text = String::from_utf8(queue.bytes_for_tests()).unwrap();
        text.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_prerendered_response_is_sent_as_it_was_rendered() {
        assert_eq!(
            text(prerendered()),
            "HTTP/1.1 200 OK|etag: \"x\"|content-type: text/css|content-length: 4||body"
        );
    }

    #[test]
    fn a_header_that_a_middleware_adds_is_sent_and_one_it_sets_replaces_the_rendered_one() {
        let mut response = prerendered();
        response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("origin"));
        response.headers_mut().insert(header::ETAG, header::HeaderValue::from_static("\"y\""));
        let text = text(response);
        assert!(text.contains("|vary: origin|") && text.contains("|etag: \"y\"|"), "{text}");
        assert!(!text.contains("\"x\""), "{text}");
        assert!(text.ends_with("||body"), "{text}");
    }

    #[test]
    fn a_body_that_a_middleware_replaces_loses_the_headers_that_describe_it() {
        let response = prerendered().map_body(|_, _| BoxBody::new("other"));
        assert_eq!(text(response), "HTTP/1.1 200 OK||content-length: 5||other".replacen("||", "|", 1));
    }

    #[test]
    fn a_status_that_a_middleware_changes_is_sent_changed() {
        let mut response = prerendered();
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        assert!(text(response).starts_with("HTTP/1.1 418 I'm a teapot|"));
    }

    #[test]
    fn segments_are_recognised_until_their_body_is_dropped() {
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
        assert_eq!(segments.length, 3);
    }
}
