//! Background tasks: digests, verification and encoded variants, computed apart from the requests that want them.

use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use scopeguard::guard;

use super::{
    Asset, Digest, Fault, Files, QueueSlot, TaskOutcome, Unavailable, Version, fault_of, is_shortage,
};
use crate::http::{digest::Algorithm, encoding::Encoding};

impl Files {
    /// Starts encoding the file, unless that runs already or is known to be useless. Returns at once.
    pub(crate) fn start_encoding(&self, asset: &Arc<Asset>, encoding: Encoding) {
        // A racy asset is loaded again, and may then be something else.
        if asset.is_racy || !asset.variants.as_ref().is_some_and(|variants| variants.begin(encoding)) {
            return;
        }
        // Ends the claim on the variant when dropped, however the task ends.
        let claim = guard((Arc::clone(asset), TaskOutcome::Nothing), move |(asset, outcome)| {
            if let Some(variants) = &asset.variants {
                variants.end(encoding, outcome);
            }
        });
        if let Some(slot) = self.shared.encoding.try_reserve(asset.length) {
            tokio::spawn(self.clone().encode(encoding, claim, slot));
        }
    }

    async fn encode(
        self,
        encoding: Encoding,
        mut claim: impl DerefMut<Target = (Arc<Asset>, TaskOutcome)>,
        slot: QueueSlot,
    ) {
        let asset = Arc::clone(&claim.0);
        let Some(variants) = &asset.variants else { return };
        let known = self.shared.assets.encoded(&asset, encoding).await;
        if let Some(variant) = known.as_ref().filter(|variant| variant.generation == asset.generation) {
            variants.insert(encoding, variant.cache_ref());
            return;
        }
        let (loader, original) = (Arc::clone(&self.loader), Arc::clone(&asset));
        let encoded = slot.run(move || match known.and_then(|variant| variant.heap_body()) {
            // Encoded under other rules: the bytes are the same, the headers may differ.
            Some(bytes) => Ok(Some(loader.encoded_variant(&original, encoding, &bytes))),
            None => loader.encoded(&original, encoding),
        });
        claim.1 = match encoded.await {
            Ok(Ok(Some(variant))) => {
                variants.insert(encoding, variant.cache_ref());
                self.shared.assets.insert(&variant, None).await;
                TaskOutcome::Kept
            }
            Ok(Ok(None)) => TaskOutcome::Useless,
            Ok(Err(error)) => {
                self.shared.names.invalidate(&asset.path).await;
                match self.report(&error, &asset, "compressed") {
                    Unavailable::Changed => TaskOutcome::Nothing,
                    Unavailable::Busy | Unavailable::Failed => TaskOutcome::Failed,
                }
            }
            // The panic hook has logged why.
            Err(error) if error.is_panic() => TaskOutcome::Panicked,
            // The pool is shutting down.
            Err(_) => TaskOutcome::Nothing,
        };
        self.shared.encoding.count(claim.1);
    }

    /// The digest of the asset's bytes: at once if it is known, else if it is computed within `wait`. The computation goes on
    /// even if nobody waits any more.
    pub(crate) async fn digest(
        &self,
        asset: &Arc<Asset>,
        algorithm: Algorithm,
        wait: Duration,
    ) -> Result<Digest, Unavailable> {
        let slot = asset.digests.slot(algorithm);
        let known = || slot.digest.get().cloned();
        if let Some(digest) = known().or_else(|| self.digest_if_short(asset, algorithm)) {
            return Ok(digest);
        }
        let mut computed = pin!(slot.computed.notified());
        computed.as_mut().enable();
        if !self.start_digest(asset, algorithm) {
            return known().ok_or(Unavailable::Busy);
        }
        let is_over = tokio::time::timeout(wait, computed).await.is_ok();
        known().ok_or_else(|| match is_over {
            true if slot.has_failed.load(Ordering::Acquire) => Unavailable::Failed,
            true => Unavailable::Changed,
            false => Unavailable::Busy,
        })
    }

    /// Starts computing the digest, unless it is known or that runs already; false if the queue is full.
    pub(crate) fn start_digest(&self, asset: &Arc<Asset>, algorithm: Algorithm) -> bool {
        if !asset.digests.slot(algorithm).begin() {
            return true;
        }
        // Ends the claim on the digest when dropped, however the task ends.
        let claim = guard(Arc::clone(asset), move |asset| asset.digests.slot(algorithm).end());
        let slot = self.shared.digesting.try_reserve(asset.length);
        match slot.filter(|_| asset.digests.get(algorithm).is_none()) {
            Some(slot) => {
                tokio::spawn(self.clone().compute_digest(algorithm, claim, slot));
                true
            }
            None => false,
        }
    }

