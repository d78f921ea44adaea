//! A response of the App becomes the head and the content that HTTP/2 sends (RFC 9113 §8.3.2).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use actix_http::Response;
use actix_http::header::{HeaderMap as AppFields, HeaderName as AppName};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody};
use bytes::Bytes;
use http1::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};

use crate::net::head::HeadError;
use crate::net::prerendered::{PrerenderedBody as ReadyContent, PrerenderedResponse};
use crate::net::render::{ResponseParts, describes_body, is_framing, length_of, take_apart};
use crate::net::segments::Segment;
use crate::net::worker::Worker;

/// What is sent.
pub(super) struct OutgoingResponse {
    pub(super) head: http1::Response<()>,
    pub(super) content: OutgoingBody,
}

/// What follows the head.
pub(super) enum OutgoingBody {
    None,
    Segments(VecDeque<Segment>),
    /// It comes as it is made; its length, where that is known.
    Stream(BoxBody, Option<u64>),
}

/// Makes what is sent of `response`. Whatever a middleware has changed goes out changed.
pub(super) fn outgoing<S>(
    response: Response<BoxBody>,
    is_head: bool,
    worker: &Worker<S>,
    now: Instant,
) -> OutgoingResponse {
    let ResponseParts { response, ready, is_unchanged, bytes, body } = take_apart(response);
    let added = response.headers();
    let (mut fields, content) = match ready {
        Some(ready) if is_unchanged => {
            let mut fields = worker.maps.of(&ready);
            put_lines(&mut fields, Bytes::from(ready.lead));
            put_lines(&mut fields, ready.tail);
            for name in added.keys() {
                fields.remove(name.as_str());
            }
            let content = match ready.content {
                ReadyContent::None => OutgoingBody::None,
                ReadyContent::Inline => OutgoingBody::of(ready.block.slice(ready.body_at..)),
                ReadyContent::Segments(segments) => {
                    drop(body);
                    Rc::try_unwrap(segments)
                        .map_or(OutgoingBody::None, |segments| OutgoingBody::Segments(segments.into_list()))
                }
            };
            put_fields(&mut fields, added, |_| true);
            (fields, content)
        }
        ready => {
            let mut fields = HeaderMap::new();
            if let Some(ready) = ready {
                for lines in [Bytes::from(ready.lead), ready.block.slice(..ready.body_at), ready.tail] {
                    put_lines(&mut fields, lines);
                }
                let names: Vec<HeaderName> = fields.keys().cloned().collect();
                for name in names {
                    let is_stale = AppName::from_bytes(name.as_str().as_bytes())
                        .is_ok_and(|name| describes_body(&name) || added.contains_key(&name));
                    if is_stale {
                        fields.remove(&name);
                    }
                }
            }
            put_fields(&mut fields, added, |name| !is_framing(name));
            let size = length_of(response.status(), bytes.as_ref(), &body);
            if let Some(BodySize::Sized(length)) = size {
                fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            let content = match (size, bytes) {
                (None | Some(BodySize::None | BodySize::Sized(0)), _) => OutgoingBody::None,
                (_, Some(bytes)) => OutgoingBody::of(bytes),
                (Some(BodySize::Sized(length)), None) => OutgoingBody::Stream(body, Some(length)),
                (Some(BodySize::Stream), None) => OutgoingBody::Stream(body, None),
            };
            (fields, content)
        }
    };
    fields.insert(DATE, worker.prefixes.date(now));
    let mut head = http1::Response::new(());
    *head.status_mut() = http1::StatusCode::from_u16(response.status().as_u16())
        .unwrap_or(http1::StatusCode::INTERNAL_SERVER_ERROR);
    *head.headers_mut() = fields;
    OutgoingResponse { head, content: if is_head { OutgoingBody::None } else { content } }
}

/// A response of fixed text, made by the connection itself.
pub(super) fn refusal((status, sentence): HeadError) -> Response<BoxBody> {
    let mut response = HttpResponse::build(status);
    if status == actix_http::StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((actix_http::header::RETRY_AFTER, "1"));
    }
    response
        .insert_header((actix_http::header::CONTENT_TYPE, "text/plain; charset=utf-8"))
        .insert_header((actix_http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    Response::from(response.body(Bytes::from_static(sentence.as_bytes())))
}

impl OutgoingBody {
    fn of(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::None } else { Self::Segments(VecDeque::from([bytes.into()])) }
    }
}

/// Maps of rendered field lines, by the identity of the lines. One a worker.
///
/// An entry keeps the block that it was made of in memory, up to [`SLOTS`] of them; so no other block can have its address.
#[derive(Default)]
pub(crate) struct HeaderMapCache {
    slots: RefCell<Vec<Option<CachedHeaderMap>>>,
}

struct CachedHeaderMap {
    block: Bytes,
    body_at: usize,
    map: HeaderMap,
}

impl HeaderMapCache {
    /// The fields of `ready`'s block.
    fn of(&self, ready: &PrerenderedResponse) -> HeaderMap {
        let (block, body_at) = (&ready.block, ready.body_at);
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        let at = (block.as_ptr().addr() >> 4) ^ (block.as_ptr().addr() >> 11) ^ body_at;
        let Some(slot) = slots.get_mut(at % SLOTS) else { return HeaderMap::new() };
        let is_it = |known: &&CachedHeaderMap| {
            std::ptr::eq(known.block.as_ptr(), block.as_ptr())
                && (known.block.len(), known.body_at) == (block.len(), body_at)
        };
        if let Some(known) = slot.as_ref().filter(is_it) {
            return known.map.clone();
        }
        let mut map = HeaderMap::with_capacity(FIELDS);
        put_lines(&mut map, block.slice(..body_at));
        *slot = Some(CachedHeaderMap { block: block.clone(), body_at, map: map.clone() });
        map
    }
}

/// Adds rendered lines. Their values stay where they are.
fn put_lines(fields: &mut HeaderMap, lines: Bytes) {
    let mut left = &lines[..];
    while let Some(end) = memchr::memchr(b'\n', left) {
        let (line, rest) = left.split_at(end);
        left = rest.get(1..).unwrap_or_default();
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let value = HeaderValue::from_maybe_shared(lines.slice_ref(value));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            append(fields, name, value);
        }
    }
}

