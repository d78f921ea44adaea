//! The headers of a 200, rendered once for each version, in one allocation with the bytes of a small file.

use bytes::Bytes;

use crate::config::Disposition;
use crate::files::policy::PathPolicy;
use crate::http::baseline_headers::BASELINE_LINES;
use crate::http::{cache_control, date::HttpDate, disposition, encoding::Encoding, entity_tag::EntityTag};

/// Rendered headers, in an order that makes the headers of every kind of response one slice of them:
///
/// | part         | headers                                                          | left out of         |
/// |--------------|------------------------------------------------------------------|---------------------|
/// | validators   | the path's rules, `Vary`, `Cache-Control`, `ETag`, `Last-Modified`… | error pages     |
/// | disposition  | `Content-Disposition`                                            | 304, error pages    |
/// | description  | `Content-Encoding`                                               | 304                 |
/// | type         | `Content-Type`                                                   | 304, multipart      |
/// | length       | `Content-Length`, the empty line                                 | 304, 206            |
/// | body         | a small file's bytes                                             |                     |
///
/// Decision: docs/decisions/020-headers-rendered-once.md.
pub struct RenderedHeaders {
    block: Bytes,
    validators_to: usize,
    description_at: usize,
    type_at: usize,
    length_at: usize,
    body_at: usize,
    media_type: Box<str>,
}

/// What the headers are rendered from.
pub(crate) struct HeaderInput<'a> {
    pub(crate) modified: Option<HttpDate>,
    /// File name that decides defaults: that of the original for a sidecar.
    pub(crate) name: &'a [u8],
    pub(crate) media_type: &'a str,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) etag: &'a EntityTag<'a>,
    pub(crate) length: u64,
    /// Another request may get another encoding.
    pub(crate) varies: bool,
    pub(crate) policy: &'a PathPolicy,
}

impl RenderedHeaders {
    /// Renders the headers, followed by `body`, which is empty if the body is not on the heap.
    pub(crate) fn render(input: &HeaderInput<'_>, body: &[u8]) -> Self {
        let mut block = Vec::with_capacity(CAPACITY + input.policy.lines.len() + body.len());
        block.extend_from_slice(input.policy.lines.as_bytes());
        if let Some(vary) = input.policy.vary(input.varies) {
            line(&mut block, "vary", vary.as_bytes());
        }
        put_validators(&mut block, input);
        let validators_to = block.len();
        put_disposition(&mut block, input);
        let description_at = block.len();
        if let Some(encoding) = input.encoding {
            line(&mut block, "content-encoding", encoding.name().as_bytes());
        }
        let type_at = block.len();
        line(&mut block, "content-type", input.media_type.as_bytes());
        let length_at = block.len();
        line(&mut block, "content-length", input.length.to_string().as_bytes());
        block.extend_from_slice(b"\r\n");
        let body_at = block.len();
        block.extend_from_slice(body);
        let media_type = input.media_type.into();
        Self { block: block.into(), validators_to, description_at, type_at, length_at, body_at, media_type }
    }

    /// Headers and empty line of a 200.
    pub(crate) fn head(&self) -> Bytes {
        self.block.slice(..self.body_at)
    }

    /// Headers of a 206 with one range: all but the length.
    pub(crate) fn without_length(&self) -> Bytes {
        self.block.slice(..self.length_at)
    }

    /// Headers of a multipart 206, whose parts have a type of their own.
    pub(crate) fn without_type(&self) -> Bytes {
        self.block.slice(..self.type_at)
    }

    /// Headers of a 304.
    pub(crate) fn validators(&self) -> Bytes {
        self.block.slice(..self.validators_to)
    }

    /// From the description on, with the empty line: the headers of an error page that describe its body.
    pub(crate) fn description(&self) -> Bytes {
        self.block.slice(self.description_at..self.body_at)
    }

    /// A small file's bytes.
    pub(super) fn body(&self) -> Bytes {
        self.block.slice(self.body_at..)
    }

    /// Headers and body, and the offset of the body.
    pub(super) fn with_body(&self) -> (Bytes, usize) {
        (self.block.clone(), self.body_at)
    }

    /// Bytes that headers and body take.
    pub(super) fn bytes(&self) -> usize {
        self.block.len() + self.media_type.len()
    }

    /// The media type, as in `Content-Type`.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

fn put_validators(block: &mut Vec<u8>, input: &HeaderInput<'_>) {
    let default = cache_control::default_for(input.name, input.media_type);
    if let Some(value) = input.policy.cache_control_or(default) {
        line(block, "cache-control", value.as_bytes());
    }
    line(block, "accept-ranges", b"bytes");
    if let Some(modified) = input.modified {
        line(block, "last-modified", &modified.to_imf_fixdate());
    }
    block.extend_from_slice(BASELINE_LINES.as_bytes());
    line(block, "etag", input.etag.as_bytes());
}

fn put_disposition(block: &mut Vec<u8>, input: &HeaderInput<'_>) {
    let value = match input.policy.effects.disposition {
        Some(Disposition::Attachment) => disposition::attachment(input.name),
        Some(Disposition::Inline) => disposition::inline(input.name),
        None => return,
    };
    line(block, "content-disposition", value.as_bytes());
}

fn line(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        block.extend_from_slice(part);
    }
}

/// Bytes of the usual headers, so that the block is allocated once.
const CAPACITY: usize = 384;
