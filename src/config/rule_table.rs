//! Reads the `[[rule]]` tables of the file.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::DeValue;

use super::byte_count::ByteCount;
use super::cors_table::CorsTable;
use super::count::Auto;
use super::digest_choice::DigestChoice;
use super::error::ConfigError;
use super::file::{TomlEntry, TomlSource};
use super::origin::ValueOrigin;
use super::path_glob::PathGlobs;
use super::rule::{Rule, RuleEffects};
use super::rule_reader::{RULE, RejectedValue, RuleReader, is_off, read, texts_of};
use super::setting::{SettingValue, ValueError};
use super::site_file::SiteFile;
use crate::config::auth_methods::{AccessRule, AuthMethods};
use crate::config::choice::{Disposition, OnOff};
use crate::config::extra_headers::why_reserved;
use crate::config::header_value::{ConfigHeaderName, ConfigHeaderValue, is_media_type};
use crate::config::toggle::{OFF, Toggle};

/// A rule as it was read.
pub(crate) struct ReadRule {
    /// Where it begins.
    pub(crate) origin: ValueOrigin,
    pub(crate) rule: Rule,
    /// Whether it says who may read across origins, but not for how long an answer may be remembered.
    pub(crate) max_age_is_open: bool,
}

/// Reads the rules of a file and reports all that is wrong with them; those with faults are left out.
pub(crate) fn read_rules<'a>(
    entry: TomlEntry<'a>,
    source: &TomlSource<'a>,
    errors: &mut Vec<ConfigError>,
) -> Vec<ReadRule> {
    let mut reader = RuleReader { source, errors };
    let line = entry.line;
    let DeValue::Array(rules) = entry.value.into_inner() else {
        reader.tell(line, "rules are written under [[rule]], each of them anew".to_owned());
        return Vec::new();
    };
    rules.into_iter().filter_map(|rule| reader.read(rule)).collect()
}

/// A rule in the making.
#[derive(Default)]
struct RuleDraft {
    path: Option<PathGlobs>,
    effects: RuleEffects,
    ways: Option<AuthMethods>,
    users: Option<Vec<String>>,
    max_age_is_open: bool,
}

