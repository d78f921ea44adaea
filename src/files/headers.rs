//! The header fields of a 200, rendered once a version and in one allocation with a small file's bytes.

use bytes::Bytes;

use crate::config::policy::rules::{Disposition, PathPolicy};
use crate::http::cache_control;
use crate::http::date::HttpDate;
use crate::http::disposition;
use crate::http::encoding::Encoding;
use crate::http::entity_tag::EntityTag;

/// Rendered fields. Their order lets every kind of response be one slice of them:
///
/// | part         | fields                                                           | left out of         |
/// |--------------|------------------------------------------------------------------|---------------------|
/// | validators   | the site's policy, `Vary`, `Cache-Control`, `ETag`, `Last-Modified`… | error pages     |
/// | disposition  | `Content-Disposition`                                            | 304, error pages    |
/// | description  | `Content-Encoding`                                               | 304                 |
/// | type         | `Content-Type`                                                   | 304, several parts  |
/// | length       | `Content-Length`, the empty line                                 | 304, all parts      |
/// | body         | a small file's bytes                                             |                     |
pub struct RenderedHeaders {
    block: Bytes,
    validators_to: usize,
    description_at: usize,
    type_at: usize,
    length_at: usize,
    body_at: usize,
    media_type: Box<str>,
}

/// What the fields tell of.
pub(crate) struct HeaderInput<'a> {
    pub(crate) modified: Option<HttpDate>,
    /// The name that decides defaults: the original's for a sidecar.
    pub(crate) name: &'a [u8],
    pub(crate) media_type: &'a str,
    pub(crate) coding: Option<Encoding>,
    pub(crate) etag: &'a EntityTag<'a>,
    pub(crate) length: u64,
    /// Another request might have been answered in another coding.
    pub(crate) varies: bool,
    pub(crate) policy: &'a PathPolicy,
}

impl RenderedHeaders {
    /// Renders the fields; `body` follows them for what is kept on the heap.
    pub(crate) fn render(of: &HeaderInput<'_>, body: &[u8]) -> Self {
        let mut block = Vec::with_capacity(ROOM + of.policy.lines().len() + body.len());
        block.extend_from_slice(of.policy.lines().as_bytes());
        if let Some(vary) = of.policy.vary(of.varies) {
            line(&mut block, "vary", vary.as_bytes());
        }
        put_validators(&mut block, of);
        let validators_to = block.len();
        put_disposition(&mut block, of);
        let description_at = block.len();
        if let Some(coding) = of.coding {
            line(&mut block, "content-encoding", coding.token().as_bytes());
        }
        let type_at = block.len();
        line(&mut block, "content-type", of.media_type.as_bytes());
        let length_at = block.len();
        line(&mut block, "content-length", of.length.to_string().as_bytes());
        block.extend_from_slice(b"\r\n");
        let body_at = block.len();
        block.extend_from_slice(body);
        let media_type = of.media_type.into();
        Self { block: block.into(), validators_to, description_at, type_at, length_at, body_at, media_type }
    }

    /// Fields and empty line of a 200.
    pub(crate) fn head(&self) -> Bytes {
        self.block.slice(..self.body_at)
    }

    /// Fields of a partial response: all but the length.
    pub(crate) fn without_length(&self) -> Bytes {
        self.block.slice(..self.length_at)
    }

    /// Fields of a response whose parts have a type of their own.
    pub(crate) fn without_type(&self) -> Bytes {
        self.block.slice(..self.type_at)
    }

    /// Fields of a 304.
    pub(crate) fn validators(&self) -> Bytes {
        self.block.slice(..self.validators_to)
    }

    /// From the description on, with the empty line: what an error page says of its body.
    pub(crate) fn description(&self) -> Bytes {
        self.block.slice(self.description_at..self.body_at)
    }

    /// A small file's bytes.
    pub(super) fn body(&self) -> Bytes {
        self.block.slice(self.body_at..)
    }

    /// Everything, and where the body begins.
    pub(super) fn with_body(&self) -> (Bytes, usize) {
        (self.block.clone(), self.body_at)
    }

    /// Bytes that the fields and the body take.
    pub(super) fn bytes(&self) -> usize {
        self.block.len() + self.media_type.len()
    }

    /// The media type, as in `Content-Type`.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

fn put_validators(block: &mut Vec<u8>, of: &HeaderInput<'_>) {
    let default = cache_control::default_for(of.name, of.media_type);
    if let Some(value) = of.policy.cache_control_or(default) {
        line(block, "cache-control", value.as_bytes());
    }
    line(block, "accept-ranges", b"bytes");
    if let Some(modified) = of.modified {
        line(block, "last-modified", &modified.to_imf_fixdate());
    }
    line(block, "x-content-type-options", b"nosniff");
    line(block, "etag", of.etag.as_bytes());
}

fn put_disposition(block: &mut Vec<u8>, of: &HeaderInput<'_>) {
    match of.policy.disposition() {
        Some(Disposition::Attachment) => {
            line(block, "content-disposition", disposition::attachment(of.name).as_bytes());
        }
        Some(Disposition::Inline) => {
            line(block, "content-disposition", disposition::inline(of.name).as_bytes());
        }
        None => {}
    }
}

fn line(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        block.extend_from_slice(part);
    }
}

/// Room for the usual fields, so that the block is allocated once.
const ROOM: usize = 384;
