//! Reads the `[[rule]]` tables of the file.

use std::ops::RangeInclusive;
use std::sync::Arc;

use actix_web::http::header::HeaderName;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::cors_table::read_cors;
use super::file::{TomlEntry, TomlSource};
use super::rule_reader::{RULE, TableReader, Texts};
use super::setting::{RawValue, reason_of};
use super::{
    AccessRule, AuthMethods, ByteCount, ConfigError, ConfigHeaderValue, ExtraHeaders, Rule, RuleEffects,
    RuleRate, RuleRates, SiteFile, Toggle, ValueError, ValueOrigin,
};
use crate::config::headers::why_reserved;
use crate::http::media_type::is_media_type;
use crate::http::path_glob::PathGlobs;

/// A rule as it was read.
pub(crate) struct ReadRule {
    /// Where it begins.
    pub(crate) origin: ValueOrigin,
    pub(crate) rule: Rule,
    /// True if its CORS policy, if it has one, is without `max_age`, so that the setting `cors_max_age` applies.
    pub(crate) max_age_is_open: bool,
}

/// Reads the rules of a file and reports every error in them. Rules with errors are left out.
pub(crate) fn read_rules<'a>(
    entry: TomlEntry<'a>,
    source: &TomlSource<'a>,
    errors: &mut Vec<ConfigError>,
) -> Vec<ReadRule> {
    let DeValue::Array(rules) = entry.value.into_inner() else {
        errors.push(source.fault(entry.line, NOT_A_TABLE.to_owned()));
        return Vec::new();
    };
    let rules = rules.into_iter().enumerate();
    rules.filter_map(|(number, rule)| read_rule(number, rule, source, errors)).collect()
}

fn read_rule<'a>(
    number: usize,
    rule: Spanned<DeValue<'a>>,
    source: &TomlSource<'a>,
    errors: &mut Vec<ConfigError>,
) -> Option<ReadRule> {
    let line = source.line_of(&rule.span());
    let DeValue::Table(table) = rule.into_inner() else {
        errors.push(source.fault(line, NOT_A_TABLE.to_owned()));
        return None;
    };
    let before = errors.len();
    let mut keys = TableReader::new(source, errors, RULE, KEYS, table);
    let path = read_path(&mut keys);
    if path.is_none() && keys.errors.len() == before {
        let reason = "the rule has no path: a glob such as \"*.html\" or \"/assets/**\"";
        keys.errors.push(source.fault(line, reason.to_owned()));
    }
    let has_max_age = matches!(keys.get("cors"), Some(DeValue::Table(cors)) if cors.contains_key("max_age"));
    let effects = RuleEffects { cors: read_cors(&mut keys), ..read_effects(&mut keys, number) };
    let path = path.filter(|_| errors.len() == before)?;
    Some(ReadRule {
        origin: source.origin(line),
        rule: Rule { path, effects },
        max_age_is_open: !has_max_age,
    })
}

fn read_path(keys: &mut TableReader<'_, '_>) -> Option<PathGlobs> {
    let accepted = "a glob such as *.html, /assets/** or /docs/{a,b}/*.pdf, or a list of globs";
    let globs = |value: Texts| PathGlobs::new(value.texts);
    if keys.get("path").is_none() {
        return keys.take_texts("glob", accepted, globs);
    }
    keys.convert::<()>("glob", "one of the two, which may be a list", |_| {
        Err("is a second one: path and glob are the same key".to_owned())
    });
    keys.take_texts("path", accepted, globs)
}

/// Everything but CORS.
fn read_effects(keys: &mut TableReader<'_, '_>, number: usize) -> RuleEffects {
    let methods = keys.take::<AuthMethods>("access", &());
    let users = read_users(keys, methods);
    RuleEffects {
        access: methods.map(|methods| AccessRule { methods, users }),
        cache_control: keys.take_or_off("cache_control", &()),
        headers: read_headers(keys),
        content_type: keys.convert(
            "content_type",
            "a media type such as text/plain; charset=utf-8",
            |value| {
                let value: ConfigHeaderValue = RawValue::Toml(value).read(&())?;
                if is_media_type(value.as_str()) { Ok(value) } else { Err("is not a media type".to_owned()) }
            },
        ),
        disposition: keys.take("disposition", &()),
        listing: keys.take("listing", &()),
        spa: read_spa(keys),
        digest: keys.take("digest", &()),
        rates: RuleRates {
            client: keys.take_or_off("rate_client", &RATES).map(|rate| RuleRate { rate, rule: number }),
            client_burst: keys.take("rate_client_burst", &RATES),
            connection: keys.take_or_off("rate_connection", &RATES),
        },
        cors: None,
    }
}

