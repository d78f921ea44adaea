//! Background tasks: digests, verification and encoded variants, computed apart from the requests that want them.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use super::{
    Asset, AssetCache, BackgroundQueues, Digest, EncodeOutcome, Fault, FileSettings, Loader, NameCache,
    QueueSlot, VariantError, Version, WorkCounters, WorkCounts, content, fault_of, is_shortage, original,
};
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// Starts background tasks for assets. Clones share queues and caches.
#[derive(Clone)]
pub(crate) struct BackgroundTasks {
    loader: Arc<Loader>,
    names: Arc<NameCache>,
    assets: Arc<AssetCache>,
    queues: Arc<TaskQueues>,
}

struct TaskQueues {
    digesting: BackgroundQueues,
    encoding: BackgroundQueues,
    digests: WorkCounters,
    encodings: WorkCounters,
}

/// The claim on computing a digest: ends it when dropped, however the task ends.
struct DigestClaim {
    asset: Arc<Asset>,
    algorithm: Algorithm,
}

/// The claim on encoding a variant: ends it when dropped, however the task ends.
struct EncodeClaim {
    asset: Arc<Asset>,
    encoding: Encoding,
    outcome: EncodeOutcome,
}

impl BackgroundTasks {
    /// # Errors
    /// If threads can't be started.
    pub(crate) fn new(
        loader: Arc<Loader>,
        names: Arc<NameCache>,
        assets: Arc<AssetCache>,
        settings: &FileSettings,
    ) -> io::Result<Self> {
        let queues = |name, long_from| BackgroundQueues::new(name, settings.background_threads, long_from);
        let queues = TaskQueues {
            digesting: queues("pagecast-digest", LONG_TO_DIGEST)?,
            encoding: queues("pagecast-code", LONG_TO_ENCODE)?,
            digests: WorkCounters::default(),
            encodings: WorkCounters::default(),
        };
        Ok(Self { loader, names, assets, queues: Arc::new(queues) })
    }

    /// The same tasks with another loader.
    pub(crate) fn with_loader(&self, loader: Arc<Loader>) -> Self {
        Self { loader, ..self.clone() }
    }

    /// Counts of digest tasks and of encoding tasks.
    pub(crate) fn counts(&self) -> (WorkCounts, WorkCounts) {
        let TaskQueues { digesting, encoding, digests, encodings } = &*self.queues;
        let slots = BackgroundQueues::SLOTS;
        (digests.counts(digesting.taken(), slots), encodings.counts(encoding.taken(), slots))
    }

    /// Starts encoding the file, unless that runs already or is known to be useless. Returns at once.
    pub(crate) fn start_encoding(&self, asset: &Arc<Asset>, encoding: Encoding) {
        // A racy asset is loaded again, and may then be something else.
        if asset.is_racy {
            return;
        }
        let Some(claim) = EncodeClaim::new(asset, encoding) else { return };
        if let Some(slot) = self.queues.encoding.queue_for(asset.length()).try_reserve() {
            tokio::spawn(self.clone().encode(claim, slot));
        }
    }

    async fn encode(self, mut claim: EncodeClaim, slot: QueueSlot) {
        let (asset, encoding) = (Arc::clone(&claim.asset), claim.encoding);
        let Some(variants) = &asset.variants else { return };
        let known = self.assets.encoded(&asset, encoding).await;
        if let Some(variant) = known.as_ref().filter(|variant| variant.generation == asset.generation) {
            variants.insert(encoding, variant.cache_ref());
            return;
        }
        let (loader, original) = (Arc::clone(&self.loader), Arc::clone(&asset));
        let queue = self.queues.encoding.queue_for(asset.length());
        let encoded = queue.run(move || match known.and_then(|variant| variant.heap_body()) {
            // Encoded under other rules: the bytes are the same, the headers may differ.
            Some(bytes) => Ok(Some(loader.encoded_variant(&original, encoding, &bytes))),
            None => content::encoded(&loader, &original, encoding),
        });
        let encoded = encoded.await;
        drop(slot);
        self.queues.encodings.record(match &encoded {
            Ok(Ok(variant)) => Ok(variant.is_some()),
            Ok(Err(_)) | Err(_) => Err(()),
        });
        claim.outcome = match encoded {
            Ok(Ok(Some(variant))) => {
                variants.insert(encoding, variant.cache_ref());
                self.assets.insert(&variant, None).await;
                EncodeOutcome::Kept
            }
            Ok(Ok(None)) => EncodeOutcome::Useless,
            Ok(Err(error)) => {
                self.names.invalidate(&asset.path).await;
                let is_changed = self.report(&error, &asset, "compressed");
                if is_changed { EncodeOutcome::Nothing } else { EncodeOutcome::Failed }
            }
            // The panic hook has logged why: the same bytes would panic again.
            Err(error) if error.is_panic() => EncodeOutcome::Useless,
            // The pool is shutting down.
            Err(_) => EncodeOutcome::Nothing,
        };
    }

