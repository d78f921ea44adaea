//! Checksums that are sent with a response (RFC 9530), and the verification before it.

use std::sync::Arc;

use actix_web::HttpResponse;

use crate::files::Asset;
use crate::files::digests::Digest;
use crate::http::canned_response::{FAILED, UNKNOWN_DIGEST};
use crate::http::checksum_file::checksum_line;
use crate::http::digest::{Algorithm, hexadecimal};
use crate::http::error::HttpError;
use crate::site::reply::{Checksums, text};
use crate::site::representation::SendFailure;
use crate::site::request_facts::RequestHeaders;
use crate::site::settings::SiteSettings;

/// Returns the known checksums of `form`; `None` if the client or a rule wants particular ones.
pub(crate) fn known_checksums(form: &Asset, headers: &RequestHeaders<'_>) -> Option<Checksums> {
    let is_wanted = headers.digest.is_some() || form.policy.digests() != [None, None];
    (!is_wanted).then(|| known(form))
}

/// Returns the wanted checksums as far as they are known, else the known ones. HEAD with a wanted digest waits; a small file in
/// memory is hashed at once.
pub(crate) async fn checksums(
    settings: &SiteSettings,
    form: &Arc<Asset>,
    headers: &RequestHeaders<'_>,
    is_head: bool,
) -> Checksums {
    if let Some(known) = known_checksums(form, headers) {
        return known;
    }
    let wanted = match headers.digest {
        Some(algorithm) => [Some(algorithm), None],
        None => form.policy.digests(),
    };
    let mut checksums = Vec::new();
    for algorithm in wanted.into_iter().flatten() {
        let waits = is_head && headers.digest.is_some();
        if let Some(digest) = checksum(settings, form, algorithm, waits).await {
            checksums.push((algorithm, digest));
        }
    }
    if checksums.is_empty() { known(form) } else { checksums }
}

async fn checksum(
    settings: &SiteSettings,
    form: &Arc<Asset>,
    algorithm: Algorithm,
    waits: bool,
) -> Option<Digest> {
    if let Some(known) = form.digests.get(algorithm) {
        return Some(Arc::clone(known));
    }
    if let Some(digest) = settings.files.digest_if_short(form, algorithm) {
        return Some(digest);
    }
    if waits {
        let wait = settings.config.integrity.digest_wait.get();
        return settings.files.digest(form, algorithm, wait).await.ok();
    }
    // Later requests find it known.
    settings.files.start_digest(form, algorithm);
    None
}

/// Makes the line that `sha256sum` would print of the file.
pub(crate) async fn checksum_file(
    settings: &SiteSettings,
    asset: &Arc<Asset>,
    name: &[u8],
    is_head: bool,
) -> Result<HttpResponse, SendFailure> {
    let algorithm = Algorithm::from_token(name).ok_or(HttpError::Fixed(&UNKNOWN_DIGEST))?;
    let digest = settings.files.digest(asset, algorithm, settings.config.integrity.digest_wait.get()).await?;
    let line = checksum_line(&hexadecimal(&digest), asset.path.file_name());
    Ok(text(&asset.policy, &line, is_head))
}

/// Waits until the file is known to match its checksum file.
pub(crate) async fn verify(settings: &SiteSettings, asset: &Arc<Asset>) -> Result<(), SendFailure> {
    let wait = settings.config.integrity.digest_wait.get();
    match settings.files.is_verified(asset, wait).await? {
        true => Ok(()),
        false => Err(HttpError::Fixed(&FAILED).into()),
    }
}

fn known(form: &Asset) -> Checksums {
    let of = |algorithm| Some((algorithm, Arc::clone(form.digests.get(algorithm)?)));
    Algorithm::ALL.into_iter().filter_map(of).collect()
}