fn read_spa(keys: &mut TableReader<'_, '_>) -> Option<Toggle<SiteFile>> {
    match keys.get("spa") {
        Some(DeValue::Boolean(true)) => Some(Toggle::Given(SiteFile::unchecked("/index.html"))),
        _ => keys.take_or_off("spa", &()),
    }
}

/// Users restrict the methods of their own rule.
fn read_users(keys: &mut TableReader<'_, '_>, methods: Option<AuthMethods>) -> Option<Arc<[String]>> {
    if !methods.is_some_and(|methods| methods.bearer || methods.basic) {
        let accepted = "users in a rule whose access has bearer or basic in it";
        return keys.take_texts("users", accepted, |_| Err("has no effect".to_owned()));
    }
    let accepted = "names of the tokens or passwords file: a string or a list of strings";
    keys.take_texts("users", accepted, |Texts { texts: users, .. }| {
        match users.is_empty() || users.iter().any(String::is_empty) {
            true => Err("is empty or has an empty name in it".to_owned()),
            false => Ok(users.into()),
        }
    })
}

fn read_headers(keys: &mut TableReader<'_, '_>) -> ExtraHeaders {
    let mut headers = ExtraHeaders::default();
    let accepted = "a table such as { X-Robots-Tag = \"noindex\" }";
    let table = keys.convert("headers", accepted, |value| {
        let typed = toml::Table::deserialize(ValueDeserializer::from(value.clone()));
        typed.map(|_| value.into_inner()).map_err(|error| reason_of(error.message()))
    });
    let Some(DeValue::Table(table)) = table else { return headers };
    let accepted = "the value of a header in visible ASCII, each header once";
    for TomlEntry { key, line, value, .. } in keys.source.entries(table) {
        let full_name = format!("{RULE}.headers.{}", key.escape_debug());
        match header_name(&key) {
            Err(reason) => keys.errors.push(keys.source.fault(line, format!("{full_name}: {reason}"))),
            Ok(name) => {
                keys.convert_value(&full_name, value, accepted, |value| {
                    headers.push(name, RawValue::Toml(value).read(&())?).map_err(|error| error.to_string())
                });
            }
        }
    }
    headers
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    if text.is_empty() {
        return Err(format!("{text:?} {}", ValueError::EMPTY));
    }
    let name = HeaderName::from_bytes(text.as_bytes());
    let name = name.map_err(|_| format!("{text:?} is not the name of a header"))?;
    match why_reserved(&name) {
        Some(reason) => Err(format!("the header {text} {reason}")),
        None => Ok(name),
    }
}

const NOT_A_TABLE: &str = "rules are written under [[rule]], each of them anew";

/// Keys of a rule. `glob` is the same as `path`.
const KEYS: &str = "path glob access users cache_control headers content_type disposition cors listing spa digest \
                    rate_client rate_client_burst rate_connection";

