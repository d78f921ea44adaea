//! Other forms of files, and checksums: what is computed away from the requests that ask for it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Files, is_short};
use crate::files::asset::Asset;
use crate::files::digests::Digest;
use crate::files::encoded_variants::EncodeOutcome;
use crate::files::faults::{Fault, fault_of};
use crate::files::load::VariantError;
use crate::files::sidecars::original;
use crate::files::version::Version;
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;
use crate::sys::blocking_pool::JobLost;

impl Files {
    /// The file in another coding: from memory, or from its sidecar.
    pub(crate) async fn form(
        &self,
        asset: &Arc<Asset>,
        coding: Encoding,
    ) -> Result<Arc<Asset>, VariantError> {
        let forms = asset.forms.as_ref().ok_or(VariantError::Changed)?;
        let tags = &self.inner.loader.tags;
        let is_fresh = |form: &Arc<Asset>| !form.is_racy && !tags.have_improved(form);
        let fresh = || forms.ready(coding).filter(is_fresh);
        if let Some(form) = fresh() {
            return Ok(form);
        }
        let _turn = forms.opening(coding).await;
        if let Some(form) = fresh() {
            return Ok(form);
        }
        let permit = self.inner.loader.handles.permit().await.map_err(|_| VariantError::Busy)?;
        let (inner, original) = (Arc::clone(&self.inner), Arc::clone(asset));
        let opened = self.ask(move || inner.loader.load_sidecar(&original, coding, permit)).await;
        let unanswered = |why| match why {
            JobLost::TimedOut => {
                self.tell_of_silence(&asset.path);
                Err(VariantError::Busy)
            }
            JobLost::Panicked => Err(VariantError::Failed),
        };
        let form = opened.unwrap_or_else(unanswered).inspect_err(|why| {
            if matches!(why, VariantError::Failed) {
                forms.give_up(coding);
            }
        })?;
        self.keep(&form, None).await;
        forms.keep(coding, form.held());
        Ok(form)
    }

    /// Has the file compressed, unless that is under way or known to be useless. Returns at once.
    pub(crate) fn compress_soon(&self, asset: &Arc<Asset>, coding: Encoding) {
        let Some(forms) = &asset.forms else { return };
        // What is racy will be read again, and may then be something else.
        if asset.is_racy || !forms.begin(coding) {
            return;
        }
        let Some(place) = self.inner.compressing.of(asset.length()).place() else {
            return forms.end(coding, EncodeOutcome::Nothing);
        };
        let (files, asset) = (self.clone(), Arc::clone(asset));
        tokio::spawn(async move {
            let Some(forms) = &asset.forms else { return };
            let known = files.inner.heap.get(&(asset.path.clone(), asset.version, Some(coding))).await;
            if let Some(form) = known.as_ref().filter(|form| form.generation == asset.generation) {
                forms.keep(coding, form.held());
                return forms.end(coding, EncodeOutcome::Nothing);
            }
            let (inner, original) = (Arc::clone(&files.inner), Arc::clone(&asset));
            let lane = files.inner.compressing.of(asset.length());
            let made = lane.run(move || match known.and_then(|form| form.heap_body()) {
                // Made under other rules: the bytes are the same, the fields may not be.
                Some(bytes) => Ok(Some(inner.loader.made_form(&original, coding, &bytes))),
                None => inner.loader.compress(&original, coding),
            });
            let made = made.await;
            drop(place);
            let tally = &files.inner.tallies.compressing;
            match &made {
                Ok(Ok(Some(_))) => tally.done(),
                Ok(Ok(None)) => tally.useless(),
                Ok(Err(_)) | Err(_) => tally.failed(),
            }
            let made = match made {
                Ok(Ok(Some(form))) => {
                    forms.keep(coding, form.held());
                    files.keep(&form, None).await;
                    EncodeOutcome::Kept
                }
                Ok(Ok(None)) => EncodeOutcome::Useless,
                Ok(Err(error)) => {
                    files.distrust_path(&asset.path).await;
                    let is_changed = files.tell_of_background(&error, &asset, "compressed");
                    if is_changed { EncodeOutcome::Nothing } else { EncodeOutcome::Failed }
                }
                // A panic has been logged by its hook: the same bytes would bring it about again.
                Err(_) => EncodeOutcome::Useless,
            };
            forms.end(coding, made);
        });
    }

    /// The checksum of the asset's bytes: at once if it is known, else if it can be computed within `wait`. It is computed to
    /// the end whether or not anybody still waits.
    pub(crate) async fn digest(
        &self,
        asset: &Arc<Asset>,
        algorithm: Algorithm,
        wait: Duration,
    ) -> Result<Digest, VariantError> {
        let known = || asset.digests.get(algorithm).cloned();
        if let Some(digest) = known().or_else(|| self.digest_at_once(asset, algorithm)) {
            return Ok(digest);
        }
        let mut computed = pin!(asset.digests.computed(algorithm));
        computed.as_mut().enable();
        if !self.digest_soon(asset, algorithm) {
            return known().ok_or(VariantError::Busy);
        }
        let is_over = tokio::time::timeout(wait, computed).await.is_ok();
        known().ok_or_else(|| match is_over {
            true if asset.digests.has_failed(algorithm) => VariantError::Failed,
            true => VariantError::Changed,
            false => VariantError::Busy,
        })
    }

