//! Settings of the files: bounds and times.

use std::time::Duration;

use crate::config::{CompressionGroup, Config, ResolvedLimits, Verify};

/// The configuration, and the limits derived for the settings that it leaves open. Bounds in bytes and entries, times as durations.
#[derive(Clone, Debug)]
pub struct FileSettings {
    pub(super) config: Config,
    pub(super) limits: ResolvedLimits,
}

impl FileSettings {
    /// The settings of `config`, with `limits` for those that it leaves open.
    pub fn of(config: &Config, limits: &ResolvedLimits) -> Self {
        Self { config: config.clone(), limits: *limits }
    }

    /// True if names and assets made under these settings are valid under the others too.
    pub(super) fn has_same_effect_as(&self, other: &Self) -> bool {
        let decisive = |of: &Self| {
            let Config { caches, sending, compression, integrity, .. } = of.config.clone();
            let bytes = (of.limits.heap_bytes, of.limits.cache_bytes);
            (caches, compression, integrity.etag, integrity.verify, sending.disk_timeout, bytes)
        };
        decisive(self) == decisive(other)
    }

    /// Files up to this length are copied to the heap.
    ///
    /// Decision: docs/decisions/022-small-files-on-the-heap.md.
    pub(super) fn heap_file_bytes(&self) -> u64 {
        self.config.caches.heap_file_bytes.get().min(self.variant_bytes())
    }

    /// Longer files are not mapped: a single one would evict too many others.
    pub(super) fn mapped_file_bytes(&self) -> u64 {
        self.limits.cache_bytes / LARGEST_SHARE
    }

    /// Longer encoded variants are not kept.
    pub(super) fn variant_bytes(&self) -> u64 {
        self.limits.heap_bytes / LARGEST_SHARE
    }

    /// Whether a file of `length` bytes is encoded in the background, if it is text.
    pub(super) fn encodes(&self, length: u64) -> bool {
        let CompressionGroup { compress, compress_from, compress_to, .. } = &*self.config.compression;
        let has_room = self.limits.heap_bytes >= LARGEST_SHARE;
        compress.is_on() && has_room && (compress_from.get()..=compress_to.get()).contains(&length)
    }

    /// Whether a file with a checksum sidecar is served only if it matches it.
    pub(super) fn verifies(&self) -> bool {
        self.config.integrity.verify == Verify::Serve
    }

    /// How long a request waits for the disk.
    pub(crate) fn disk_timeout(&self) -> Duration {
        self.config.sending.disk_timeout.get()
    }
}

/// No file may take more than one part in this many of a cache's bytes.
const LARGEST_SHARE: u64 = 4;

#[cfg(test)]
impl FileSettings {
    /// Small bounds, for tests.
    pub(crate) fn small() -> Self {
        use crate::config::{
            ByteCount, CachesGroup, Count, DurationSetting, IntegrityGroup, OnOff, OpenFilesGroup,
            SendingGroup,
        };
        use std::sync::Arc;
        let second = DurationSetting::seconds(1);
        let config = Config {
            caches: Arc::new(CachesGroup {
                revalidate_after: second,
                revalidate_watched_after: second,
                names: Count::of(64),
                heap_file_bytes: ByteCount::kib(16),
                watch: OnOff::Off,
                ..CachesGroup::default()
            }),
            open_files: Arc::new(OpenFilesGroup {
                handle_wait: second,
                handle_idle: second,
                handle_max_age: second,
                ..OpenFilesGroup::default()
            }),
            sending: Arc::new(SendingGroup {
                disk_threads: Count::of(1),
                populate_threads: Count::of(1),
                disk_timeout: DurationSetting::seconds(20),
                ..SendingGroup::default()
            }),
            compression: Arc::new(CompressionGroup { compress: OnOff::Off, ..CompressionGroup::default() }),
            integrity: Arc::new(IntegrityGroup { digests: Count::of(16), ..IntegrityGroup::default() }),
            ..Config::default()
        };
        let (handles, mappings, heap_bytes, cache_bytes) = (8, 16, 1 << 20, 1 << 20);
        Self::of(
            &config,
            &ResolvedLimits { handles, mappings, heap_bytes, cache_bytes, ..ResolvedLimits::default() },
        )
    }

    /// The same settings with other caches.
    pub(crate) fn with_caches(mut self, change: impl FnOnce(&mut crate::config::CachesGroup)) -> Self {
        change(std::sync::Arc::make_mut(&mut self.config.caches));
        self
    }
}
