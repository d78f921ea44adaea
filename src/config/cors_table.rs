//! Reads the key `cors` of a rule.

use std::sync::Arc;

use toml::de::DeValue;

use super::rule_reader::{TableReader, Texts};
use super::settings_table::{CORS_MAX_AGE, CORS_MAX_AGE_BOUNDS};
use super::{DurationSetting, OnOff, OriginList, SettingValue, Toggle};
use crate::http::cors::{AllowedHeaders, AllowedOrigins, CorsPolicy};
use crate::http::header_grammar::is_token;
use crate::http::method::ReadMethod;

/// Reads `cors` of a rule. The short form is origins, or off; the long form is a table. `None` if it is not there, or has
/// errors, which are reported.
pub(crate) fn read_cors(rule: &mut TableReader<'_, '_>) -> Option<Toggle<Arc<CorsPolicy>>> {
    if let Some(DeValue::Table(_)) = rule.get("cors") {
        return read_table(rule).map(|policy| Toggle::Given(Arc::new(policy)));
    }
    Some(match rule.take_or_off::<OriginList>("cors", &())? {
        Toggle::Off => Toggle::Off,
        Toggle::Given(list) => Toggle::Given(Arc::new(CorsPolicy::new(list.origins(), CORS_MAX_AGE.get()))),
    })
}

fn read_table(rule: &mut TableReader<'_, '_>) -> Option<CorsPolicy> {
    let before = rule.errors.len();
    let table = rule.remove("cors")?;
    let span = table.span();
    let DeValue::Table(table) = table.into_inner() else { return None };
    let mut keys = TableReader::new(rule.source, rule.errors, "rule.cors", KEYS, table);
    let has_origins = keys.get("origins").is_some();
    let origins = keys.take::<OriginList>("origins", &()).map(|list| list.origins());
    let mut policy =
        CorsPolicy::new(origins.unwrap_or(AllowedOrigins::These(Vec::new())), CORS_MAX_AGE.get());
    policy.methods = keys.take_texts("methods", METHODS, methods).unwrap_or(policy.methods);
    policy.headers = keys.take_texts("headers", HEADERS, headers).unwrap_or(policy.headers);
    let expose = keys.take_texts("expose", EXPOSE, header_names);
    policy.expose = expose.map_or(policy.expose, |names| names.join(", "));
    let max_age = keys.take::<DurationSetting>("max_age", &CORS_MAX_AGE_BOUNDS);
    policy.max_age = max_age.map_or(policy.max_age, |max_age| max_age.get());
    policy.credentials = keys.take("credentials", &()).is_some_and(OnOff::is_on);
    let (reason, accepted) = match (has_origins, policy.credentials, &policy.origins) {
        _ if keys.errors.len() > before => return None,
        (false, _, _) => ("has no origins", format!("origins: {}", OriginList::accepted(&()))),
        (_, true, AllowedOrigins::Any) => (CREDENTIALS_FOR_ALL, "credentials with named origins".to_owned()),
        _ => return Some(policy),
    };
    keys.errors.push(keys.source.bad_value(&span, "rule.cors", reason, &accepted));
    None
}

fn methods(Texts { texts, .. }: Texts) -> Result<Vec<ReadMethod>, String> {
    let mut methods = Vec::new();
    for text in &texts {
        let method = ReadMethod::named(text.as_bytes());
        let method = method.ok_or_else(|| format!("has the method {text:?}, which is not served"))?;
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    if methods.is_empty() { Err("is an empty list of methods".to_owned()) } else { Ok(methods) }
}

fn headers(value: Texts) -> Result<AllowedHeaders, String> {
    if !value.is_list && value.texts == ["*"] {
        return Ok(AllowedHeaders::Any);
    }
    let names = header_names(value)?;
    Ok(AllowedHeaders::These(names.iter().map(|name| name.to_ascii_lowercase()).collect()))
}

fn header_names(Texts { texts: names, .. }: Texts) -> Result<Vec<String>, String> {
    // `*` is a token, but never the name of one header.
    match names.iter().find(|name| !is_token(name.as_bytes()) || *name == "*") {
        Some(name) => Err(format!("contains {name:?}, which is not the name of a header")),
        None => Ok(names),
    }
}

/// Keys of the long form.
const KEYS: &str = "origins methods headers expose max_age credentials";

const METHODS: &str = "a list of GET and HEAD, the methods that there are files for";
const HEADERS: &str = "\"*\" or a list of names of headers such as [\"Range\"]";
const EXPOSE: &str = "a list of names of headers such as [\"ETag\"]";
const CREDENTIALS_FOR_ALL: &str = "has credentials for the origin *, which browsers refuse, since any page could then \
                                   read what is meant for its visitor";