    /// The digest of the asset's bytes: at once if it is known, else if it is computed within `wait`. The computation goes on
    /// even if nobody waits any more.
    pub(crate) async fn digest(
        &self,
        asset: &Arc<Asset>,
        algorithm: Algorithm,
        wait: Duration,
    ) -> Result<Digest, VariantError> {
        let known = || asset.digests.get(algorithm).cloned();
        if let Some(digest) = known().or_else(|| self.digest_if_short(asset, algorithm)) {
            return Ok(digest);
        }
        let mut computed = pin!(asset.digests.computed(algorithm));
        computed.as_mut().enable();
        if !self.start_digest(asset, algorithm) {
            return known().ok_or(VariantError::Busy);
        }
        let is_over = tokio::time::timeout(wait, computed).await.is_ok();
        known().ok_or_else(|| match is_over {
            true if asset.digests.has_failed(algorithm) => VariantError::Failed,
            true => VariantError::Changed,
            false => VariantError::Busy,
        })
    }

    /// Starts computing the digest, unless it is known or that runs already; false if the queue is full.
    pub(crate) fn start_digest(&self, asset: &Arc<Asset>, algorithm: Algorithm) -> bool {
        let Some(claim) = DigestClaim::new(asset, algorithm) else { return true };
        let slot = self.queues.digesting.queue_for(asset.length()).try_reserve();
        match slot.filter(|_| asset.digests.get(algorithm).is_none()) {
            Some(slot) => {
                tokio::spawn(self.clone().compute_digest(claim, slot));
                true
            }
            None => false,
        }
    }

    async fn compute_digest(self, claim: DigestClaim, slot: QueueSlot) {
        let DigestClaim { asset, algorithm } = &claim;
        let (loader, job, algorithm) = (Arc::clone(&self.loader), Arc::clone(asset), *algorithm);
        let queue = self.queues.digesting.queue_for(asset.length());
        let computed = queue.run(move || content::digest(&loader, &job, algorithm)).await;
        drop(slot);
        let has_digest = matches!(computed, Ok(Ok(_)));
        self.queues.digests.record(if has_digest { Ok(true) } else { Err(()) });
        if let Ok(Err(error)) = &computed {
            let is_changed = self.report(error, asset, "read for its checksum");
            asset.digests.set_failed(algorithm, !is_changed && !is_shortage(error));
        }
        // The file has changed, or can have a strong tag from now on.
        if asset.etag.is_weak() || !has_digest {
            self.names.invalidate(&asset.path).await;
            if let Some(original) = original(&asset.path) {
                self.names.invalidate(&original).await;
            }
        }
    }

    /// The digest, if computing it takes no time: the bytes are few and on the heap.
    pub(crate) fn digest_if_short(&self, asset: &Asset, algorithm: Algorithm) -> Option<Digest> {
        let is_short = asset.is_on_heap() && asset.length() <= AT_ONCE;
        is_short.then(|| content::digest(&self.loader, asset, algorithm).ok())?
    }

    /// The entity-tag of a file of this version, if it is known without reading the file.
    pub(crate) fn known_etag(&self, version: &Version) -> Option<String> {
        let tag = self.loader.tags.tag(version, None, None, false);
        (!tag.is_weak()).then(|| String::from_utf8_lossy(tag.as_bytes()).into_owned())
    }

    /// Whether the asset matches its checksum sidecar; true without one.
    ///
    /// # Errors
    /// If that is not known within `wait`, or one of the two files has changed.
    pub(crate) async fn is_verified(&self, asset: &Arc<Asset>, wait: Duration) -> Result<bool, VariantError> {
        if asset.sidecars.checksum().is_none() {
            return Ok(true);
        }
        if let Some(known) = asset.digests.is_verified.get() {
            return Ok(*known);
        }
        tokio::time::timeout(wait, self.verify(asset)).await.unwrap_or(Err(VariantError::Busy))
    }

