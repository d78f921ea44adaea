//! Rules: settings for parts of the site.

use std::sync::Arc;

use super::Auto;
use super::byte_count::ByteCount;
use super::digest_choice::DigestChoice;
use super::path_glob::PathGlobs;
use super::site_file::SiteFile;
use crate::config::auth_methods::AccessRule;
use crate::config::choice::{Disposition, OnOff};
use crate::config::extra_headers::ExtraHeaders;
use crate::config::header_value::ConfigHeaderValue;
use crate::config::toggle::Toggle;
use crate::http::cors::CorsPolicy;

/// A rule: paths, and the settings that apply to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The paths that it applies to.
    pub path: PathGlobs,
    /// The settings that it changes.
    pub effects: RuleEffects,
}

impl Rule {
    /// True if it applies to a path: relative to the root, decoded, without a slash at either end; empty for the root.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.path.matches(path)
    }
}

/// Settings of a path. `None`: not set by any rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleEffects {
    /// Access rule.
    pub access: Option<AccessRule>,
    /// Cache-Control; off: not sent.
    pub cache_control: Option<Toggle<ConfigHeaderValue>>,
    /// Additional response headers.
    pub headers: ExtraHeaders,
    /// Content-Type.
    pub content_type: Option<ConfigHeaderValue>,
    /// Whether browsers display or save the file.
    pub disposition: Option<Disposition>,
    /// CORS policy; off: none.
    pub cors: Option<Toggle<Arc<CorsPolicy>>>,
    /// Whether directories without an index are listed.
    pub listing: Option<OnOff>,
    /// File that is served for paths without a file; off: none.
    pub spa: Option<Toggle<SiteFile>>,
    /// The checksums that responses carry.
    pub digest: Option<DigestChoice>,
    /// Bytes per second of one client over all its connections, for these paths only; off: no limit.
    pub rate_client: Option<Toggle<ByteCount>>,
    /// Bytes that a client may take at once before that rate applies.
    pub rate_client_burst: Option<Auto<ByteCount>>,
    /// Bytes per second of one connection; off: no limit.
    pub rate_connection: Option<Toggle<ByteCount>>,
}

impl RuleEffects {
    /// What `rules` say about `path` (see [`Rule::matches`]): for each field the first rule that says something about
    /// it; [`headers`](Self::headers) by name.
    pub fn of(rules: &[Rule], path: &[u8]) -> Self {
        let mut effects = Self::default();
        for rule in rules.iter().filter(|rule| rule.matches(path)) {
            effects.fill(&rule.effects);
        }
        effects
    }

    /// Takes from `later` what is not set yet.
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

    fn rule(glob: &str, effects: RuleEffects) -> Rule {
        Rule { path: PathGlobs::new(vec![glob.to_owned()]).expect("a glob"), effects }
    }

    fn value(text: &str) -> ConfigHeaderValue {
        text.parse().expect("a value")
    }

    fn headers(fields: &[(&str, &str)]) -> ExtraHeaders {
        let mut all = ExtraHeaders::default();
        for (name, text) in fields {
            all.push(name.parse().expect("a name"), value(text)).expect("a new name");
        }
        all
    }

    #[test]
    fn the_first_rule_that_says_something_about_a_field_decides_it() {
        let rules = [
            rule("*.js", RuleEffects { cache_control: Some(Toggle::Off), ..RuleEffects::default() }),
            rule("*.css", RuleEffects { content_type: Some(value("x/y")), ..RuleEffects::default() }),
            rule(
                "/a/**",
                RuleEffects {
                    cache_control: Some(Toggle::Given(value("no-store"))),
                    listing: Some(OnOff::On),
                    headers: headers(&[("x-a", "1"), ("x-b", "1")]),
                    ..RuleEffects::default()
                },
            ),
            rule(
                "**",
                RuleEffects {
                    listing: Some(OnOff::Off),
                    headers: headers(&[("X-B", "2"), ("x-c", "2")]),
                    ..RuleEffects::default()
                },
            ),
        ];
        let script = RuleEffects::of(&rules, b"a/b.js");
        assert_eq!(script.cache_control, Some(Toggle::Off));
        assert_eq!(script.content_type, None);
        assert_eq!(script.listing, Some(OnOff::On));
        assert_eq!(script.headers, headers(&[("x-a", "1"), ("x-b", "1"), ("x-c", "2")]));
        let root = RuleEffects::of(&rules, b"");
        assert_eq!((root.cache_control, root.listing), (None, Some(OnOff::Off)));
        assert_eq!(RuleEffects::of(&[], b"a"), RuleEffects::default());
    }
}
