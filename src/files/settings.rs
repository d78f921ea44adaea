//! The bounds of the room, and how full it is.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::handle_pool::HandleLimits;
use crate::config::{Config, EtagSource, ResolvedLimits, Verify};
use crate::files::counters::{CacheCounts, WorkCounts};

/// Every bound of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// How long a name is trusted without another look.
    pub revalidate_after: Duration,
    /// The same for a name whose changes inotify tells.
    pub revalidate_watched_after: Duration,
    /// Names remembered, found or missing.
    pub names: u64,
    /// Heap bytes for small files.
    pub heap_bytes: u64,
    /// Files up to this length are small.
    pub heap_file_bytes: u64,
    /// Mapped bytes kept.
    pub cache_bytes: u64,
    /// Mappings kept.
    pub mappings: u64,
    /// Open files.
    pub handles: HandleLimits,
    /// Threads that open and check.
    pub disk_threads: usize,
    /// Threads that read cold pages, for each device.
    pub populate_threads: usize,
    /// How long a request waits for the disk.
    pub disk_timeout: Duration,
    /// Directories watched by inotify; none turns it off.
    pub watches: Option<usize>,
    /// Lengths of the files that are compressed in the background; none turns it off.
    pub compressed: Option<RangeInclusive<u64>>,
    /// Threads that compress, and as many that compute checksums.
    pub background_threads: usize,
    /// What entity tags are made of.
    pub etag: EtagSource,
    /// Whether checksums beside files are heeded.
    pub verify: Verify,
    /// Checksums remembered.
    pub digests: u64,
}

impl FileSettings {
    /// What `config` says, and `limits` where it leaves that open.
    pub fn of(config: &Config, limits: &ResolvedLimits) -> Self {
        Self {
            revalidate_after: config.caches.revalidate_after.get(),
            revalidate_watched_after: config.caches.revalidate_watched_after.get(),
            names: config.caches.names.get(),
            heap_bytes: limits.heap_bytes,
            heap_file_bytes: config.caches.heap_file_bytes.get(),
            cache_bytes: limits.cache_bytes,
            mappings: limits.mappings as u64,
            handles: HandleLimits {
                handles: limits.handles,
                wait: config.open_files.handle_wait.get(),
                idle: config.open_files.handle_idle.get(),
                max_age: config.open_files.handle_max_age.get(),
            },
            disk_threads: config.sending.disk_threads.as_usize(),
            populate_threads: config.sending.populate_threads.as_usize(),
            disk_timeout: config.sending.disk_timeout.get(),
            watches: config.caches.watch.is_on().then(|| config.caches.watches.as_usize()),
            compressed: config
                .compression
                .compress
                .is_on()
                .then(|| config.compression.compress_from.get()..=config.compression.compress_to.get()),
            background_threads: config.compression.background_threads.as_usize(),
            etag: config.integrity.etag,
            verify: config.integrity.verify,
            digests: config.integrity.digests.get(),
        }
    }
}

/// How full the room is.
#[derive(Clone, Copy, Debug)]
pub struct FileGauges {
    /// Files open now.
    pub handles: usize,
    /// Requests that had to wait for a handle.
    pub handle_waits: u64,
    /// Requests that waited in vain.
    pub handle_timeouts: u64,
    /// Names remembered.
    pub names: u64,
    /// Heap bytes of small files.
    pub heap_bytes: u64,
    /// Mapped bytes, in whole pages.
    pub mapped_bytes: u64,
    /// Mappings kept.
    pub mappings: u64,
    /// Checksums remembered.
    pub digests: u64,
    /// Checksums and compressed forms that wait or are under way.
    pub background: usize,
    /// Windows of which the file system could not say whether they are in memory.
    pub unanswered_probes: u64,
    /// Reads of cold pages that wait for a thread.
    pub reads_waiting: usize,
    /// Reads of cold pages on a thread.
    pub reads_running: usize,
    /// Reads of cold pages so far.
    pub reads: u64,
    /// Times that a response waited for a read that another had asked for.
    pub reads_shared: u64,
    /// Reads that were let go before their turn, since nobody waited for them any more.
    pub reads_dropped: u64,
    /// Requests that the disk did not answer in time.
    pub disk_timeouts: u64,
    /// Bytes of evicted mappings that wait to be taken down.
    pub unmapping_bytes: u64,
    /// Mappings that were taken down where they were let go, since too many waited.
    pub unmapped_in_place: u64,
    /// Names in front of all.
    pub name_cache: CacheCounts,
    /// Small files.
    pub heap_cache: CacheCounts,
    /// Mapped files.
    pub mapped_cache: CacheCounts,
    /// Checksums.
    pub digest_cache: CacheCounts,
    /// Checksums of whole files, computed in the background.
    pub digesting: WorkCounts,
    /// Compressed forms, made in the background.
    pub compressing: WorkCounts,
    /// Files that were opened to be sent from.
    pub handles_opened: u64,
    /// Of these, those that were closed again.
    pub handles_closed: u64,
}

#[cfg(test)]
impl FileSettings {
    /// Small bounds, for tests that need files and nothing special of them.
    pub(crate) fn small() -> Self {
        let second = Duration::from_secs(1);
        Self {
            revalidate_after: second,
            revalidate_watched_after: second,
            names: 64,
            heap_bytes: 1 << 20,
            heap_file_bytes: 16 << 10,
            cache_bytes: 1 << 20,
            mappings: 16,
            handles: HandleLimits { handles: 8, wait: second, idle: second, max_age: second },
            disk_threads: 1,
            populate_threads: 1,
            disk_timeout: Duration::from_secs(20),
            watches: None,
            compressed: None,
            background_threads: 1,
            etag: EtagSource::Version,
            verify: Verify::Off,
            digests: 16,
        }
    }
}