    async fn verify(&self, asset: &Arc<Asset>) -> Result<bool, VariantError> {
        let _lock = asset.digests.verifying.lock().await;
        if let Some(known) = asset.digests.is_verified.get() {
            return Ok(*known);
        }
        let queue = self.queues.digesting.queue_for(asset.length());
        let slot = queue.try_reserve().ok_or(VariantError::Busy)?;
        let (loader, job) = (Arc::clone(&self.loader), Arc::clone(asset));
        let verified: Result<io::Result<bool>, JoinError> = queue
            .run(move || {
                let _slot = slot;
                if let Some(known) = job.digests.is_verified.get() {
                    return Ok(*known);
                }
                let verified = content::verify(&loader, &job)?;
                Ok(*job.digests.is_verified.get_or_init(|| verified))
            })
            .await;
        verified.map_err(|_| VariantError::Failed)?.map_err(|error| {
            if self.report(&error, asset, "checked") {
                VariantError::Changed
            } else if is_shortage(&error) {
                VariantError::Busy
            } else {
                VariantError::Failed
            }
        })
    }

    /// See [`content::stated_checksum`].
    pub(crate) fn stated_checksum(&self, path: &SitePath<'_>) -> io::Result<Option<Option<[u8; 32]>>> {
        content::stated_checksum(&self.loader, path)
    }

    /// Reports why a file could not be read to be `processed`, unless the file has changed; returns whether it has.
    fn report(&self, error: &io::Error, asset: &Asset, processed: &str) -> bool {
        let is_changed = matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT))
            || error.kind() == io::ErrorKind::UnexpectedEof;
        if is_changed {
            log::debug!("/{} could not be {processed}: it has changed", asset.path);
        } else {
            let fault = error.raw_os_error().map_or(Fault::Read, |code| fault_of(code, Fault::Read).0);
            let message = format_args!("/{} could not be {processed}: {error}", asset.path);
            self.loader.faults.report(fault, &asset.path, message);
        }
        is_changed
    }
}

impl DigestClaim {
    fn new(asset: &Arc<Asset>, algorithm: Algorithm) -> Option<Self> {
        asset.digests.begin(algorithm).then(|| Self { asset: Arc::clone(asset), algorithm })
    }
}

impl Drop for DigestClaim {
    fn drop(&mut self) {
        self.asset.digests.end(self.algorithm);
    }
}

impl EncodeClaim {
    fn new(asset: &Arc<Asset>, encoding: Encoding) -> Option<Self> {
        let is_claimed = asset.variants.as_ref()?.begin(encoding);
        is_claimed.then(|| Self { asset: Arc::clone(asset), encoding, outcome: EncodeOutcome::Nothing })
    }
}

impl Drop for EncodeClaim {
    fn drop(&mut self) {
        if let Some(variants) = &self.asset.variants {
            variants.end(self.encoding, self.outcome);
        }
    }
}

/// Longest body that is hashed on a worker: in less time than a switch to another thread takes.
const AT_ONCE: u64 = 16 * 1024;

/// From this length on a digest takes so long (about 20 ms) that others should not wait behind it.
const LONG_TO_DIGEST: u64 = 16 * 1024 * 1024;

/// The same for encoding (about half a second).
const LONG_TO_ENCODE: u64 = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::policy::rules::Rules;
    use crate::config::{Config, Symlinks};
    use crate::files::storage::{Call, Faulty, InjectedFault, When};
    use crate::files::{Files, Root};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Runs `job` in a runtime that ends with it, and with it the tasks that it has started.
    fn in_runtime<T>(job: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(job)
    }

    #[test]
    fn a_digest_and_a_variant_whose_tasks_die_are_computed_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), vec![b'a'; 50_000]).unwrap();
        let disk = Faulty::new();
        let root = Root::open_on(disk.clone(), dir.path(), Symlinks::Inside).unwrap();
        let settings = FileSettings { compressed: Some(1..=1 << 20), ..FileSettings::small() };
        let files = Files::new(root, &settings, Rules::new(&Config::default())).unwrap();
        let path = SitePath::parse(b"/a.txt").unwrap().path.into_owned();
        let asset = in_runtime(files.find(&path)).lookup.into_file().unwrap();
        let variants = asset.variants.as_ref().unwrap();
        let tasks = files.background();

        disk.inject(When::every(Call::Pread), InjectedFault::Hang);
        in_runtime(async {
            tasks.start_encoding(&asset, Encoding::Gzip);
            assert!(tasks.start_digest(&asset, Algorithm::Sha256));
            while disk.hanging() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(!variants.begin(Encoding::Gzip) && !asset.digests.begin(Algorithm::Sha256));
        });
        disk.heal();

        in_runtime(async {
            tasks.start_encoding(&asset, Encoding::Gzip);
            tasks.digest(&asset, Algorithm::Sha256, PATIENCE).await.unwrap();
            let encoded = async {
                while variants.cached(Encoding::Gzip).is_none() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, encoded).await.unwrap();
        });
    }
}
