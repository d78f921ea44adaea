//! Reads the key `cors` of a rule.

use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use super::comma_list::OriginList;
use super::rule_reader::{Key, OrOff, RuleReader, Texts};
use super::setting::SettingValue;
use crate::config::choice::OnOff;
use crate::config::duration_setting::DurationSetting;
use crate::config::settings_table::{CORS_MAX_AGE, CORS_MAX_AGE_BOUNDS};
use crate::config::toggle::Toggle;
use crate::http::cors::{AllowedHeaders, AllowedOrigins, CorsPolicy};
use crate::http::header_grammar::is_token;
use crate::http::method::ReadMethod;

/// The value of `cors`.
pub(crate) struct CorsTable {
    pub(crate) policy: Toggle<Arc<CorsPolicy>>,
    /// True if there is a policy without `max_age`.
    pub(crate) max_age_is_open: bool,
}

/// The short form: origins, or off.
impl From<OrOff<OriginList>> for CorsTable {
    fn from(OrOff(origins): OrOff<OriginList>) -> Self {
        match origins {
            Toggle::Off => Self { policy: Toggle::Off, max_age_is_open: false },
            Toggle::Given(list) => {
                let policy = CorsPolicy::new(list.origins(), CORS_MAX_AGE.get());
                Self { policy: Toggle::Given(Arc::new(policy)), max_age_is_open: true }
            }
        }
    }
}

/// Keys of the long form.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CorsKeys {
    origins: Key<OriginList>,
    methods: Key<Texts>,
    headers: Key<Texts>,
    expose: Key<Texts>,
    max_age: Key<DurationSetting>,
    credentials: Key<OnOff>,
}

/// Reads the long form, a table. `None` if there are errors, which are reported.
pub(crate) fn read_cors<'a>(
    reader: &mut RuleReader<'_, 'a>,
    table: Spanned<DeTable<'a>>,
) -> Option<CorsTable> {
    let before = reader.errors.len();
    let span = table.span();
    let keys = reader.read_keys::<CorsKeys>("rule.cors", table.into_inner())?;
    let has_origins = keys.origins.is_some();
    let max_age_is_open = keys.max_age.is_none();
    let origins = reader.take("rule.cors.origins", keys.origins, &()).map(|list| list.origins());
    let mut policy =
        CorsPolicy::new(origins.unwrap_or(AllowedOrigins::These(Vec::new())), CORS_MAX_AGE.get());
    if let Some(methods) = reader.convert("rule.cors.methods", keys.methods, METHODS, methods) {
        policy.methods = methods;
    }
    if let Some(headers) = reader.convert("rule.cors.headers", keys.headers, HEADERS, headers) {
        policy.headers = headers;
    }
    if let Some(names) = reader.convert("rule.cors.expose", keys.expose, EXPOSE, header_names) {
        policy.expose = names.join(", ");
    }
    if let Some(max_age) = reader.take("rule.cors.max_age", keys.max_age, &CORS_MAX_AGE_BOUNDS) {
        policy.max_age = max_age.get();
    }
    policy.credentials =
        reader.take("rule.cors.credentials", keys.credentials, &()).is_some_and(OnOff::is_on);
    let (reason, accepted) = match (has_origins, policy.credentials, &policy.origins) {
        _ if reader.errors.len() > before => return None,
        (false, _, _) => ("has no origins", format!("origins: {}", OriginList::accepted(&()))),
        (_, true, AllowedOrigins::Any) => (CREDENTIALS_FOR_ALL, "credentials with named origins".to_owned()),
        _ => return Some(CorsTable { policy: Toggle::Given(Arc::new(policy)), max_age_is_open }),
    };
    reader.refuse(&span, "rule.cors", reason, &accepted);
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

const METHODS: &str = "a list of GET and HEAD, the methods that there are files for";
const HEADERS: &str = "\"*\" or a list of names of headers such as [\"Range\"]";
const EXPOSE: &str = "a list of names of headers such as [\"ETag\"]";
const CREDENTIALS_FOR_ALL: &str = "has credentials for the origin *, which browsers refuse, since any page could then \
                                   read what is meant for its visitor";
