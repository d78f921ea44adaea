//! Settings of the files: bounds and times.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::HandleLimits;
use crate::config::{Config, EtagSource, ResolvedLimits, Verify};

/// Bounds and times of the files, caches and threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Time for which a name is trusted without another check.
    pub revalidate_after: Duration,
    /// The same for a name whose changes inotify reports.
    pub revalidate_watched_after: Duration,
    /// Most names in the name cache, found or missing.
    pub names: u64,
    /// Most bytes of small files on the heap.
    pub heap_bytes: u64,
    /// Length of the largest small file.
    pub heap_file_bytes: u64,
    /// Most bytes that stay mapped.
    pub cache_bytes: u64,
    /// Most mappings.
    pub mappings: u64,
    /// Bounds and times of open files.
    pub handles: HandleLimits,
    /// Threads that open files and look them up.
    pub disk_threads: usize,
    /// Threads that read cold pages, for each device.
    pub populate_threads: usize,
    /// How long a request waits for the disk.
    pub disk_timeout: Duration,
    /// Most directories watched by inotify; `None` turns it off.
    pub watches: Option<usize>,
    /// Lengths of the files that are encoded in the background; `None` turns it off.
    pub compressed: Option<RangeInclusive<u64>>,
    /// Threads that encode, and as many that compute digests.
    pub background_threads: usize,
    /// What entity-tags are made of.
    pub etag: EtagSource,
    /// Whether files are verified against their checksum sidecars.
    pub verify: Verify,
    /// Most digests in the cache.
    pub digests: u64,
}

impl FileSettings {
    /// The settings of `config`, with `limits` for those that it leaves open.
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

#[cfg(test)]
impl FileSettings {
    /// Small bounds, for tests.
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