    /// Has the checksum computed, unless it is known or under way; false where there is no place for that now.
    pub(crate) fn digest_soon(&self, asset: &Arc<Asset>, algorithm: Algorithm) -> bool {
        if !asset.digests.begin(algorithm) {
            return true;
        }
        let place = self.inner.digesting.of(asset.length()).place();
        let Some(place) = place.filter(|_| asset.digests.get(algorithm).is_none()) else {
            asset.digests.end(algorithm);
            return false;
        };
        let (files, asset) = (self.clone(), Arc::clone(asset));
        tokio::spawn(async move {
            let (inner, job) = (Arc::clone(&files.inner), Arc::clone(&asset));
            let lane = files.inner.digesting.of(asset.length());
            let computed = lane.run(move || inner.loader.digest(&job, algorithm)).await;
            drop(place);
            let tally = &files.inner.tallies.digesting;
            if matches!(computed, Ok(Ok(_))) {
                tally.done()
            } else {
                tally.failed()
            }
            if let Ok(Err(error)) = &computed {
                let is_changed = files.tell_of_background(error, &asset, "read for its checksum");
                asset.digests.fail(algorithm, !is_changed && !is_short(error));
            }
            // It has changed, or can have a strong tag from now on.
            if asset.etag.is_weak() || !matches!(computed, Ok(Ok(_))) {
                files.distrust_path(&asset.path).await;
                if let Some(original) = original(&asset.path) {
                    files.distrust_path(&original).await;
                }
            }
            asset.digests.end(algorithm);
        });
        true
    }

    /// The checksum, where it takes no time worth mentioning: the bytes are few and in memory.
    pub(crate) fn digest_at_once(&self, asset: &Asset, algorithm: Algorithm) -> Option<Digest> {
        let is_small = asset.is_on_heap() && asset.length() <= AT_ONCE;
        is_small.then(|| self.inner.loader.digest(asset, algorithm).ok())?
    }

    /// The entity tag that a file of this version is served with as it is, if that is known without reading it.
    pub(crate) fn known_etag(&self, version: &Version) -> Option<String> {
        let tag = self.inner.loader.tags.tag(version, None, None, false);
        (!tag.is_weak()).then(|| String::from_utf8_lossy(tag.as_bytes()).into_owned())
    }

    /// Whether the asset is what the checksum beside it says.
    ///
    /// # Errors
    /// Where that is not known within `wait`, or one of the two has changed.
    pub(crate) async fn is_verified(&self, asset: &Arc<Asset>, wait: Duration) -> Result<bool, VariantError> {
        if asset.beside.checksum().is_none() {
            return Ok(true);
        }
        if let Some(known) = asset.digests.is_verified.get() {
            return Ok(*known);
        }
        tokio::time::timeout(wait, self.find_out_whether_verified(asset))
            .await
            .unwrap_or(Err(VariantError::Busy))
    }

    async fn find_out_whether_verified(&self, asset: &Arc<Asset>) -> Result<bool, VariantError> {
        let _turn = asset.digests.verifying.lock().await;
        if let Some(known) = asset.digests.is_verified.get() {
            return Ok(*known);
        }
        let lane = self.inner.digesting.of(asset.length());
        let place = lane.place().ok_or(VariantError::Busy)?;
        let (inner, job) = (Arc::clone(&self.inner), Arc::clone(asset));
        let verifying = lane.run(move || {
            let _place = place;
            if let Some(known) = job.digests.is_verified.get() {
                return Ok(*known);
            }
            let verified = inner.loader.verify(&job)?;
            Ok::<_, io::Error>(*job.digests.is_verified.get_or_init(|| verified))
        });
        let Ok(verified) = verifying.await else { return Err(VariantError::Failed) };
        verified.map_err(|error| match self.tell_of_background(&error, asset, "checked") {
            true => VariantError::Changed,
            false if is_short(&error) => VariantError::Busy,
            false => VariantError::Failed,
        })
    }

    /// Tells of what kept a whole file from being read to be `treated`, unless it is that the file has changed; true where
    /// that is it.
    fn tell_of_background(&self, error: &io::Error, asset: &Asset, treated: &str) -> bool {
        let is_changed = matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT))
            || error.kind() == io::ErrorKind::UnexpectedEof;
        if is_changed {
            log::debug!("/{} could not be {treated}: it has changed", asset.path);
        } else {
            let fault = error.raw_os_error().map_or(Fault::Read, |code| fault_of(code, Fault::Read).0);
            let words = format_args!("/{} could not be {treated}: {error}", asset.path);
            self.faults().report(fault, &asset.path, words);
        }
        is_changed
    }

    /// What the checksum beside `path` says, where checksums are heeded and there is one. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn checksum_beside(&self, path: &SitePath<'_>) -> io::Result<Option<Option<[u8; 32]>>> {
        self.inner.loader.checksum_beside(path)
    }
}

/// So many bytes are hashed on a worker: in less time than it takes to hand them over.
const AT_ONCE: u64 = 16 * 1024;
