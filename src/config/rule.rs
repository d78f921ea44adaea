//! What a `[[rule]]` of the file says.

use std::sync::Arc;

use super::byte_count::ByteCount;
use super::count::Auto;
use super::digest_choice::DigestChoice;
use super::path_glob::PathGlobs;
use super::site_file::SiteFile;
use crate::config::auth_methods::AccessChoice;
use crate::config::choice::{Disposition, Switch};
use crate::config::extra_headers::ExtraFields;
use crate::config::header_value::FieldValue;
use crate::config::toggle::OrOff;
use crate::http::cors::CorsPolicy;

/// What holds for a part of the site.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The paths that it is for.
    pub path: PathGlobs,
    /// What it says about them.
    pub effects: Effects,
}

impl Rule {
    /// Whether it is for a path: relative to the root, decoded, without a slash at either end; empty for the root.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.path.matches(path)
    }
}

/// What rules say about a path; `None` where they say nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// What opens the path, for those for whom it is.
    pub access: Option<AccessChoice>,
    /// Cache-Control; off: none is sent.
    pub cache_control: Option<OrOff<FieldValue>>,
    /// Further fields of responses.
    pub headers: ExtraFields,
    /// Content-Type.
    pub content_type: Option<FieldValue>,
    /// Whether browsers are told to show the file or to store it.
    pub disposition: Option<Disposition>,
    /// Who may read across origins; off: nobody.
    pub cors: Option<OrOff<Arc<CorsPolicy>>>,
    /// Whether directories without an index are listed.
    pub listing: Option<Switch>,
    /// The file that answers for paths where nothing is; off: none.
    pub spa: Option<OrOff<SiteFile>>,
    /// The checksums that responses carry.
    pub digest: Option<DigestChoice>,
    /// Bytes a second of one client, over all its connections, for these paths by themselves; off: no limit.
    pub rate_client: Option<OrOff<ByteCount>>,
    /// Bytes that a client may take at once before that rate holds.
    pub rate_client_burst: Option<Auto<ByteCount>>,
    /// Bytes a second of one connection; off: no limit.
    pub rate_connection: Option<OrOff<ByteCount>>,
}

impl Effects {
    /// What `rules` say about `path` (see [`Rule::matches`]): for each field the first rule that says something about
    /// it; [`headers`](Self::headers) by name.
    pub fn of(rules: &[Rule], path: &[u8]) -> Self {
        let mut effects = Self::default();
        for rule in rules.iter().filter(|rule| rule.matches(path)) {
            effects.fill(&rule.effects);
        }
        effects
    }

    /// Takes from `later` what is still open.
    pub(crate) fn fill(&mut self, later: &Self) {
        fn take<T: Clone>(open: &mut Option<T>, later: &Option<T>) {
            if open.is_none() {
                open.clone_from(later);
            }
        }
        take(&mut self.access, &later.access);
        take(&mut self.cache_control, &later.cache_control);
        self.headers.fill(&later.headers);
        take(&mut self.content_type, &later.content_type);
        take(&mut self.disposition, &later.disposition);
        take(&mut self.cors, &later.cors);
        take(&mut self.listing, &later.listing);
        take(&mut self.spa, &later.spa);
        take(&mut self.digest, &later.digest);
        take(&mut self.rate_client, &later.rate_client);
        take(&mut self.rate_client_burst, &later.rate_client_burst);
        take(&mut self.rate_connection, &later.rate_connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(glob: &str, effects: Effects) -> Rule {
        Rule { path: PathGlobs::new(vec![glob.to_owned()]).expect("a glob"), effects }
    }

    fn value(text: &str) -> FieldValue {
        text.parse().expect("a value")
    }

    fn headers(fields: &[(&str, &str)]) -> ExtraFields {
        let mut all = ExtraFields::default();
        for (name, text) in fields {
            all.push(name.parse().expect("a name"), value(text)).expect("a new name");
        }
        all
    }

    #[test]
    fn the_first_rule_that_says_something_about_a_field_decides_it() {
        let rules = [
            rule("*.js", Effects { cache_control: Some(OrOff::Off), ..Effects::default() }),
            rule("*.css", Effects { content_type: Some(value("x/y")), ..Effects::default() }),
            rule(
                "/a/**",
                Effects {
                    cache_control: Some(OrOff::Given(value("no-store"))),
                    listing: Some(Switch::On),
                    headers: headers(&[("x-a", "1"), ("x-b", "1")]),
                    ..Effects::default()
                },
            ),
            rule(
                "**",
                Effects {
                    listing: Some(Switch::Off),
                    headers: headers(&[("X-B", "2"), ("x-c", "2")]),
                    ..Effects::default()
                },
            ),
        ];
        let script = Effects::of(&rules, b"a/b.js");
        assert_eq!(script.cache_control, Some(OrOff::Off));
        assert_eq!(script.content_type, None);
        assert_eq!(script.listing, Some(Switch::On));
        assert_eq!(script.headers, headers(&[("x-a", "1"), ("x-b", "1"), ("x-c", "2")]));
        let root = Effects::of(&rules, b"");
        assert_eq!((root.cache_control, root.listing), (None, Some(Switch::Off)));
        assert_eq!(Effects::of(&[], b"a"), Effects::default());
    }
}