impl<'a> RuleReader<'_, 'a> {
    fn read(&mut self, rule: Spanned<DeValue<'a>>) -> Option<ReadRule> {
        let line = self.source.line_of(&rule.span());
        let DeValue::Table(table) = rule.into_inner() else {
            self.tell(line, "rules are written under [[rule]], each of them anew".to_owned());
            return None;
        };
        let before = self.errors.len();
        let mut draft = RuleDraft::default();
        for entry in self.source.entries(table) {
            let (line, key, written) = (entry.line, entry.key.clone(), entry.written);
            if let Err(refused) = self.read_key(entry, &mut draft) {
                self.tell_refused(line, &format!("{RULE}.{key}"), written, refused);
            }
        }
        if draft.path.is_none() && self.errors.len() == before {
            self.tell(line, "the rule has no path: a glob such as \"*.html\" or \"/assets/**\"".to_owned());
        }
        if let Err(refused) = draft.settle_access() {
            self.tell_refused(line, "rule.users", &draft.users.unwrap_or_default().join(", "), refused);
            return None;
        }
        let RuleDraft { path, effects, max_age_is_open, .. } = draft;
        let path = path.filter(|_| self.errors.len() == before)?;
        Some(ReadRule { origin: self.origin(line), rule: Rule { path, effects }, max_age_is_open })
    }

    fn read_key(&mut self, entry: TomlEntry<'a>, draft: &mut RuleDraft) -> Result<(), RejectedValue> {
        let effects = &mut draft.effects;
        match entry.key.as_str() {
            "path" | "glob" if draft.path.is_some() => {
                let reason = "is a second one: path and glob are the same key";
                return Err(RejectedValue::new(reason, "one of the two, which may be a list"));
            }
            "path" | "glob" => draft.path = Some(read_globs(entry.value)?),
            "access" => draft.ways = Some(read::<AuthMethods>(entry.value, &())?),
            "users" => draft.users = Some(read_users(entry.value)?),
            "cache_control" => effects.cache_control = Some(read_or_off(entry.value)?),
            "headers" => self.read_headers(entry, effects)?,
            "content_type" => effects.content_type = Some(read_media_type(entry.value)?),
            "disposition" => effects.disposition = Some(read::<Disposition>(entry.value, &())?),
            "cors" => {
                if let Some(read) = CorsTable::read(self, entry)? {
                    draft.max_age_is_open = read.max_age_is_open;
                    effects.cors = Some(read.policy);
                }
            }
            "listing" => effects.listing = Some(read::<OnOff>(entry.value, &())?),
            "spa" => effects.spa = Some(read_spa(entry.value)?),
            "digest" => effects.digest = Some(read::<DigestChoice>(entry.value, &())?),
            "rate_client" => effects.rate_client = Some(read_rate(entry.value)?),
            "rate_client_burst" => {
                effects.rate_client_burst = Some(read::<Auto<ByteCount>>(entry.value, &RATES)?);
            }
            "rate_connection" => effects.rate_connection = Some(read_rate(entry.value)?),
            _ => self.tell_unknown(&entry, RULE, KEYS),
        }
        Ok(())
    }

    fn read_headers(&mut self, entry: TomlEntry<'a>, effects: &mut RuleEffects) -> Result<(), RejectedValue> {
        let DeValue::Table(table) = entry.value.into_inner() else {
            return Err(RejectedValue::new("is no table", "a table such as { X-Robots-Tag = \"noindex\" }"));
        };
        for field in self.source.entries(table) {
            let (line, written) = (field.line, field.written);
            let key = format!("{RULE}.headers.{}", field.key.escape_debug());
            let name = match field.key.parse::<ConfigHeaderName>() {
                Ok(name) => name,
                Err(refusal) => {
                    self.tell(line, format!("{key}: {:?} {refusal}", field.key));
                    continue;
                }
            };
            if let Some(reason) = why_reserved(name.as_str()) {
                self.tell(line, format!("{key}: the header field {name} {reason}"));
                continue;
            }
            let pushed = read::<ConfigHeaderValue>(field.value, &()).and_then(|value| {
                let twice =
                    |refusal: ValueError| RejectedValue::new(refusal.to_string(), "each header field once");
                effects.headers.push(name, value).map_err(twice)
            });
            if let Err(refused) = pushed {
                self.tell_refused(line, &key, written, refused);
            }
        }
        Ok(())
    }
}

impl RuleDraft {
    /// Puts together what opens the path: users belong to the ways of their own rule.
    fn settle_access(&mut self) -> Result<(), RejectedValue> {
        let accepted = "users in a rule whose access has bearer or basic in it";
        match (self.ways, &self.users) {
            (Some(AuthMethods { bearer: false, basic: false, .. }) | None, Some(_)) => {
                Err(RejectedValue::new("narrows nothing", accepted))
            }
            (ways, users) => {
                let users = users.as_ref().map(|users| users.as_slice().into());
                self.effects.access = ways.map(|ways| AccessRule { ways, users });
                Ok(())
            }
        }
    }
}

fn read_users(value: Spanned<DeValue<'_>>) -> Result<Vec<String>, RejectedValue> {
    let accepted = "names of the tokens or passwords file: a string or a list of strings";
    let users = texts_of(value.get_ref())
        .ok_or_else(|| RejectedValue::new("is neither a string nor a list of them", accepted))?;
    match users.iter().any(String::is_empty) || users.is_empty() {
        true => Err(RejectedValue::new("is empty or has an empty name in it", accepted)),
        false => Ok(users),
    }
}

