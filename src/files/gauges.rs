//! Fill levels and counts of the files, for metrics and the status page.

use super::{CacheCounts, Files, WorkCounts, residency};

/// Fill levels and counts of the files.
#[derive(Clone, Copy, Debug)]
pub struct FileGauges {
    /// Open files.
    pub handles: usize,
    /// Requests that had to wait for a handle.
    pub handle_waits: u64,
    /// Requests that waited for a handle in vain.
    pub handle_timeouts: u64,
    /// Names in the name cache.
    pub names: u64,
    /// Bytes of small files on the heap.
    pub heap_bytes: u64,
    /// Mapped bytes, in whole pages.
    pub mapped_bytes: u64,
    /// Mappings.
    pub mappings: u64,
    /// Digests in the cache.
    pub digests: u64,
    /// Background tasks that wait or run.
    pub background: usize,
    /// Windows for which the file system could not tell whether they are in memory.
    pub unanswered_probes: u64,
    /// Reads of cold pages that wait for a thread.
    pub reads_waiting: usize,
    /// Reads of cold pages that run.
    pub reads_running: usize,
    /// Reads of cold pages so far.
    pub reads: u64,
    /// Responses that waited for a read that another response had started.
    pub reads_shared: u64,
    /// Reads that were dropped before they ran, since no response waited for them any more.
    pub reads_dropped: u64,
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
    /// Files opened to be sent from, so far.
    pub handles_opened: u64,
    /// Of these, files closed again.
    pub handles_closed: u64,
}

impl FileGauges {
    /// The present values.
    pub fn of(files: &Files) -> Self {
        let Files { loader, shared } = files;
        let (reads, assets) = (shared.reads.counts(), shared.assets.counts());
        let (handle_waits, handle_timeouts) = loader.handles.waits_and_timeouts();
        let (handles_opened, handles_closed) = loader.handles.opened_and_closed();
        let (digesting, compressing) = (shared.digesting.counts(), shared.encoding.counts());
        let (name_cache, digest_cache) = (shared.names.counts(), loader.tags.digests.counts());
        Self {
            handles: loader.handles.in_use(),
            handle_waits,
            handle_timeouts,
            names: name_cache.entries,
            heap_bytes: assets.heap_bytes,
            mapped_bytes: assets.mapped_bytes,
            mappings: assets.mapped.entries,
            digests: digest_cache.entries,
            background: usize::try_from(digesting.under_way + compressing.under_way).unwrap_or(usize::MAX),
            unanswered_probes: residency::unanswered(),
            reads_waiting: reads.waiting,
            reads_running: reads.running,
            reads: reads.made,
            reads_shared: reads.shared,
            reads_dropped: reads.dropped,
            disk_timeouts: files.disk_timeouts(),
            unmapping_bytes: loader.unmapper.waiting_bytes(),
            unmapped_in_place: loader.unmapper.in_place(),
            name_cache,
            heap_cache: assets.heap,
            mapped_cache: assets.mapped,
            digest_cache,
            digesting,
            compressing,
            handles_opened,
            handles_closed,
        }
    }
}
