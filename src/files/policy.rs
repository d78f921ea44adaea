//! Policy of each path, from the rules and the site-wide settings.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use actix_web::http::{StatusCode, header::HeaderName};
use bytes::Bytes;
use parking_lot::RwLock;

use crate::config::{
    AccessRule, Config, ExtraHeaders, OnOff, ResourcePolicy, Rule, RuleEffects, RuleRates, Toggle,
};
use crate::http::cache_control;
use crate::http::cors::{AllowedOrigins, CorsPolicy};
use crate::http::digest::Algorithm;
use crate::http::encoding::Encoding;
use crate::http::target::SitePath;

/// The rules of a site, and its defaults.
pub struct Rules {
    rules: Vec<Rule>,
    site_wide: RuleEffects,
    /// Policies by the rules that match: most paths share a few of them.
    known: RwLock<HashMap<Box<[bool]>, Arc<PathPolicy>>>,
}

/// Policy of a path.
pub struct PathPolicy {
    /// What the rules and the site set.
    pub(crate) effects: RuleEffects,
    /// File that is served for paths without a file.
    pub(crate) spa: Option<SitePath<'static>>,
    /// Header lines of every response, errors included.
    pub(crate) lines: Box<str>,
    /// End of the CORS headers, which are the first of the lines.
    cors_to: usize,
    /// Bandwidth limits of rules. `None`: those of the site apply.
    pub(crate) rates: Option<Arc<RuleRates>>,
    /// The plain 404, and where its body begins: clients request missing names as often as files.
    pub(crate) not_found: OnceLock<(Bytes, usize)>,
}

impl Rules {
    /// The rules of `config`.
    pub fn new(config: &Config) -> Arc<Self> {
        let cors = config.site_cors().map(Toggle::Given);
        let site_wide = RuleEffects {
            listing: Some(config.directories.listing),
            cors,
            headers: site_wide_headers(config),
            ..RuleEffects::default()
        };
        Arc::new(Self { rules: config.rules.clone(), site_wide, known: RwLock::default() })
    }

    /// True if the other rules give every path the same policy.
    pub(crate) fn has_same_effect_as(&self, other: &Self) -> bool {
        self.rules == other.rules && self.site_wide == other.site_wide
    }

    /// Policy of `path`.
    pub(crate) fn policy(&self, path: &SitePath<'_>) -> Arc<PathPolicy> {
        self.of(self.rules.iter().map(|rule| rule.path.matches(path.as_bytes())).collect())
    }

    /// The policies that may close a path: its own, and that of the file beside which it lies (`x.br`, `x.sha256`), whose bytes
    /// it contains or describes.
    pub(crate) fn locks(&self, path: &SitePath<'_>) -> impl Iterator<Item = Arc<PathPolicy>> {
        let file = file_beside(path);
        let file_of_that = file.as_ref().and_then(file_beside);
        let others = [file, file_of_that].into_iter().flatten().map(|path| self.policy(&path));
        std::iter::once(self.policy(path)).chain(others)
    }

    /// True if some path requires authentication.
    pub(crate) fn restrict_access(&self) -> bool {
        self.rules.iter().any(|rule| rule.effects.closed().is_some())
    }

    /// True if responses under some policy differ from origin to origin.
    pub(crate) fn vary_by_origin(&self) -> bool {
        let mut effects = self.rules.iter().map(|rule| &rule.effects).chain([&self.site_wide]);
        effects.any(|effects| effects.cors_policy().is_some_and(|cors| !is_for_all(cors)))
    }

    /// Policy of paths that no rule matches.
    pub(crate) fn site_wide(&self) -> Arc<PathPolicy> {
        self.of(self.rules.iter().map(|_| false).collect())
    }

    fn of(&self, matches: Box<[bool]>) -> Arc<PathPolicy> {
        if let Some(known) = self.known.read().get(&matches) {
            return Arc::clone(known);
        }
        let mut effects = RuleEffects::default();
        let matching = self.rules.iter().zip(&matches).filter(|(_, is_match)| **is_match);
        matching.for_each(|(rule, _)| effects.fill(&rule.effects));
        effects.fill(&self.site_wide);
        let policy = Arc::new(PathPolicy::new(effects));
        let mut known = self.known.write();
        if known.len() < POLICIES_KNOWN {
            known.insert(matches, Arc::clone(&policy));
        }
        policy
    }
}