/// The same, or nothing: `false`, `"off"`, `""`.
fn read_or_off<T: SettingValue<Bounds = ()>>(
    value: Spanned<DeValue<'_>>,
) -> Result<Toggle<T>, RejectedValue> {
    if is_off(value.get_ref()) {
        return Ok(Toggle::Off);
    }
    let given = read::<T>(value, &());
    given
        .map(Toggle::Given)
        .map_err(|refused| RejectedValue { accepted: format!("{}, or {OFF}", refused.accepted), ..refused })
}

fn read_globs(value: Spanned<DeValue<'_>>) -> Result<PathGlobs, RejectedValue> {
    let accepted = "a glob such as *.html, /assets/** or /docs/{a,b}/*.pdf, or a list of globs";
    let texts = texts_of(value.get_ref())
        .ok_or_else(|| RejectedValue::new("is neither a string nor a list of them", accepted))?;
    PathGlobs::new(texts).map_err(|refusal| RejectedValue::new(refusal.to_string(), accepted))
}

fn read_media_type(value: Spanned<DeValue<'_>>) -> Result<ConfigHeaderValue, RejectedValue> {
    let accepted = "a media type such as text/plain; charset=utf-8";
    let value = read::<ConfigHeaderValue>(value, &())
        .map_err(|refused| RejectedValue::new(refused.reason, accepted))?;
    if is_media_type(value.as_str()) {
        Ok(value)
    } else {
        Err(RejectedValue::new("is no media type", accepted))
    }
}

fn read_spa(value: Spanned<DeValue<'_>>) -> Result<Toggle<SiteFile>, RejectedValue> {
    match value.get_ref() {
        DeValue::Boolean(true) => Ok(Toggle::Given(SiteFile::usual())),
        _ => read_or_off(value),
    }
}

/// Bytes a second, or no limit: `false`, `"off"`, `""`.
fn read_rate(value: Spanned<DeValue<'_>>) -> Result<Toggle<ByteCount>, RejectedValue> {
    if is_off(value.get_ref()) { Ok(Toggle::Off) } else { read(value, &RATES) }
}

/// The bounds of rates and of what may be taken at once, as those of the whole server.
const RATES: RangeInclusive<ByteCount> = ByteCount::kib(1)..=ByteCount::tib(1);

