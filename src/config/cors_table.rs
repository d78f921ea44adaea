//! Reads the key `cors` of a rule.

use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::comma_list::OriginList;
use super::file::TomlEntry;
use super::rule_reader::{RejectedValue, RuleReader, is_off, read, texts_of};
use super::setting::SettingValue;
use crate::config::choice::OnOff;
use crate::config::duration_setting::DurationSetting;
use crate::config::toggle::Toggle;
use crate::http::cors::{AllowedHeaders, AllowedOrigins, CorsMethod, CorsPolicy};
use crate::http::header_grammar::is_token;

/// What `cors` says.
pub(crate) struct CorsTable {
    pub(crate) policy: Toggle<Arc<CorsPolicy>>,
    /// Whether nothing was said of how long an answer may be remembered.
    pub(crate) max_age_is_open: bool,
}

impl CorsTable {
    /// Reads `"*"`, an origin, a list of origins, `false` or a table. `None`: what is wrong has been told.
    pub(crate) fn read<'a>(
        reader: &mut RuleReader<'_, 'a>,
        entry: TomlEntry<'a>,
    ) -> Result<Option<Self>, RejectedValue> {
        if is_off(entry.value.get_ref()) {
            return Ok(Some(Self { policy: Toggle::Off, max_age_is_open: false }));
        }
        let span = entry.value.span();
        match entry.value.into_inner() {
            DeValue::Table(table) => {
                let entries = reader.source.entries(table);
                read_table(reader, entry.line, entry.written, entries)
            }
            other => {
                let list =
                    read::<OriginList>(Spanned::new(span, other), &()).map_err(|refused| RejectedValue {
                        accepted: format!("{}; off; or a table with the key origins", refused.accepted),
                        ..refused
                    })?;
                let policy = CorsPolicy::new(list.origins(), CORS_MAX_AGE.get());
                Ok(Some(Self { policy: Toggle::Given(Arc::new(policy)), max_age_is_open: true }))
            }
        }
    }
}

fn read_table<'a>(
    reader: &mut RuleReader<'_, 'a>,
    line: usize,
    written: &str,
    entries: Vec<TomlEntry<'a>>,
) -> Result<Option<CorsTable>, RejectedValue> {
    let before = reader.errors.len();
    let mut policy = CorsPolicy::new(AllowedOrigins::These(Vec::new()), CORS_MAX_AGE.get());
    let (mut has_origins, mut max_age_is_open) = (false, true);
    for entry in entries {
        let (line, written, key) = (entry.line, entry.written, entry.key.clone());
        let done = match key.as_str() {
            "origins" => {
                has_origins = true;
                read::<OriginList>(entry.value, &()).map(|list| policy.origins = list.origins())
            }
            "methods" => read_methods(&entry.value).map(|methods| policy.methods = methods),
            "headers" => read_headers(&entry.value).map(|headers| policy.headers = headers),
            "expose" => {
                read_names(&entry.value, EXPOSE_ACCEPTED).map(|names| policy.expose = names.join(", "))
            }
            "max_age" => {
                max_age_is_open = false;
                read::<DurationSetting>(entry.value, &CORS_MAX_AGE_BOUNDS)
                    .map(|span| policy.max_age = span.get())
            }
            "credentials" => {
                read::<OnOff>(entry.value, &()).map(|switch| policy.credentials = switch.is_on())
            }
            _ => {
                reader.tell_unknown(&entry, "rule.cors", KEYS);
                Ok(())
            }
        };
        if let Err(refused) = done {
            reader.tell_refused(line, &format!("rule.cors.{key}"), written, refused);
        }
    }
    if reader.errors.len() > before {
        return Ok(None);
    }
    if !has_origins {
        return Err(RejectedValue::new("has no origins", format!("origins: {}", OriginList::accepted(&()))));
    }
    if policy.credentials && policy.origins == AllowedOrigins::Any {
        let reason = "has credentials for the origin *, which browsers refuse, since any page could then read \
                      what is meant for its visitor";
        reader.tell_refused(
            line,
            "rule.cors",
            written,
            RejectedValue::new(reason, "credentials with named origins"),
        );
        return Ok(None);
    }
    Ok(Some(CorsTable { policy: Toggle::Given(Arc::new(policy)), max_age_is_open }))
}

fn read_methods(value: &Spanned<DeValue<'_>>) -> Result<Vec<CorsMethod>, RejectedValue> {
    let accepted = "a list of GET and HEAD, the methods that there are files for";
    let texts = texts_of(value.get_ref())
        .filter(|texts| !texts.is_empty())
        .ok_or_else(|| RejectedValue::new("is no list of methods", accepted))?;
    let mut methods = Vec::new();
    for text in texts {
        let method = match text.as_str() {
            "GET" => CorsMethod::Get,
            "HEAD" => CorsMethod::Head,
            other => {
                return Err(RejectedValue::new(
                    format!("has the method {other:?}, which is not served"),
                    accepted,
                ));
            }
        };
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    Ok(methods)
}

fn read_headers(value: &Spanned<DeValue<'_>>) -> Result<AllowedHeaders, RejectedValue> {
    if matches!(value.get_ref(), DeValue::String(text) if text == "*") {
        return Ok(AllowedHeaders::Any);
    }
    let names = read_names(value, "\"*\" or a list of names of header fields such as [\"Range\"]")?;
    Ok(AllowedHeaders::These(names.iter().map(|name| name.to_ascii_lowercase()).collect()))
}

fn read_names(value: &Spanned<DeValue<'_>>, accepted: &str) -> Result<Vec<String>, RejectedValue> {
    let names = texts_of(value.get_ref())
        .ok_or_else(|| RejectedValue::new("is no list of names of header fields", accepted))?;
    // `*` is a token, but never the name of one field.
    match names.iter().find(|name| !is_token(name.as_bytes()) || *name == "*") {
        Some(name) => Err(RejectedValue::new(
            format!("has {name:?}, which is not the name of a header field"),
            accepted,
        )),
        None => Ok(names),
    }
}

/// The time for which the answer to a preflight is remembered, unless something else is said.
pub(crate) const CORS_MAX_AGE: DurationSetting = DurationSetting::minutes(10);

/// No browser remembers for longer than a day.
pub(crate) const CORS_MAX_AGE_BOUNDS: std::ops::RangeInclusive<DurationSetting> =
    DurationSetting::ZERO..=DurationSetting::hours(24);

const EXPOSE_ACCEPTED: &str = "a list of names of header fields such as [\"ETag\"]";
const KEYS: &[&str] = &["origins", "methods", "headers", "expose", "max_age", "credentials"];