impl PathPolicy {
    fn new(effects: RuleEffects) -> Self {
        let spa = effects.spa.as_ref().and_then(Toggle::given).map(|file| file.to_site_path());
        let mut lines = String::new();
        if let Some(cors) = effects.cors_policy().filter(|cors| is_for_all(cors)) {
            put(&mut lines, "access-control-allow-origin", "*");
            if !cors.expose.is_empty() {
                put(&mut lines, "access-control-expose-headers", &cors.expose);
            }
        }
        let cors_to = lines.len();
        for (name, value) in &effects.headers.0 {
            if effects.closed().is_none() || !is_for_shared_caches(name) {
                put(&mut lines, name.as_str(), value.as_str());
            }
        }
        let rates = Some(&effects.rates).filter(|rates| **rates != RuleRates::default());
        let rates = rates.map(|rates| Arc::new(rates.clone()));
        Self { spa, lines: lines.into(), cors_to, rates, effects, not_found: OnceLock::new() }
    }

    /// The lines of every response, and Vary.
    pub(crate) fn lines_with(&self, vary: Option<&str>) -> Vec<u8> {
        let mut lines = String::from(&*self.lines);
        if let Some(vary) = vary {
            put(&mut lines, "vary", vary);
        }
        lines.into_bytes()
    }

    /// The lines of every response without the CORS headers.
    pub(crate) fn lines_without_cors(&self) -> &str {
        &self.lines[self.cors_to..]
    }

    /// The value of Vary of a response, which depends on Accept-Encoding or not.
    pub(crate) fn vary(&self, by_encoding: bool) -> Option<&'static str> {
        match (by_encoding, self.varies_by_origin()) {
            (true, true) => Some("Accept-Encoding, Origin"),
            (true, false) => Some("Accept-Encoding"),
            (false, true) => Some("Origin"),
            (false, false) => None,
        }
    }

    /// The same for a response that depends on Accept as well.
    pub(crate) fn vary_with_accept(&self, by_encoding: bool) -> &'static str {
        match (by_encoding, self.varies_by_origin()) {
            (true, true) => "Accept, Accept-Encoding, Origin",
            (true, false) => "Accept, Accept-Encoding",
            (false, true) => "Accept, Origin",
            (false, false) => "Accept",
        }
    }

    /// The same for an error: a 404 depends on Accept if clients that accept pages get the fallback instead.
    pub(crate) fn vary_of_error(&self, status: StatusCode, by_encoding: bool) -> Option<&'static str> {
        match status {
            StatusCode::NOT_FOUND if self.spa.is_some() => Some(self.vary_with_accept(by_encoding)),
            _ => self.vary(by_encoding),
        }
    }

    /// Cache-Control that a rule sets. `None`: the default applies. `Some(None)`: not sent.
    pub(crate) fn cache_control(&self) -> Option<Option<&str>> {
        let given = self.effects.cache_control.as_ref()?;
        Some(given.given().map(|value| value.as_str()))
    }

    /// Cache-Control: that of a rule, else `default`. If the path is closed, one that no shared cache may use.
    pub(crate) fn cache_control_or<'a>(&'a self, default: &'a str) -> Option<Cow<'a, str>> {
        let value = self.cache_control().unwrap_or(Some(default));
        match self.access() {
            Some(_) => Some(Cow::Owned(cache_control::private(value))),
            None => value.map(Cow::Borrowed),
        }
    }

    /// Access rule of the path. `None`: public.
    pub(crate) fn access(&self) -> Option<&AccessRule> {
        self.effects.closed()
    }

    /// True if responses depend on the request's origin.
    pub(crate) fn varies_by_origin(&self) -> bool {
        self.effects.cors_policy().is_some_and(|cors| !is_for_all(cors))
    }

    /// True if directories are listed.
    pub(crate) fn listing(&self) -> bool {
        self.effects.listing == Some(OnOff::On)
    }

    /// The digests of responses.
    pub(crate) fn digests(&self) -> [Option<Algorithm>; 2] {
        let choice = self.effects.digest.unwrap_or_default();
        [choice.sha256.then_some(Algorithm::Sha256), choice.sha512.then_some(Algorithm::Sha512)]
    }
}

/// Whether a header is a Cache-Control for some shared caches (RFC 9213 §3). Responses of closed paths have none.
fn is_for_shared_caches(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("-cache-control") || matches!(name, "surrogate-control" | "x-accel-expires")
}

