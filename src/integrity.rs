//! What a response says of its bytes' integrity (RFC 9530), and what is checked before they are sent.

use std::sync::Arc;

use actix_web::HttpResponse;

use crate::asked::Fields;
use crate::error::Refused;
use crate::files::Asset;
use crate::files::load::NoForm;
use crate::http::digest::{Algorithm, checksum_line};
use crate::reply::{Checksum, text};
use crate::serve::{Site, Unsent};

impl Site {
    /// The checksum that goes with a response: the one that the client or the rules ask for, once it is known, else one that
    /// is known. A HEAD that asks waits for it; what is small and in memory is computed at once.
    pub(crate) async fn checksum_of(
        &self,
        form: &Arc<Asset>,
        fields: &Fields<'_>,
        is_head: bool,
    ) -> Option<Checksum> {
        let wanted = fields.digest.or_else(|| form.policy.digest());
        let Some(algorithm) = wanted else { return known(form) };
        if let Some(digest) = form.digests.get(algorithm) {
            return Some(Checksum { algorithm, digest: Arc::clone(digest) });
        }
        if let Some(digest) = self.files.digest_at_once(form, algorithm) {
            return Some(Checksum { algorithm, digest });
        }
        if is_head && fields.digest.is_some() {
            let wait = self.manners.digest_wait;
            let digest = Box::pin(self.files.digest(form, algorithm, wait)).await;
            return digest.map(|digest| Checksum { algorithm, digest });
        }
        // Whoever asks later finds it known.
        self.files.digest_soon(form, algorithm);
        known(form)
    }

    /// The line that `sha256sum` would print of the file.
    pub(crate) async fn checksum_file(
        &self,
        asset: &Arc<Asset>,
        name: &[u8],
        is_head: bool,
    ) -> Result<HttpResponse, Unsent> {
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.token().as_bytes().eq_ignore_ascii_case(name))
            .ok_or(Refused::UnknownDigest)?;
        let digest = self.files.digest(asset, algorithm, self.manners.digest_wait).await.ok_or(Refused::Busy)?;
        Ok(text(&asset.policy, &checksum_line(&digest, asset.path.file_name()), is_head))
    }

    /// Waits until it is known that the file is what the checksum beside it says.
    pub(crate) async fn verify(&self, asset: &Arc<Asset>) -> Result<(), Unsent> {
        match Box::pin(self.files.is_verified(asset, self.manners.digest_wait)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refused::Failed.into()),
            Err(NoForm::Changed) => Err(Unsent::Changed),
            Err(_) => Err(Refused::Busy.into()),
        }
    }
}

fn known(form: &Asset) -> Option<Checksum> {
    let of = |algorithm| {
        let digest = Arc::clone(form.digests.get(algorithm)?);
        Some(Checksum { algorithm, digest })
    };
    Algorithm::ALL.into_iter().find_map(of)
}
