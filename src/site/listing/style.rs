//! How the page looks, and what else it may load: nothing but the site's own icon.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The value of `Content-Security-Policy` for an HTML listing: no script at all, and no style but the page's own, which is
/// allowed by its hash.
pub(crate) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'self'"
        )
    });
    &POLICY
}

/// The one style sheet of the page. Icons are drawn with borders and gradients, so that no image is loaded.
pub(super) const STYLE: &str = include_str!("listing.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_no_script_and_no_other_style() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    }
}