    async fn compute_digest(
        self,
        algorithm: Algorithm,
        claim: impl Deref<Target = Arc<Asset>>,
        slot: QueueSlot,
    ) {
        let (loader, asset, job) = (Arc::clone(&self.loader), &*claim, Arc::clone(&claim));
        let computed = slot.run(move || loader.digest(&job, algorithm)).await;
        let has_digest = matches!(computed, Ok(Ok(_)));
        self.shared.digesting.count(if has_digest { TaskOutcome::Kept } else { TaskOutcome::Failed });
        if let Ok(Err(error)) = &computed {
            let has_failed =
                matches!(self.report(error, asset, "read for its checksum"), Unavailable::Failed);
            asset.digests.slot(algorithm).has_failed.store(has_failed, Ordering::Release);
        }
        // The file has changed, or can have a strong tag from now on.
        if asset.etag.is_weak() || !has_digest {
            self.shared.names.invalidate_with_original(&asset.path).await;
        }
    }

    /// The digest, if computing it takes no time: the bytes are few and on the heap.
    pub(crate) fn digest_if_short(&self, asset: &Asset, algorithm: Algorithm) -> Option<Digest> {
        let is_short = asset.is_on_heap() && asset.length <= AT_ONCE;
        is_short.then(|| self.loader.digest(asset, algorithm).ok())?
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
    pub(crate) async fn is_verified(&self, asset: &Arc<Asset>, wait: Duration) -> Result<bool, Unavailable> {
        if asset.sidecars.checksum().is_none() {
            return Ok(true);
        }
        if let Some(known) = asset.digests.is_verified.get() {
            return Ok(*known);
        }
        tokio::time::timeout(wait, self.verify(asset)).await.unwrap_or(Err(Unavailable::Busy))
    }

    async fn verify(&self, asset: &Arc<Asset>) -> Result<bool, Unavailable> {
        let _lock = asset.digests.verifying.lock().await;
        if let Some(known) = asset.digests.is_verified.get() {
            return Ok(*known);
        }
        let slot = self.shared.digesting.try_reserve(asset.length).ok_or(Unavailable::Busy)?;
        let (loader, job) = (Arc::clone(&self.loader), Arc::clone(asset));
        let verified = slot.run(move || {
            if let Some(known) = job.digests.is_verified.get() {
                return Ok(*known);
            }
            let verified = loader.verify(&job)?;
            Ok(*job.digests.is_verified.get_or_init(|| verified))
        });
        let verified: io::Result<bool> = verified.await.map_err(|_| Unavailable::Failed)?;
        verified.map_err(|error| self.report(&error, asset, "checked"))
    }

    /// Why a file could not be read to be `processed`. Reported, unless the file has changed.
    fn report(&self, error: &io::Error, asset: &Asset, processed: &str) -> Unavailable {
        let is_changed = matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT))
            || error.kind() == io::ErrorKind::UnexpectedEof;
        if is_changed {
            log::debug!("/{} could not be {processed}: it has changed", asset.path);
            return Unavailable::Changed;
        }
        let fault = error.raw_os_error().map_or(Fault::Read, |code| fault_of(code, Fault::Read).0);
        let message = format_args!("/{} could not be {processed}: {error}", asset.path);
        self.loader.faults.report(fault, &asset.path, message);
        if is_shortage(error) { Unavailable::Busy } else { Unavailable::Failed }
    }
}

/// Longest body that is hashed on a worker: in less time than a switch to another thread takes.
const AT_ONCE: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteCount, CompressionGroup, Config, Symlinks};
    use crate::files::policy::Rules;
    use crate::files::storage::{Call, Faulty, InjectedFault, When};
    use crate::files::{FileSettings, Root};
    use crate::http::target::SitePath;

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
        let compression = CompressionGroup { compress_to: ByteCount::mib(1), ..CompressionGroup::default() };
        let mut settings = FileSettings::small();
        settings.config.compression = compression.into();
        let files = Files::new(root, &settings, Rules::new(&Config::default())).unwrap();
        let path = SitePath::parse(b"/a.txt").unwrap().path.into_owned();
        let asset = in_runtime(files.find(&path)).lookup.into_file().unwrap();
        let variants = asset.variants.as_ref().unwrap();

        disk.inject(When::every(Call::Pread), InjectedFault::Hang);
        in_runtime(async {
            files.start_encoding(&asset, Encoding::Gzip);
            assert!(files.start_digest(&asset, Algorithm::Sha256));
            while disk.hanging() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(!variants.begin(Encoding::Gzip) && !asset.digests.slot(Algorithm::Sha256).begin());
        });
        disk.heal();

        in_runtime(async {
            files.start_encoding(&asset, Encoding::Gzip);
            files.digest(&asset, Algorithm::Sha256, PATIENCE).await.unwrap();
            let encoded = async {
                while variants.cached(Encoding::Gzip).is_none() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(PATIENCE, encoded).await.unwrap();
        });
    }
}