/// The file beside which `path` lies by its name.
fn file_beside(path: &SitePath<'_>) -> Option<SitePath<'static>> {
    let suffixes = Encoding::ALL.into_iter().map(Encoding::suffix).chain(CHECKSUMS);
    suffixes.into_iter().find_map(|suffix| path.without_suffix(suffix))
}

/// Suffixes of checksum files.
const CHECKSUMS: [&str; 2] = [".sha256", ".sha512"];

fn put(lines: &mut String, name: &str, value: &str) {
    lines.push_str(&format!("{name}: {value}\r\n"));
}

/// Headers of every response, unless a rule sets them.
fn site_wide_headers(config: &Config) -> ExtraHeaders {
    let security = &config.security;
    let resource_policy = security.cross_origin_resource_policy;
    let policies = [
        ("content-security-policy", security.content_security_policy.given().map(ToString::to_string)),
        (
            "cross-origin-resource-policy",
            (resource_policy != ResourcePolicy::Off).then(|| resource_policy.to_string()),
        ),
        ("referrer-policy", security.referrer_policy.given().map(ToString::to_string)),
    ];
    let mut headers = ExtraHeaders::default();
    for (name, value) in policies {
        if let Some(Ok(value)) = value.map(|value| value.parse()) {
            // Each name occurs once.
            let _ = headers.push(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Whether the policy is the same for all origins.
fn is_for_all(cors: &CorsPolicy) -> bool {
    cors.origins == AllowedOrigins::Any && !cors.credentials
}

/// Maximum number of cached policies. Those of further combinations of rules are computed for each name.
const POLICIES_KNOWN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path_glob::PathGlobs;

    fn rule(glob: &str, effects: RuleEffects) -> Rule {
        Rule { path: PathGlobs::new(vec![glob.to_owned()]).unwrap(), effects }
    }

    fn access(ways: &str) -> RuleEffects {
        let access = AccessRule { methods: ways.parse().unwrap(), users: None };
        RuleEffects { access: Some(access), ..RuleEffects::default() }
    }

    fn path(text: &str) -> SitePath<'_> {
        SitePath::parse(text.as_bytes()).unwrap().path
    }

    #[test]
    fn what_lies_beside_a_file_has_its_locks() {
        let rules = vec![
            rule("/open.pdf", access("public")),
            rule("*.pdf", access("link")),
            rule("*.gz", access("basic")),
        ];
        let rules = Rules::new(&Config { rules, ..Config::default() });
        assert!(rules.restrict_access());
        for (text, expected) in [
            ("/a.pdf", "link"),
            ("/a.pdf.br", "link"),
            ("/d/a.pdf.zst", "link"),
            ("/a.pdf.sha256", "link"),
            ("/a.pdf.sha512", "link"),
            ("/a.pdf.gz", "basic link"),
            ("/a.pdf.gz.sha256", "basic link"),
            ("/a.txt.gz", "basic"),
            ("/open.pdf", ""),
            ("/open.pdf.br", ""),
            ("/a.txt", ""),
            ("/a.pdf/x", ""),
            ("/", ""),
        ] {
            let path = path(text);
            let locks = rules.locks(&path).filter_map(|policy| Some(policy.access()?.methods.to_string()));
            assert_eq!(locks.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
        let open = vec![rule("*", access("public")), rule("*", RuleEffects::default())];
        assert!(!Rules::new(&Config { rules: open, ..Config::default() }).restrict_access());
    }

    #[test]
    fn what_is_closed_tells_no_shared_cache_to_keep_it() {
        let mut headers = ExtraHeaders::default();
        for name in ["CDN-Cache-Control", "X-A", "surrogate-control", "X-Accel-Expires"] {
            headers.push(name.parse().unwrap(), "max-age=9".parse().unwrap()).unwrap();
        }
        let given = |value: &str| Some(Toggle::Given(value.parse().unwrap()));
        for (cache_control, closed, open) in [
            (None, Some("private, no-cache"), Some("no-cache")),
            (Some(Toggle::Off), Some("private"), None),
            (given("public, max-age=5"), Some("private, max-age=5"), Some("public, max-age=5")),
        ] {
            for (ways, expected, lines) in [("basic", closed, 1), ("public", open, 4)] {
                let effects = RuleEffects {
                    cache_control: cache_control.clone(),
                    headers: headers.clone(),
                    ..access(ways)
                };
                let rules = Rules::new(&Config { rules: vec![rule("**", effects)], ..Config::default() });
                let policy = rules.policy(&path("/x"));
                assert_eq!(policy.cache_control_or("no-cache").as_deref(), expected, "{ways}");
                assert_eq!(policy.lines.lines().count(), lines, "{ways}: {}", policy.lines);
            }
        }
    }
}
