//! What entity tags are made of: the version, or the content.

use super::asset::Asset;
use super::digests::{Digests, KnownDigests, digest_of};
use super::version::Version;
use crate::config::EtagSource;
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::entity_tag::EntityTag;

/// Makes entity tags.
#[derive(Clone)]
pub(crate) struct Tags {
    pub(crate) source: EtagSource,
    pub(crate) digests: Digests,
}

impl Tags {
    /// The tag of a version in a coding. `body` are its bytes where they are in memory.
    ///
    /// A content tag needs the checksum of the bytes. While that is not known the tag is made of the version, and weak: it
    /// will be another one for the same bytes.
    pub(crate) fn tag(
        &self,
        version: &Version,
        coding: Option<Encoding>,
        body: Option<&[u8]>,
        is_racy: bool,
    ) -> EntityTag<'static> {
        if self.source == EtagSource::Version {
            return version.entity_tag(coding);
        }
        let Some(body) = body else {
            let known = self.digests.get(version, Algorithm::Sha256);
            return known.map_or_else(
                || version.entity_tag(coding).weakened(),
                |digest| EntityTag::strong_content(&digest, suffix(coding)),
            );
        };
        let digest = digest_of(Algorithm::Sha256, body);
        let tag = EntityTag::strong_content(&digest, suffix(coding));
        if !is_racy {
            self.digests.put(version, Algorithm::Sha256, digest);
        }
        tag
    }

    /// The tag of bytes that were made here.
    pub(crate) fn of_bytes(bytes: &[u8], coding: Option<Encoding>) -> EntityTag<'static> {
        EntityTag::strong_content(&digest_of(Algorithm::Sha256, bytes), suffix(coding))
    }

    /// Whether a better tag than the asset has can be made by now.
    pub(crate) fn have_improved(&self, asset: &Asset) -> bool {
        let is_known = || {
            asset.digests.get(Algorithm::Sha256).is_some()
                || self.digests.get(&asset.version, Algorithm::Sha256).is_some()
        };
        asset.etag.is_weak() && is_known()
    }

    /// Keeps in mind what an asset of the version has known.
    pub(crate) fn remember(&self, version: &Version, known: &KnownDigests) {
        for algorithm in Algorithm::ALL {
            if let Some(digest) = known.get(algorithm) {
                self.digests.put(version, algorithm, digest.clone());
            }
        }
    }

    /// The checksums of a version that are known.
    pub(crate) fn known(&self, version: &Version) -> KnownDigests {
        let known = KnownDigests::default();
        for algorithm in Algorithm::ALL {
            if let Some(digest) = self.digests.get(version, algorithm) {
                known.set(algorithm, digest);
            }
        }
        known
    }
}

fn suffix(coding: Option<Encoding>) -> &'static str {
    coding.map_or("", Encoding::tag_suffix)
}
