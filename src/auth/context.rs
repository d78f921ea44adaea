//! Result of authentication, in the extensions of the request.

use std::sync::Arc;

use crate::config::AccessRule;
use crate::http::target::SitePath;

/// Result of authentication for one request: empty until a closed path is checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthContext {
    /// A closed path was checked: no shared cache may keep the response.
    pub(crate) is_private: bool,
    /// The path stays closed: no cache may keep the response.
    pub(crate) is_denied: bool,
    /// Valid credentials.
    pub(crate) grants: Vec<Grant>,
}

/// Valid credentials that open paths.
#[derive(Clone, Debug)]
pub(crate) enum Grant {
    /// A signed URL, of the requested path and its index.
    SignedUrl { paths: [SitePath<'static>; 2] },
    /// A user's token.
    Bearer(Arc<str>),
    /// A user's password.
    Basic(Arc<str>),
}

impl AuthContext {
    /// True if the credentials open `path` under `rule`.
    pub(crate) fn opens(&self, rule: &AccessRule, path: &SitePath<'_>) -> bool {
        rule.methods.public || self.grants.iter().any(|grant| grant.opens(rule, path))
    }
}

impl Grant {
    fn opens(&self, rule: &AccessRule, path: &SitePath<'_>) -> bool {
        match self {
            Self::SignedUrl { paths } => {
                rule.methods.link && paths.iter().any(|known| known.as_bytes() == path.as_bytes())
            }
            Self::Bearer(name) => rule.methods.bearer && rule.admits(name),
            Self::Basic(name) => rule.methods.basic && rule.admits(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_opens_paths_by_its_method_and_its_user() {
        let path = |text: &'static str| SitePath::parse(text.as_bytes()).unwrap().path;
        let link = Grant::SignedUrl { paths: [path("/d"), path("/d/index.html")] };
        let (bearer, basic) = (Grant::Bearer("alice".into()), Grant::Basic("alice".into()));
        for (grant, methods, users, at, expected) in [
            (&link, "link", None, "/d", true),
            (&link, "link,basic", None, "/d/index.html", true),
            (&link, "link", None, "/d/other", false),
            (&link, "basic", None, "/d", false),
            (&bearer, "bearer", None, "/x", true),
            (&bearer, "basic", None, "/x", false),
            (&basic, "basic", Some("alice"), "/x", true),
            (&basic, "basic,bearer", Some("bob"), "/x", false),
            (&basic, "link", None, "/x", false),
            (&basic, "public", None, "/x", true),
        ] {
            let users = users.map(|user: &str| Arc::from([user.to_owned()].as_slice()));
            let rule = AccessRule { methods: methods.parse().unwrap(), users };
            let context = AuthContext { grants: vec![grant.clone()], ..AuthContext::default() };
            assert_eq!(context.opens(&rule, &path(at)), expected, "{grant:?} {rule:?} {at}");
        }
    }
}
