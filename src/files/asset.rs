//! One version of one file, ready to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::digests::KnownDigests;
use super::handle_pool::HandlePool;
use super::mapped::Mapped;
use super::version::Version;
use crate::config::policy::rules::PathPolicy;
use crate::files::cache_ref::CacheRef;
use crate::files::encoded_variants::EncodedVariants;
use crate::files::headers::RenderedHeaders;
use crate::files::recency::Recency;
use crate::files::sidecars::Sidecars;
use crate::http::date::HttpDate;
use crate::http::encoding::Encoding;
use crate::http::entity_tag::EntityTag;
use crate::http::target::SitePath;
use crate::sys::kernel::Mapping;

/// A version, its rendered header fields, and its content. Shared by the cache and by every response under way, so that
/// an eviction never takes bytes from under a response.
pub struct Asset {
    pub(crate) id: u64,
    /// Where its bytes lie: for a sidecar the sidecar's own path.
    pub(crate) path: SitePath<'static>,
    /// Of the file that its bytes come from.
    pub(crate) version: Version,
    pub(crate) modified: Option<HttpDate>,
    /// How the bytes are coded; none for a file as it is.
    pub(crate) coding: Option<Encoding>,
    pub(crate) length: u64,
    pub(crate) etag: EntityTag<'static>,
    pub(crate) fields: RenderedHeaders,
    pub(crate) content: AssetBody,
    /// The content was copied so shortly after it was written that it may have changed without a trace.
    pub(crate) is_racy: bool,
    pub(crate) policy: Arc<PathPolicy>,
    /// Of the settings under which its fields were rendered.
    pub(crate) generation: u64,
    /// What lay beside the file when it was looked up.
    pub(crate) beside: Sidecars,
    /// Other forms in which it is to be had.
    pub(crate) forms: Option<Box<EncodedVariants<Self>>>,
    pub(crate) digests: KnownDigests,
    /// Which parts of it were sent lately; nothing for what is on the heap.
    pub(crate) heat: Recency,
    pub(crate) handles: Arc<HandlePool>,
}

/// Where an asset's bytes come from.
#[derive(Debug)]
pub(crate) enum AssetBody {
    /// They follow the header fields in one block.
    Heap,
    /// From the mapping, or by `sendfile` while a handle is to be had.
    Mapped(Mapped),
    /// By `sendfile` alone: a network file system, or a file larger than all that may be mapped.
    Unmapped,
}

impl Asset {
    /// A number that no other asset of the process has.
    pub(crate) fn next_id() -> u64 {
        NEXT_ID.fetch_add(1, Ordering::Relaxed)
    }

    /// Length of the representation in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The entity-tag.
    pub fn etag(&self) -> &EntityTag<'static> {
        &self.etag
    }

    /// When the bytes last changed, where that can be said.
    pub fn last_modified(&self) -> Option<HttpDate> {
        self.modified
    }

    /// The rendered header fields.
    pub fn fields(&self) -> &RenderedHeaders {
        &self.fields
    }

    /// Whether nothing better can be made of the same version: its bytes held still, and its tag is strong.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_racy && !self.etag.is_weak()
    }

    /// A small file's bytes; none where they stay with the kernel.
    pub(crate) fn heap_body(&self) -> Option<Bytes> {
        self.is_on_heap().then(|| self.fields.body())
    }

    /// A small file's whole 200, and where its body begins.
    pub(crate) fn heap_whole(&self) -> Option<(Bytes, usize)> {
        self.is_on_heap().then(|| self.fields.with_body())
    }

    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match &self.content {
            AssetBody::Mapped(mapped) => mapped.mapping(),
            AssetBody::Heap | AssetBody::Unmapped => None,
        }
    }

    /// A share of the asset for whoever looks for it later.
    pub(crate) fn held(self: &Arc<Self>) -> CacheRef<Self> {
        match self.content {
            AssetBody::Unmapped => CacheRef::Firmly(Arc::clone(self)),
            AssetBody::Heap | AssetBody::Mapped(_) => CacheRef::Loosely(Arc::downgrade(self)),
        }
    }

    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self.content, AssetBody::Heap)
    }

    /// What the asset weighs in the cache of heap bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let forms = if self.forms.is_some() { size_of::<EncodedVariants<Self>>() } else { 0 };
        self.fields.bytes() + self.path.as_bytes().len() + forms + OVERHEAD
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

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What an asset takes besides its bytes: itself, what was seen beside it, its counts, its places in two caches.
const OVERHEAD: usize = 1024;
