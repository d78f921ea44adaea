//! Fill levels and counts of the files, for metrics and the status page.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{CacheCounts, Files, Loader, ReadCounts, SharedFiles, WorkCounts, residency};

/// Fill levels and counts of the files.
#[derive(Clone, Copy, Debug)]
pub struct FileGauges {
    /// Open files.
    pub handles: usize,
    /// Requests that had to wait for a handle.
    pub handle_waits: u64,
    /// Requests that waited for a handle in vain.
    pub handle_timeouts: u64,
    /// Files opened to be sent from, so far.
    pub handles_opened: u64,
    /// Of these, files closed again.
    pub handles_closed: u64,
    /// Bytes of small files on the heap.
    pub heap_bytes: u64,
    /// Mapped bytes, in whole pages.
    pub mapped_bytes: u64,
    /// Windows for which the file system could not tell whether they are in memory.
    pub unanswered_probes: u64,
    /// Reads of cold pages.
    pub(crate) reads: ReadCounts,
    /// Requests that the disk did not answer in time.
    pub disk_timeouts: u64,
    /// Bytes of evicted mappings that wait to be unmapped.
    pub unmapping_bytes: u64,
    /// Mappings that were unmapped where they were dropped, since too many waited.
    pub unmapped_in_place: u64,
    /// Counts of the name cache.
    pub name_cache: CacheCounts,
    /// Counts of the cache of small files.
    pub heap_cache: CacheCounts,
    /// Counts of the cache of mapped files.
    pub mapped_cache: CacheCounts,
    /// Counts of the digest cache.
    pub digest_cache: CacheCounts,
    /// Background tasks that compute digests.
    pub digesting: WorkCounts,
    /// Background tasks that encode files.
    pub compressing: WorkCounts,
}

impl FileGauges {
    /// The present values.
    pub fn of(files: &Files) -> Self {
        let SharedFiles { names, assets, reads, digesting, encoding, .. } = &*files.shared;
        let Loader { handles, unmapper, tags, .. } = &*files.loader;
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Self {
            handles: handles.in_use(),
            handle_waits: number(&handles.waits),
            handle_timeouts: number(&handles.timeouts),
            handles_opened: number(&handles.turnover.opened),
            handles_closed: number(&handles.turnover.closed),
            heap_bytes: assets.heap.weighted_size(),
            mapped_bytes: assets.mapped_bytes(),
            unanswered_probes: residency::unanswered(),
            reads: reads.counts(),
            disk_timeouts: number(&files.shared.disk_timeouts),
            unmapping_bytes: unmapper.waiting_bytes(),
            unmapped_in_place: number(&unmapper.in_place),
            name_cache: names.names.counts(),
            heap_cache: assets.heap.counts(),
            mapped_cache: assets.mapped.counts(),
            digest_cache: tags.digests.counts(),
            digesting: digesting.counts(),
            compressing: encoding.counts(),
        }
    }
}
