//! Makes the head and the body that HTTP/2 sends from a response of the App (RFC 9113 §8.3.2).

use std::rc::Rc;
use std::time::Instant;

use actix_http::Response;
use actix_http::header::{HeaderMap as AppHeaders, HeaderName as AppName};
use actix_web::body::{BodySize, BoxBody};
use bytes::Bytes;
use http1::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};

use super::source::BodySource;
use crate::net::{
    PrerenderedBody, PrerenderedResponse, ResponseParts, WorkerContext, append_header, append_header_lines,
    describes_body, is_framing, lines_without,
};

/// Makes the head and the body that are sent for `response`. What a middleware changed is sent changed.
pub(super) fn outgoing(
    response: Response<BoxBody>,
    is_head: bool,
    worker: &WorkerContext,
    now: Instant,
) -> (http1::Response<()>, BodySource) {
    let mut parts = ResponseParts::of(response);
    let status = parts.response.status().as_u16();
    let (mut headers, body) = match parts.prerendered.take() {
        Some(prerendered) if parts.is_unchanged => {
            let ResponseParts { response, body, .. } = parts;
            // The segments of the body are shared with it until it is dropped.
            drop(body);
            prerendered_response(prerendered, response.headers(), worker)
        }
        prerendered => plain_response(prerendered, parts),
    };
    headers.insert(DATE, worker.status_lines.date(now));
    let mut head = http1::Response::new(());
    *head.status_mut() =
        http1::StatusCode::from_u16(status).unwrap_or(http1::StatusCode::INTERNAL_SERVER_ERROR);
    *head.headers_mut() = headers;
    (head, if is_head { BodySource::default() } else { body })
}

/// A prerendered response to which a middleware has at most added headers.
fn prerendered_response(
    prerendered: PrerenderedResponse,
    added: &AppHeaders,
    worker: &WorkerContext,
) -> (HeaderMap, BodySource) {
    let mut headers = worker.header_cache.map_of(&prerendered);
    append_header_lines(&mut headers, Bytes::from(prerendered.extra_headers));
    append_header_lines(&mut headers, prerendered.tail);
    for name in added.keys() {
        headers.remove(name.as_str());
    }
    append_all(&mut headers, added, |_| true);
    let body = match prerendered.body {
        PrerenderedBody::None => BodySource::default(),
        PrerenderedBody::Inline => BodySource::of_bytes(prerendered.block.slice(prerendered.body_at..)),
        PrerenderedBody::Segments(segments) => Rc::try_unwrap(segments)
            .map_or_else(|_| BodySource::default(), |segments| BodySource::of_segments(segments.list)),
    };
    (headers, body)
}

/// A response whose headers are in its map, or one whose prerendered body was replaced.
fn plain_response(prerendered: Option<PrerenderedResponse>, parts: ResponseParts) -> (HeaderMap, BodySource) {
    let added = parts.response.headers();
    let mut headers = HeaderMap::new();
    if let Some(prerendered) = prerendered {
        let kept = lines_without(&prerendered, |name| describes_body(name) || added.contains_key(name));
        append_header_lines(&mut headers, kept.freeze());
    }
    append_all(&mut headers, added, |name| !is_framing(name));
    let size = parts.body_size();
    if let Some(BodySize::Sized(length)) = size {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let body = match (size, parts.bytes) {
        (None | Some(BodySize::None | BodySize::Sized(0)), _) => BodySource::default(),
        (_, Some(bytes)) => BodySource::of_bytes(bytes),
        (Some(BodySize::Sized(length)), None) => BodySource::of_stream(parts.body, Some(length)),
        (Some(BodySize::Stream), None) => BodySource::of_stream(parts.body, None),
    };
    (headers, body)
}

/// Appends those of `added` whose name is `wanted`.
fn append_all(headers: &mut HeaderMap, added: &AppHeaders, wanted: impl Fn(&AppName) -> bool) {
    for (name, value) in added.iter().filter(|(name, _)| wanted(name)) {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            append_header(headers, name, value);
        }
    }
}
