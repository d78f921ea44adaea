//! What reading the tables of rules has in common: values, refusals, and who hears of them.

use toml::Spanned;
use toml::de::DeValue;

use super::error::{ConfigError, name_at};
use super::file::{TomlEntry, TomlSource};
use super::nearest::nearest_of;
use super::origin::ValueOrigin;
use super::setting::{RawValue, SettingValue};
use crate::config::settings_table::Setting;
use crate::config::toggle::OFF;

/// The key of rules.
pub(crate) const RULE: &str = "rule";

/// Why a value is refused, continuing "the value …", and what would be accepted.
pub(crate) struct RejectedValue {
    pub(crate) reason: String,
    pub(crate) accepted: String,
}

impl RejectedValue {
    pub(crate) fn new(reason: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self { reason: reason.into(), accepted: accepted.into() }
    }
}

/// Reads tables and tells what is wrong with their entries.
pub(crate) struct RuleReader<'s, 'a> {
    pub(crate) source: &'s TomlSource<'a>,
    pub(crate) errors: &'s mut Vec<ConfigError>,
}

impl RuleReader<'_, '_> {
    /// Tells of a key that a table does not know.
    pub(crate) fn tell_unknown(&mut self, entry: &TomlEntry<'_>, table: &str, keys: &[&'static str]) {
        if table == RULE && Setting::by_key(&entry.key).is_some() {
            let reason = format!(
                "{} is a setting of the whole server and no key of a rule: put it above the first [[rule]]",
                entry.key
            );
            return self.tell(entry.line, reason);
        }
        let name = name_at(&self.origin(entry.line), &format!("{table}.{}", entry.key));
        let nearest = nearest_of(&entry.key, keys.iter().copied()).to_owned();
        self.errors.push(ConfigError::Unknown { name, nearest });
    }

    /// Tells of a value that is not accepted.
    pub(crate) fn tell_refused(&mut self, line: usize, key: &str, written: &str, refused: RejectedValue) {
        let origin = self.origin(line);
        self.errors.push(ConfigError::bad_value_at(
            name_at(&origin, key),
            written,
            refused.reason,
            refused.accepted,
        ));
    }

    pub(crate) fn tell(&mut self, line: usize, reason: String) {
        let path = self.source.path.to_path_buf();
        self.errors.push(ConfigError::File { path, line: Some(line), reason });
    }

    pub(crate) fn origin(&self, line: usize) -> ValueOrigin {
        ValueOrigin::File { path: self.source.path.to_path_buf(), line }
    }
}

/// Reads a value of a type that settings have, too.
pub(crate) fn read<T: SettingValue>(
    value: Spanned<DeValue<'_>>,
    bounds: &T::Bounds,
) -> Result<T, RejectedValue> {
    RawValue::Toml(value).read(bounds).map_err(|reason| RejectedValue::new(reason, T::accepted(bounds)))
}

/// Whether a value says that there is to be nothing.
pub(crate) fn is_off(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Boolean(switch) => !switch,
        DeValue::String(text) => text.is_empty() || text.eq_ignore_ascii_case(OFF),
        _ => false,
    }
}

/// The texts of a string or a list of strings.
pub(crate) fn texts_of(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::String(text) => Some(vec![text.to_string()]),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}