/// Bounds of rates and bursts, the same as those of the settings.
const RATES: RangeInclusive<ByteCount> = ByteCount::kib(1)..=ByteCount::tib(1);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file::parse;
    use crate::config::{Auto, DigestChoice, Disposition, OnOff};
    use crate::http::cors::{AllowedHeaders, AllowedOrigins};
    use crate::http::method::ReadMethod;

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

    fn reported(keys: &str) -> Vec<String> {
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

    fn rates(client: Option<Toggle<ByteCount>>, connection: Option<Toggle<ByteCount>>) -> RuleEffects {
        let client = client.map(|rate| RuleRate { rate, rule: 0 });
        RuleEffects { rates: RuleRates { client, client_burst: None, connection }, ..RuleEffects::default() }
    }

    #[test]
    fn a_key_can_turn_off_what_others_set() {
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
            ("rate_client = 'off'", rates(Some(Toggle::Off), None)),
            ("rate_connection = false", rates(None, Some(Toggle::Off))),
            (
                "spa = true",
                RuleEffects {
                    spa: Some(Toggle::Given(SiteFile::unchecked("/index.html"))),
                    ..RuleEffects::default()
                },
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
            assert_eq!(access(keys), AccessRule { methods: ways(expected), users }, "{keys}");
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
                "c.toml:3: rule.users: the value \"alice\" has no effect; \
                 accepted: users in a rule whose access has bearer or basic in it",
            ),
            (
                "access = 'link'\nusers = ['a', 'b']",
                "c.toml:4: rule.users: the value \"['a', 'b']\" has no effect; \
                 accepted: users in a rule whose access has bearer or basic in it",
            ),
            (
                "access = 'basic'\nusers = []",
                "c.toml:4: rule.users: the value \"[]\" is empty or has an empty name in it; \
                 accepted: names of the tokens or passwords file: a string or a list of strings",
            ),
        ] {
            assert_eq!(reported(keys), [expected], "{keys}");
        }
    }

    #[test]
    fn rates_are_sizes_a_second() {
        let read =
            effects("rate_client = '1MiB'\nrate_client_burst = '64KiB'\nrate_connection = 65536").rates;
        assert_eq!(read.client, Some(RuleRate { rate: Toggle::Given(ByteCount::mib(1)), rule: 0 }));
        assert_eq!(read.client_burst, Some(Auto::Given(ByteCount::kib(64))));
        assert_eq!(read.connection, Some(Toggle::Given(ByteCount::kib(64))));
        assert_eq!(effects("rate_client_burst = 'auto'").rates.client_burst, Some(Auto::Auto));
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
        assert_eq!(long.methods, [ReadMethod::Get]);
        assert_eq!(long.headers, AllowedHeaders::These(vec!["range".to_owned(), "x-a".to_owned()]));
        assert_eq!((long.max_age.as_secs(), long.credentials), (3_600, true));
        assert_eq!(policy("cors = { origins = '*', headers = '*' }").headers, AllowedHeaders::Any);
    }

    #[test]
    fn each_fault_is_reported_with_its_line_its_value_and_what_is_accepted() {
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
                 a string or a boolean; accepted: the value of a header in visible ASCII, or off",
            ),
            (
                "cache_control = \"a\\nb\"",
                "c.toml:3: rule.cache_control: the value \"a\\\\nb\" contains a line break; \
                 accepted: the value of a header in visible ASCII, or off",
            ),
            (
                "content_type = 'html'",
                "c.toml:3: rule.content_type: the value \"html\" is not a media type; \
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
                "c.toml:3: rule.headers: the value \"a\" is not accepted: invalid type: string \"a\", expected a map; \
                 accepted: a table such as { X-Robots-Tag = \"noindex\" }",
            ),
            (
                "[rule.headers]\nX-A = 'b'\nContent-Length = '5'",
                "c.toml:5: rule.headers.Content-Length: the header Content-Length is about where a message \
                 ends, which the server alone knows",
            ),
            ("headers = { 'a b' = 'c' }", "c.toml:3: rule.headers.a b: \"a b\" is not the name of a header"),
            (
                "headers = { x-a = 'b', X-A = 'c' }",
                "c.toml:3: rule.headers.X-A: the value \"c\" is the second one of this name; \
                 accepted: the value of a header in visible ASCII, each header once",
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
                "c.toml:3: rule.cors.max_age: the value \"2d\" is not a duration: the longest unit is the hour; accepted: a duration \
                 with its unit such as 250ms, 30s, 5m, 1h or 1m30s, from 0 to 24h",
            ),
        ] {
            assert_eq!(reported(keys), [expected], "{keys}");
        }
    }

    #[test]
    fn a_list_neither_turns_cors_off_nor_allows_all_headers() {
        for keys in [
            "cors = []",
            "cors = ['']",
            "cors = ['off']",
            "cors = { origins = 'https://a', headers = ['*'] }",
        ] {
            assert_eq!(reported(keys).len(), 1, "{keys}");
        }
    }

    #[test]
    fn credentials_want_named_origins_and_the_reason_is_reported() {
        let errors = reported("cors = { origins = '*', credentials = true }");
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(error.contains("has credentials for the origin *, which browsers refuse"), "{error}");
    }

    #[test]
    fn all_faults_of_all_rules_are_reported() {
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
