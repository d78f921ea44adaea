//! Entity-tags, made of the version or of the content.

use super::{Asset, Digests, KnownDigests, Version, digest_of};
use crate::config::EtagSource;
use crate::http::{digest::Algorithm, encoding::Encoding, entity_tag::EntityTag};

/// Makes entity-tags.
///
/// Decision: docs/decisions/021-content-tags.md.
#[derive(Clone)]
pub(crate) struct Tags {
    pub(crate) source: EtagSource,
    pub(crate) digests: Digests,
}

impl Tags {
    /// The tag of a version in an encoding. `body` has its bytes if they are in memory.
    ///
    /// A content tag needs the digest of the bytes. Until that is known the tag is made of the version and weak, since the
    /// same bytes will have another one.
    pub(crate) fn tag(
        &self,
        version: &Version,
        encoding: Option<Encoding>,
        body: Option<&[u8]>,
        is_racy: bool,
    ) -> EntityTag<'static> {
        if self.source == EtagSource::Version {
            return version.entity_tag(encoding);
        }
        let digest = match body {
            Some(body) => Some(digest_of(Algorithm::Sha256, body)),
            None => self.digests.get(version, Algorithm::Sha256),
        };
        let Some(digest) = digest else { return version.entity_tag(encoding).weakened() };
        let tag = EntityTag::strong_content(&digest, encoding);
        if body.is_some() && !is_racy {
            self.digests.put(version, Algorithm::Sha256, digest);
        }
        tag
    }

    /// The tag of bytes that were encoded here.
    pub(crate) fn of_bytes(bytes: &[u8], encoding: Option<Encoding>) -> EntityTag<'static> {
        EntityTag::strong_content(&digest_of(Algorithm::Sha256, bytes), encoding)
    }

    /// Whether the asset's tag is weak and a strong one can be made by now.
    pub(crate) fn can_improve(&self, asset: &Asset) -> bool {
        let is_known = || {
            asset.digests.get(Algorithm::Sha256).is_some()
                || self.digests.get(&asset.version, Algorithm::Sha256).is_some()
        };
        asset.etag.is_weak() && is_known()
    }

    /// Stores the digests that an asset of the version knows.
    pub(crate) fn store(&self, version: &Version, known: &KnownDigests) {
        for algorithm in Algorithm::ALL {
            if let Some(digest) = known.get(algorithm) {
                self.digests.put(version, algorithm, digest.clone());
            }
        }
    }

    /// The known digests of a version.
    pub(crate) fn known_digests(&self, version: &Version) -> KnownDigests {
        let known = KnownDigests::default();
        for algorithm in Algorithm::ALL {
            if let Some(digest) = self.digests.get(version, algorithm) {
                known.set(algorithm, digest);
            }
        }
        known
    }
}
