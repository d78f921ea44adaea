//! One version of one file, ready to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::handle_pool::HandlePool;
use super::version::Version;
use crate::http::date::HttpDate;
use crate::http::entity_tag::EntityTag;
use crate::http::target::SitePath;
use crate::kernel::Mapping;

/// A version, its rendered header fields, and its content. Shared by the cache and by every response under way, so that
/// an eviction never takes bytes from under a response.
pub struct Asset {
    pub(crate) id: u64,
    pub(crate) path: SitePath<'static>,
    pub(crate) version: Version,
    pub(crate) etag: EntityTag<'static>,
    pub(crate) fields: Fields,
    pub(crate) content: Content,
    /// The content was copied so shortly after it was written that it may have changed without a trace.
    pub(crate) is_racy: bool,
    handles: Arc<HandlePool>,
}

/// Where an asset's bytes come from.
#[derive(Debug)]
pub(crate) enum Content {
    /// They follow the header fields in [`Fields::block`].
    Heap,
    /// From the mapping, or by `sendfile` while a handle is to be had.
    Mapped(Mapping),
    /// By `sendfile` alone: a network file system, or a file larger than all that may be mapped.
    Unmapped,
}

/// The header fields of a 200, rendered once a version and in one allocation with a small file's bytes.
///
/// They stand in the order `always` (validators and what goes with a 304 as well), `Content-Type`, `Content-Length`,
/// the empty line, the body.
pub struct Fields {
    block: Bytes,
    type_at: usize,
    length_at: usize,
    body_at: usize,
    media_type: Box<str>,
}

impl Asset {
    pub(crate) fn new(
        path: SitePath<'static>,
        version: Version,
        fields: Fields,
        content: Content,
        is_racy: bool,
        handles: Arc<HandlePool>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, path, version, etag: version.entity_tag(), fields, content, is_racy, handles }
    }

    /// Length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.version.size()
    }

    /// The strong entity-tag.
    pub fn etag(&self) -> &EntityTag<'static> {
        &self.etag
    }

    /// When the bytes last changed.
    pub fn last_modified(&self) -> Option<HttpDate> {
        self.version.modified()
    }

    /// The rendered header fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// A small file's bytes; none where they stay with the kernel.
    pub(crate) fn heap_body(&self) -> Option<Bytes> {
        self.is_on_heap().then(|| self.fields.block.slice(self.fields.body_at..))
    }

    /// A small file's whole 200, and where its body begins.
    pub(crate) fn heap_whole(&self) -> Option<(Bytes, usize)> {
        self.is_on_heap().then(|| (self.fields.block.clone(), self.fields.body_at))
    }

    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match &self.content {
            Content::Mapped(mapping) => Some(mapping),
            Content::Heap | Content::Unmapped => None,
        }
    }

    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self.content, Content::Heap)
    }

    /// What the asset weighs in the cache of heap bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.fields.block.len() + self.fields.media_type.len() + self.path.as_bytes().len() + OVERHEAD
    }
}

impl Drop for Asset {
    fn drop(&mut self) {
        self.handles.forget(self.id);
    }
}

impl std::fmt::Debug for Asset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asset")
            .field("path", &self.path)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Fields {
    /// Renders the fields of `version`; `body` follows them for a file that is kept on the heap.
    pub(crate) fn render(version: &Version, media_type: &str, body: &[u8]) -> Self {
        let mut block = Vec::with_capacity(FIELDS_ROOM + body.len());
        let mut line = |name: &[u8], value: &[u8]| {
            for part in [name, b": ", value, b"\r\n"] {
                block.extend_from_slice(part);
            }
            block.len()
        };
        line(b"accept-ranges", b"bytes");
        if let Some(modified) = version.modified() {
            line(b"last-modified", &modified.to_imf_fixdate());
        }
        line(b"x-content-type-options", b"nosniff");
        let type_at = line(b"etag", version.entity_tag().as_bytes());
        let length_at = line(b"content-type", media_type.as_bytes());
        line(b"content-length", version.size().to_string().as_bytes());
        block.extend_from_slice(b"\r\n");
        let body_at = block.len();
        block.extend_from_slice(body);
        Self { block: block.into(), type_at, length_at, body_at, media_type: media_type.into() }
    }

    /// Fields and empty line of a 200.
    pub(crate) fn head(&self) -> Bytes {
        self.block.slice(..self.body_at)
    }

    /// Fields of a partial response: all but the length.
    pub(crate) fn without_length(&self) -> Bytes {
        self.block.slice(..self.length_at)
    }

    /// Fields of a 304 or of parts that have a type of their own.
    pub(crate) fn without_type(&self) -> Bytes {
        self.block.slice(..self.type_at)
    }

    /// The media type, as in `Content-Type`.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Room for the rendered fields, so that the block is allocated once.
const FIELDS_ROOM: usize = 320;

/// What an asset takes besides its bytes: itself, its counts, its places in two caches.
const OVERHEAD: usize = 512;
