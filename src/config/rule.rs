//! Rules: settings for parts of the site.

use std::sync::Arc;

use super::{
    AuthMethods, Auto, ByteCount, ConfigHeaderValue, DigestChoice, Disposition, ExtraHeaders, OnOff,
    SiteFile, Toggle,
};
use crate::http::cors::CorsPolicy;
use crate::http::path_glob::PathGlobs;

/// A rule: paths, and the settings that apply to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The paths that it applies to.
    pub path: PathGlobs,
    /// The settings that it changes.
    pub effects: RuleEffects,
}

/// Access rule of a path: any one of the methods gives access, to the named users if there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// Accepted methods, at least one.
    pub methods: AuthMethods,
    /// Names that tokens and passwords must belong to. `None`: every name in the files.
    pub users: Option<Arc<[String]>>,
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
    /// Bandwidth limits.
    pub rates: RuleRates,
}

/// Bandwidth limits of a path. `None`: the limit of the whole server applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleRates {
    /// Rate of one client over all its connections, for these paths only.
    pub client: Option<RuleRate>,
    /// Bytes that a client may take at once before that rate applies.
    pub client_burst: Option<Auto<ByteCount>>,
    /// Bytes per second of one connection; off: no limit.
    pub connection: Option<Toggle<ByteCount>>,
}

/// The rate of a client under a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleRate {
    /// Bytes per second; off: no limit.
    pub rate: Toggle<ByteCount>,
    /// The number of the rule: all its paths share one allowance.
    pub rule: usize,
}

impl AccessRule {
    /// True if the rule accepts the user `name`.
    pub fn admits(&self, name: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.iter().any(|user| user == name))
    }
}

impl RuleEffects {
    /// Takes from a later rule what is not set yet: the first rule that sets something decides it, headers by name.
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
        take(&mut self.rates.client, &later.rates.client);
        take(&mut self.rates.client_burst, &later.rates.client_burst);
        take(&mut self.rates.connection, &later.rates.connection);
    }

    /// The access rule of a path that is not public.
    pub(crate) fn closed(&self) -> Option<&AccessRule> {
        self.access.as_ref().filter(|access| !access.methods.public)
    }

    /// The CORS policy, unless it is off.
    pub(crate) fn cors_policy(&self) -> Option<&CorsPolicy> {
        self.cors.as_ref().and_then(Toggle::given).map(|policy| &**policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The effects of those `rules` that match a path.
    fn effects_of(rules: &[Rule], path: &[u8]) -> RuleEffects {
        let mut effects = RuleEffects::default();
        rules.iter().filter(|rule| rule.path.matches(path)).for_each(|rule| effects.fill(&rule.effects));
        effects
    }

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
    fn the_first_rule_that_sets_something_decides_it() {
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
        let script = effects_of(&rules, b"a/b.js");
        assert_eq!(script.cache_control, Some(Toggle::Off));
        assert_eq!(script.content_type, None);
        assert_eq!(script.listing, Some(OnOff::On));
        assert_eq!(script.headers, headers(&[("x-a", "1"), ("x-b", "1"), ("x-c", "2")]));
        let root = effects_of(&rules, b"");
        assert_eq!((root.cache_control, root.listing), (None, Some(OnOff::Off)));
        assert_eq!(effects_of(&[], b"a"), RuleEffects::default());
    }

    #[test]
    fn each_rate_is_that_of_the_first_rule_that_sets_it() {
        let given = |kib| Toggle::Given(ByteCount::kib(kib));
        let rule = |number, client: Option<u64>, connection| {
            let client = client.map(|kib| RuleRate { rate: given(kib), rule: number });
            let rates = RuleRates { client, client_burst: None, connection };
            rule("**", RuleEffects { rates, ..RuleEffects::default() })
        };
        let rules = [
            rule(0, None, None),
            rule(1, None, Some(Toggle::Off)),
            rule(2, Some(2), Some(given(3))),
            rule(3, Some(4), None),
        ];
        let rates = effects_of(&rules, b"a").rates;
        assert_eq!(rates.client, Some(RuleRate { rate: given(2), rule: 2 }));
        assert_eq!(rates.connection, Some(Toggle::Off));
        assert_eq!(effects_of(&rules[..1], b"a").rates, RuleRates::default());
    }

    #[test]
    fn users_narrow_who_is_admitted() {
        let choice = |users: Option<&[&str]>| AccessRule {
            methods: AuthMethods::default(),
            users: users.map(|users| users.iter().map(|&user| user.to_owned()).collect()),
        };
        assert!(choice(None).admits("anybody"));
        assert!(choice(Some(&["alice", "bob"])).admits("bob"));
        assert!(!choice(Some(&["alice", "bob"])).admits("Bob"));
    }
}