const KEYS: &[&str] = &[
    "path",
    "glob",
    "access",
    "users",
    "cache_control",
    "headers",
    "content_type",
    "disposition",
    "cors",
    "listing",
    "spa",
    "digest",
    "rate_client",
    "rate_client_burst",
    "rate_connection",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file::parse;
    use crate::http::cors::{AllowedHeaders, AllowedOrigins, CorsMethod};

    fn read_text(text: &str) -> (Vec<ReadRule>, Vec<String>) {
        let (source, entries) = parse(Path::new("c.toml"), text);
        assert_eq!(source.faults, [], "{text}");
        let mut errors = Vec::new();
        let rules = entries
            .into_iter()
            .filter(|entry| entry.key == RULE)
            .flat_map(|entry| read_rules(entry, &source, &mut errors))
            .collect();
        (rules, errors.iter().map(ToString::to_string).collect())
    }

    fn effects(keys: &str) -> RuleEffects {
        let (rules, errors) = read_text(&format!("[[rule]]\npath = '**'\n{keys}"));
        assert_eq!(errors, [""; 0], "{keys}");
        rules.into_iter().next().expect("a rule").rule.effects
    }

    fn told(keys: &str) -> Vec<String> {
        let (rules, errors) = read_text(&format!("[[rule]]\npath = '**'\n{keys}"));
        assert!(rules.is_empty(), "{keys}");
        errors
    }

    #[test]
    fn a_rule_is_read_whole() {
        let text = "names = 99\n\n[[rule]]\nglob = ['*.js', '/a/{b,c}/**']\ncache_control = 'no-cache'\n\
                    listing = true\ndisposition = 'attachment'\ncontent_type = 'text/plain; charset=utf-8'\n\
                    headers = { X-A = 'b', Link = '</c>; rel=preload' }\nspa = '/app.html'\ndigest = ['sha-512']\n\
                    [[rule]]\npath = '/d'\n[rule.headers]\nX-E = 'f'\n[rule.cors]\norigins = '*'\n";
        let (rules, errors) = read_text(text);
        assert_eq!(errors, [""; 0]);
        let [first, second] = rules.as_slice() else { panic!("{}", rules.len()) };
        assert_eq!([&first.origin, &second.origin].map(ToString::to_string), ["c.toml:3", "c.toml:12"]);
        assert_eq!(first.rule.path.texts(), ["*.js", "/a/{b,c}/**"]);
        let effects = &first.rule.effects;
        let text = |value: Option<&ConfigHeaderValue>| value.map(ToString::to_string).unwrap_or_default();
        let cache_control = effects.cache_control.as_ref().and_then(Toggle::given);
        assert_eq!(text(cache_control), "no-cache");
        assert_eq!(text(effects.content_type.as_ref()), "text/plain; charset=utf-8");
        assert_eq!(text(effects.headers.get("x-a")), "b");
        assert_eq!(text(effects.headers.get("link")), "</c>; rel=preload");
        assert_eq!(effects.listing, Some(OnOff::On));
        assert_eq!(effects.disposition, Some(Disposition::Attachment));
        assert_eq!(effects.digest, Some(DigestChoice { sha256: false, sha512: true }));
        assert_eq!(effects.spa.as_ref().and_then(Toggle::given).map(SiteFile::as_str), Some("/app.html"));
        assert_eq!(text(second.rule.effects.headers.get("X-E")), "f");
        assert!(second.rule.effects.cors.is_some() && second.max_age_is_open);
    }

    #[test]
    fn nothing_is_something_to_say() {
        for (keys, expected) in [
            (
                "cache_control = ''",
                RuleEffects { cache_control: Some(Toggle::Off), ..RuleEffects::default() },
            ),
            (
                "cache_control = 'off'",
                RuleEffects { cache_control: Some(Toggle::Off), ..RuleEffects::default() },
            ),
            ("cors = false", RuleEffects { cors: Some(Toggle::Off), ..RuleEffects::default() }),
            ("cors = 'off'", RuleEffects { cors: Some(Toggle::Off), ..RuleEffects::default() }),
            ("spa = false", RuleEffects { spa: Some(Toggle::Off), ..RuleEffects::default() }),
            (
                "digest = false",
                RuleEffects { digest: Some(DigestChoice::default()), ..RuleEffects::default() },
            ),
            ("rate_client = 'off'", RuleEffects { rate_client: Some(Toggle::Off), ..RuleEffects::default() }),
            (
                "rate_connection = false",
                RuleEffects { rate_connection: Some(Toggle::Off), ..RuleEffects::default() },
            ),
            (
                "spa = true",
                RuleEffects { spa: Some(Toggle::Given(SiteFile::usual())), ..RuleEffects::default() },
            ),
            ("", RuleEffects::default()),
        ] {
            assert_eq!(effects(keys), expected, "{keys}");
        }
    }

    #[test]
    fn access_is_a_way_or_a_list_of_them_and_users_narrow_it() {
        let access = |keys: &str| effects(keys).access.expect("a choice");
        let ways = |text: &str| text.parse::<AuthMethods>().expect("ways");
        for (keys, expected, users) in [
            ("access = 'public'", "public", None),
            ("access = 'link'", "link", None),
            ("access = ['basic', 'link']", "link,basic", None),
            ("users = ['alice', 'bob']\naccess = ['bearer']", "bearer", Some(vec!["alice", "bob"])),
            ("access = 'link, basic'\nusers = 'alice'", "link,basic", Some(vec!["alice"])),
        ] {
            let users = users.map(|users| users.into_iter().map(str::to_owned).collect());
            assert_eq!(access(keys), AccessRule { ways: ways(expected), users }, "{keys}");
        }
        for (keys, expected) in [
            (
                "access = ['private']",
                "c.toml:3: rule.access: the value \"['private']\" contains the unknown word `private`; \
                 accepted: public, or one or a list of link, bearer and basic",
            ),
            (
                "access = true",
                "c.toml:3: rule.access: the value \"true\" is not accepted: invalid type: boolean `true`, \
                 expected a string or a list; accepted: public, or one or a list of link, bearer and basic",
            ),
            (
                "users = 'alice'",
                "c.toml:1: rule.users: the value \"alice\" narrows nothing; \
                 accepted: users in a rule whose access has bearer or basic in it",
            ),
            (
                "access = 'link'\nusers = ['a', 'b']",
                "c.toml:1: rule.users: the value \"a, b\" narrows nothing; \
                 accepted: users in a rule whose access has bearer or basic in it",
            ),
            (
                "access = 'basic'\nusers = []",
                "c.toml:4: rule.users: the value \"[]\" is empty or has an empty name in it; \
                 accepted: names of the tokens or passwords file: a string or a list of strings",
            ),
        ] {
            assert_eq!(told(keys), [expected], "{keys}");
        }
    }

    #[test]
    fn rates_are_sizes_a_second() {
        let read = effects("rate_client = '1MiB'\nrate_client_burst = '64KiB'\nrate_connection = 65536");
        assert_eq!(read.rate_client, Some(Toggle::Given(ByteCount::mib(1))));
        assert_eq!(read.rate_client_burst, Some(Auto::Given(ByteCount::kib(64))));
        assert_eq!(read.rate_connection, Some(Toggle::Given(ByteCount::kib(64))));
        assert_eq!(effects("rate_client_burst = 'auto'").rate_client_burst, Some(Auto::Auto));
    }

    #[test]
    fn cors_has_short_and_long_forms() {
        let policy = |keys: &str| match effects(keys).cors {
            Some(Toggle::Given(policy)) => policy,
            other => panic!("{keys}: {other:?}"),
        };
        assert_eq!(policy("cors = '*'").origins, AllowedOrigins::Any);
        let one = policy("cors = 'https://a'");
        assert_eq!(policy("cors = ['https://a']"), one);
        assert_eq!(policy("cors = { origins = 'https://a' }"), one);
        assert_eq!(policy("cors.origins = ['https://a']"), one);
        let long = policy(
            "cors = { origins = 'https://a', methods = ['GET'], headers = ['Range', 'X-A'], expose = ['ETag'], \
             max_age = '1h', credentials = true }",
        );
        assert_eq!(long.methods, [CorsMethod::Get]);
        assert_eq!(long.headers, AllowedHeaders::These(vec!["range".to_owned(), "x-a".to_owned()]));
        assert_eq!((long.max_age.as_secs(), long.credentials), (3_600, true));
        assert_eq!(policy("cors = { origins = '*', headers = '*' }").headers, AllowedHeaders::Any);
    }

    #[test]
    fn each_fault_is_told_with_its_line_its_value_and_what_is_accepted() {
        for (keys, expected) in [
            (
                "\ncache_contrl = 'no-cache'",
                "c.toml:4: rule.cache_contrl is not known; the nearest known name is cache_control",
            ),
            (
                "workers = 4",
                "c.toml:3: workers is a setting of the whole server and no key of a rule: put it above the first \
                 [[rule]]",
            ),
            (
                "glob = '*'",
                "c.toml:3: rule.glob: the value \"*\" is a second one: path and glob are the same key; \
                 accepted: one of the two, which may be a list",
            ),
            (
                "cache_control = 5",
                "c.toml:3: rule.cache_control: the value \"5\" is not accepted: invalid type: integer `5`, expected \
                 a string; accepted: the value of a header in visible ASCII, or off",
            ),
            (
                "cache_control = \"a\\nb\"",
                "c.toml:3: rule.cache_control: the value \"a\\\\nb\" contains a line break; \
                 accepted: the value of a header in visible ASCII, or off",
            ),
            (
                "content_type = 'html'",
                "c.toml:3: rule.content_type: the value \"html\" is no media type; \
                 accepted: a media type such as text/plain; charset=utf-8",
            ),
            (
                "disposition = 'download'",
                "c.toml:3: rule.disposition: the value \"download\" is not one of the accepted words; \
                 accepted: inline or attachment",
            ),
            (
                "listing = 'maybe'",
                "c.toml:3: rule.listing: the value \"maybe\" is neither on nor off; \
                 accepted: on or off (also true or false, yes or no, 1 or 0)",
            ),
            (
                "spa = 'index.html'",
                "c.toml:3: rule.spa: the value \"index.html\" does not start with a slash; \
                 accepted: the path of a file within the site, such as /index.html, or off",
            ),
            (
                "digest = 'md5'",
                "c.toml:3: rule.digest: the value \"md5\" contains the unknown word `md5`; \
                 accepted: true, sha-256, sha-512, a list of them, or off",
            ),
            (
                "rate_client = '12'",
                "c.toml:3: rule.rate_client: the value \"12\" is too small; accepted: a size such as 512, 64KiB, \
                 10MB or 2GiB (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), from 1KiB to 1TiB, or off",
            ),
            (
                "headers = 'a'",
                "c.toml:3: rule.headers: the value \"a\" is no table; \
                 accepted: a table such as { X-Robots-Tag = \"noindex\" }",
            ),
            (
                "[rule.headers]\nX-A = 'b'\nContent-Length = '5'",
                "c.toml:5: rule.headers.Content-Length: the header field Content-Length is about where a message \
                 ends, which the server alone knows",
            ),
            ("headers = { 'a b' = 'c' }", "c.toml:3: rule.headers.a b: \"a b\" is not the name of a header"),
            (
                "headers = { x-a = 'b', X-A = 'c' }",
                "c.toml:3: rule.headers.X-A: the value \"c\" is of a name that is given twice; \
                 accepted: each header field once",
            ),
            (
                "[rule.cors]\norigin = '*'",
                "c.toml:4: rule.cors.origin is not known; the nearest known name is origins",
            ),
            (
                "[rule.cors]\norigins = '*'\nmethods = ['PUT']",
                "c.toml:5: rule.cors.methods: the value \"['PUT']\" has the method \"PUT\", which is not served; \
                 accepted: a list of GET and HEAD, the methods that there are files for",
            ),
            (
                "cors = { origins = '*', max_age = '2d' }",
                "c.toml:3: rule.cors.max_age: the value \"2d\" has the unknown unit `d`; accepted: a duration \
                 with its unit such as 250ms, 30s, 5m, 1h or 1m30s, from 0 to 24h",
            ),
        ] {
            assert_eq!(told(keys), [expected], "{keys}");
        }
    }

    #[test]
    fn credentials_want_named_origins_and_the_reason_is_told() {
        let errors = told("cors = { origins = '*', credentials = true }");
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(error.contains("has credentials for the origin *, which browsers refuse"), "{error}");
    }

    #[test]
    fn all_faults_of_all_rules_are_told() {
        let text = "[[rule]]\nlisting = true\n[[rule]]\npath = '/a/'\nspa = 1\n[[rule]]\npath = 'b'\nx = 1\n";
        let (rules, errors) = read_text(text);
        assert!(rules.is_empty());
        let places = [
            "c.toml:1: the rule has no path",
            "c.toml:4: rule.path: ",
            "c.toml:5: rule.spa: ",
            "c.toml:8: rule.x ",
        ];
        assert_eq!(errors.len(), places.len(), "{errors:#?}");
        for (error, place) in errors.iter().zip(places) {
            assert!(error.starts_with(place), "{error}");
        }
        for text in ["[rule]\npath = 'a'", "rule = 5", "rule = ['a']"] {
            let (_, errors) = read_text(text);
            assert_eq!(errors, ["c.toml:1: rules are written under [[rule]], each of them anew"], "{text}");
        }
    }
}
