//! What is known of who makes a request. It goes with the request, in its extensions.

use std::sync::Arc;

use crate::config::AccessRule;
use crate::http::target::SitePath;

/// What was found out while a request was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthContext {
    /// A path was judged that is not for all: no shared cache may keep the response.
    pub(crate) is_private: bool,
    /// It stays closed: nobody may keep the response.
    pub(crate) is_denied: bool,
    /// What was shown and holds.
    pub(crate) grants: Vec<Grant>,
}

/// Something that was shown and opens paths.
#[derive(Clone, Debug)]
pub(crate) enum Grant {
    /// A link, to the path that was asked for and the index that stands for it.
    SignedUrl { paths: [SitePath<'static>; 2] },
    /// The token of somebody.
    Bearer(Arc<str>),
    /// The password of somebody.
    Basic(Arc<str>),
}

/// Who makes a request, in the extensions of its response: a name of the tokens or the passwords file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity(pub(crate) Arc<str>);

impl AuthContext {
    /// Whether what is known opens `path` under `choice`.
    pub(crate) fn opens(&self, choice: &AccessRule, path: &SitePath<'_>) -> bool {
        choice.methods.public || self.grants.iter().any(|grant| grant.opens(choice, path))
    }

    /// Who it is.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.grants.iter().find_map(|grant| match grant {
            Grant::SignedUrl { .. } => None,
            Grant::Bearer(name) | Grant::Basic(name) => Some(Identity(Arc::clone(name))),
        })
    }
}

impl Grant {
    fn opens(&self, choice: &AccessRule, path: &SitePath<'_>) -> bool {
        match self {
            Self::SignedUrl { paths } => {
                choice.methods.link && paths.iter().any(|known| known.as_bytes() == path.as_bytes())
            }
            Self::Bearer(name) => choice.methods.bearer && choice.admits(name),
            Self::Basic(name) => choice.methods.basic && choice.admits(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_opens_what_its_way_and_its_name_are_good_for() {
        let path = |text: &'static str| SitePath::parse(text.as_bytes()).unwrap().path;
        let link = Grant::SignedUrl { paths: [path("/d"), path("/d/index.html")] };
        let (bearer, basic) = (Grant::Bearer("alice".into()), Grant::Basic("alice".into()));
        for (grant, ways, users, at, expected) in [
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
            let choice = AccessRule { methods: ways.parse().unwrap(), users };
            let visit = AuthContext { grants: vec![grant.clone()], ..AuthContext::default() };
            assert_eq!(visit.opens(&choice, &path(at)), expected, "{grant:?} {choice:?} {at}");
        }
        assert_eq!(
            AuthContext { grants: vec![link, basic], ..AuthContext::default() }.identity(),
            Some(Identity("alice".into()))
        );
    }
}
