//! Assets: versions of files, ready to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{
    CacheRef, EncodedVariants, HandlePool, KnownDigests, Mapped, Recency, RenderedHeaders, Sidecars, Version,
};
use crate::files::policy::PathPolicy;
use crate::http::{date::HttpDate, encoding::Encoding, entity_tag::EntityTag, target::SitePath};
use crate::sys::kernel::Mapping;

/// One version of one file, with its rendered headers and its body. Shared by the cache and by every response that sends it, so
/// that an eviction never takes bytes from under a response.
pub struct Asset {
    pub(crate) id: u64,
    /// Path of the file that has the bytes: for a sidecar its own.
    pub(crate) path: SitePath<'static>,
    /// Version of that file.
    pub(crate) version: Version,
    /// Time of the last change for `Last-Modified`; `None` if the file has no usable date.
    pub(crate) modified: Option<HttpDate>,
    /// Encoding of the bytes; `None` for identity.
    pub(crate) encoding: Option<Encoding>,
    /// Length of the representation in bytes.
    pub length: u64,
    pub(crate) etag: EntityTag<'static>,
    pub(crate) headers: RenderedHeaders,
    pub(crate) body: AssetBody,
    /// The body was copied so shortly after it was written that it may have changed without another timestamp.
    pub(crate) is_racy: bool,
    pub(crate) policy: Arc<PathPolicy>,
    /// Generation of the settings that its headers were rendered under.
    pub(crate) generation: u64,
    /// The file's sidecars when it was looked up.
    pub(crate) sidecars: Sidecars,
    /// Its encoded variants; `None` if there can be none.
    pub(crate) variants: Option<Box<EncodedVariants<Self>>>,
    pub(crate) digests: KnownDigests,
    /// The parts that were sent recently; unused for a body on the heap.
    pub(crate) recency: Recency,
    pub(crate) handles: Arc<HandlePool>,
}

/// Where the bytes of an asset are.
pub(crate) enum AssetBody {
    /// On the heap, in one block behind the headers.
    Heap,
    /// In a mapping; sent from it, or by `sendfile` with an open handle.
    Mapped(Mapped),
    /// In the file only, sent by `sendfile`: on a network file system, or too large to be mapped.
    Unmapped,
}

impl Asset {
    /// A number that is unique in the process.
    pub(crate) fn next_id() -> u64 {
        NEXT_ID.fetch_add(1, Ordering::Relaxed)
    }

    /// True if loading the same version again gives the same asset: it is not racy, and its entity-tag is strong.
    pub(crate) fn is_final(&self) -> bool {
        !self.is_racy && !self.etag.is_weak()
    }

    /// The bytes of a small file; `None` if the body is not on the heap.
    pub(crate) fn heap_body(&self) -> Option<Bytes> {
        self.is_on_heap().then(|| self.headers.body())
    }

    /// Headers and body of a small file in one block, and the offset of the body; `None` if the body is not on the heap.
    pub(crate) fn heap_response(&self) -> Option<(Bytes, usize)> {
        self.is_on_heap().then(|| self.headers.with_body())
    }

    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match &self.body {
            AssetBody::Mapped(mapped) => mapped.mapping(),
            AssetBody::Heap | AssetBody::Unmapped => None,
        }
    }

    /// A reference that leaves the asset's lifetime to its cache, if it is in one.
    pub(crate) fn cache_ref(self: &Arc<Self>) -> CacheRef<Self> {
        let is_in_none = matches!(self.body, AssetBody::Unmapped);
        CacheRef { asset: Arc::downgrade(self), kept: is_in_none.then(|| Arc::clone(self)) }
    }

    pub(crate) fn is_on_heap(&self) -> bool {
        matches!(self.body, AssetBody::Heap)
    }

    /// Bytes that the asset takes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let variants = if self.variants.is_some() { size_of::<EncodedVariants<Self>>() } else { 0 };
        self.headers.bytes() + self.path.as_bytes().len() + variants + OVERHEAD
    }
}

impl Drop for Asset {
    fn drop(&mut self) {
        self.handles.remove(self.id);
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

/// Bytes of an asset besides headers and body: itself, its sidecars' versions, its entries in two caches.
const OVERHEAD: usize = 1024;