fn put_fields(fields: &mut HeaderMap, added: &AppFields, wanted: impl Fn(&AppName) -> bool) {
    for (name, value) in added.iter().filter(|(name, _)| wanted(name)) {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            append(fields, name, value);
        }
    }
}

/// Fields of the connection have no meaning here (RFC 9113 §8.2.2).
fn append(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let is_of_connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection");
    if !is_of_connection {
        fields.append(name, value);
    }
}

/// Blocks whose maps are kept.
const SLOTS: usize = 128;

/// Room for the fields of a usual response, the date included.
const FIELDS: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use actix_http::StatusCode;

    fn block() -> Bytes {
        Bytes::from_static(b"etag: \"x\"\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody")
    }

    fn ready(block: Bytes) -> PrerenderedResponse {
        let mut response = PrerenderedResponse::inline(StatusCode::OK, block, 51, None);
        response.extensions_mut().remove().unwrap()
    }

    #[test]
    fn lines_become_fields_whose_values_stay_where_they_are_and_those_of_the_connection_stay_behind() {
        let lines = block().slice(..51);
        let mut fields = HeaderMap::new();
        put_lines(&mut fields, lines.clone());
        assert_eq!(fields.len(), 2);
        assert_eq!(fields["etag"], "\"x\"");
        assert_eq!(fields["content-length"], "4");
        let at = fields["etag"].as_bytes().as_ptr() as usize - lines.as_ptr() as usize;
        assert_eq!(at, 6);
    }

    #[test]
    fn a_map_is_known_again_by_its_block_and_not_by_its_words() {
        let maps = HeaderMapCache::default();
        let block = block();
        let first = maps.of(&ready(block.clone()));
        let again = maps.of(&ready(block.clone()));
        assert_eq!(first, again);
        let count = |maps: &HeaderMapCache| maps.slots.borrow().iter().flatten().count();
        assert_eq!(count(&maps), 1);
        let other = Bytes::copy_from_slice(&block);
        assert_eq!(maps.of(&ready(other)), first);
        let shorter = PrerenderedResponse { body_at: 11, ..ready(block) };
        assert_eq!(maps.of(&shorter).len(), 1);
    }
}
