//! Rendered headers as the header maps that HTTP/2 sends, cached per block.

use std::cell::RefCell;

use bytes::Bytes;
use hashlink::LruCache;
use http1::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};

use crate::net::PrerenderedResponse;

/// Header maps of rendered blocks, by the address and the length of their lines. One per worker.
///
/// An entry keeps its block in memory, for at most [`BLOCKS_MAX`] blocks, so no other block can have its address.
pub(super) struct HeaderMapCache(RefCell<LruCache<(usize, usize), (Bytes, HeaderMap)>>);

impl HeaderMapCache {
    pub(super) fn new() -> Self {
        Self(RefCell::new(LruCache::new(BLOCKS_MAX)))
    }

    /// Returns the headers of the block of `response`.
    pub(super) fn map_of(&self, response: &PrerenderedResponse) -> HeaderMap {
        let mut cached = self.0.borrow_mut();
        let key = (response.block.as_ptr().addr(), response.body_at);
        if let Some((_, map)) = cached.get(&key) {
            return map.clone();
        }
        let mut map = HeaderMap::with_capacity(HEADERS_USUAL);
        append_header_lines(&mut map, response.block.slice(..response.body_at));
        cached.insert(key, (response.block.clone(), map.clone()));
        map
    }
}

/// Appends rendered header lines. Their values share the memory of `lines`.
pub(super) fn append_header_lines(headers: &mut HeaderMap, lines: Bytes) {
    let mut left = &lines[..];
    while let Some(end) = memchr::memchr(b'\n', left) {
        let (line, rest) = left.split_at(end);
        left = rest.get(1..).unwrap_or_default();
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let value = HeaderValue::from_maybe_shared(lines.slice_ref(value));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            append_header(headers, name, value);
        }
    }
}

/// Appends a header, unless it is one of the connection, which HTTP/2 forbids (RFC 9113 §8.2.2).
pub(super) fn append_header(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let is_of_connection = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection");
    if !is_of_connection {
        headers.append(name, value);
    }
}

/// Blocks whose maps are cached.
const BLOCKS_MAX: usize = 128;

/// Room for the headers of a usual response, `Date` included.
const HEADERS_USUAL: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;
    use actix_http::StatusCode;

    fn block() -> Bytes {
        Bytes::from_static(b"etag: \"x\"\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody")
    }

    fn prerendered(block: Bytes) -> PrerenderedResponse {
        let mut response = PrerenderedResponse::inline(StatusCode::OK, block, 51, None);
        response.extensions_mut().remove().unwrap()
    }

    #[test]
    fn lines_become_headers_that_share_memory_and_those_of_the_connection_are_left_out() {
        let lines = block().slice(..51);
        let mut headers = HeaderMap::new();
        append_header_lines(&mut headers, lines.clone());
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["etag"], "\"x\"");
        assert_eq!(headers["content-length"], "4");
        let at = headers["etag"].as_bytes().as_ptr() as usize - lines.as_ptr() as usize;
        assert_eq!(at, 6);
    }

    #[test]
    fn a_map_is_found_by_the_identity_of_its_block_and_not_by_its_content() {
        let cache = HeaderMapCache::new();
        let block = block();
        let first = cache.map_of(&prerendered(block.clone()));
        let again = cache.map_of(&prerendered(block.clone()));
        assert_eq!(first, again);
        assert_eq!(cache.0.borrow().len(), 1);
        let other = Bytes::copy_from_slice(&block);
        assert_eq!(cache.map_of(&prerendered(other)), first);
        let shorter = PrerenderedResponse { body_at: 11, ..prerendered(block) };
        assert_eq!(cache.map_of(&shorter).len(), 1);
    }
}
