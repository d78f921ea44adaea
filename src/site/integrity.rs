//! What a response says of its bytes' integrity (RFC 9530), and what is checked before they are sent.

use std::sync::Arc;

use actix_web::HttpResponse;

use crate::files::Asset;
use crate::files::digests::Digest;
use crate::http::checksum_file::checksum_line;
use crate::http::digest::{Algorithm, hexadecimal};
use crate::site::error::HttpError;
use crate::site::handler::{SendFailure, Site};
use crate::site::reply::{Checksums, text};
use crate::site::request_facts::RequestHeaders;

impl Site {
    /// The checksums that go with a response where none is asked for; nothing where some are.
    pub(crate) fn known_checksums(&self, form: &Asset, fields: &RequestHeaders<'_>) -> Option<Checksums> {
        let is_asked = fields.digest.is_some() || form.policy.digests() != [None, None];
        (!is_asked).then(|| known(form))
    }

    /// The checksums that go with a response that is to have some: those that the client or the rules ask for, as far as they are known, else
    /// what is known. A HEAD that asks waits; what is small and in memory is computed at once.
    pub(crate) async fn checksums(
        &self,
        form: &Arc<Asset>,
        fields: &RequestHeaders<'_>,
        is_head: bool,
    ) -> Checksums {
        if let Some(known) = self.known_checksums(form, fields) {
            return known;
        }
        let wanted = match fields.digest {
            Some(algorithm) => [Some(algorithm), None],
            None => form.policy.digests(),
        };
        let mut checksums = Vec::new();
        for algorithm in wanted.into_iter().flatten() {
            let waits = is_head && fields.digest.is_some();
            if let Some(digest) = self.checksum(form, algorithm, waits).await {
                checksums.push((algorithm, digest));
            }
        }
        if checksums.is_empty() { known(form) } else { checksums }
    }

    async fn checksum(&self, form: &Arc<Asset>, algorithm: Algorithm, waits: bool) -> Option<Digest> {
        if let Some(known) = form.digests.get(algorithm) {
            return Some(Arc::clone(known));
        }
        if let Some(digest) = self.files.background().digest_if_short(form, algorithm) {
            return Some(digest);
        }
        if waits {
            return self.files.background().digest(form, algorithm, self.manners.digest_wait).await.ok();
        }
        // Whoever asks later finds it known.
        self.files.background().start_digest(form, algorithm);
        None
    }

    /// The line that `sha256sum` would print of the file.
    pub(crate) async fn checksum_file(
        &self,
        asset: &Arc<Asset>,
        name: &[u8],
        is_head: bool,
    ) -> Result<HttpResponse, SendFailure> {
        let algorithm = Algorithm::from_token(name).ok_or(HttpError::UnknownDigest)?;
        let digest = self.files.background().digest(asset, algorithm, self.manners.digest_wait).await?;
        let line = checksum_line(&hexadecimal(&digest), asset.path.file_name());
        Ok(text(&asset.policy, &line, is_head))
    }

    /// Waits until it is known that the file is what the checksum beside it says.
    pub(crate) async fn verify(&self, asset: &Arc<Asset>) -> Result<(), SendFailure> {
        match self.files.background().is_verified(asset, self.manners.digest_wait).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(HttpError::Failed.into()),
            Err(why) => Err(why.into()),
        }
    }
}

fn known(form: &Asset) -> Checksums {
    let of = |algorithm| Some((algorithm, Arc::clone(form.digests.get(algorithm)?)));
    Algorithm::ALL.into_iter().filter_map(of).collect()
}
