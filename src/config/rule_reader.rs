//! Reads tables of the configuration file key by key, so that one wrong value does not hide the next.

use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, name_at};
use super::file::{TomlEntry, TomlSource};
use super::nearest::nearest_of;
use super::setting::{RawValue, SettingValue, TomlForms, ValueError};
use crate::config::settings_table::Setting;
use crate::config::toggle::{OFF, Toggle};

/// The key of rules.
pub(crate) const RULE: &str = "rule";

/// A table whose keys are taken one by one. Errors are collected.
pub(crate) struct TableReader<'s, 'a> {
    pub(crate) source: &'s TomlSource<'a>,
    pub(crate) errors: &'s mut Vec<ConfigError>,
    /// Precedes its keys in error messages.
    name: &'static str,
    entries: Vec<TomlEntry<'a>>,
}

impl<'s, 'a> TableReader<'s, 'a> {
    /// Keeps the keys that are `known`, a list with spaces between them. Others are errors.
    pub(crate) fn new(
        source: &'s TomlSource<'a>,
        errors: &'s mut Vec<ConfigError>,
        name: &'static str,
        known: &'static str,
        table: DeTable<'a>,
    ) -> Self {
        let is_known = |entry: &TomlEntry<'_>| known.split(' ').any(|key| key == entry.key);
        let (entries, unknown) = source.entries(table).into_iter().partition::<Vec<_>, _>(is_known);
        for TomlEntry { key, line, .. } in unknown {
            errors.push(if name == RULE && Setting::by_key(&key).is_some() {
                let hint =
                    "is a setting of the whole server and no key of a rule: put it above the first [[rule]]";
                source.fault(line, format!("{key} {hint}"))
            } else {
                let nearest = nearest_of(&key, known.split(' ')).to_owned();
                ConfigError::Unknown {
                    name: name_at(&source.origin(line), &format!("{name}.{key}")),
                    nearest,
                }
            });
        }
        Self { source, errors, name, entries }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&DeValue<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.get_ref())
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Spanned<DeValue<'a>>> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(at).value)
    }

    /// The value of a key if it is there and within its bounds; otherwise reports it.
    pub(crate) fn take<T: SettingValue>(&mut self, key: &str, bounds: &T::Bounds) -> Option<T> {
        self.convert(key, &T::accepted(bounds), |value| RawValue::Toml(value).read(bounds))
    }

    /// The value of a key that may be off: `false`, `"off"` or `""`. A list never means off.
    pub(crate) fn take_or_off<T: SettingValue>(
        &mut self,
        key: &str,
        bounds: &T::Bounds,
    ) -> Option<Toggle<T>> {
        let forms = TomlForms { boolean: true, ..T::FORMS };
        self.convert(key, &Toggle::<T>::accepted(bounds), |value| match value.get_ref() {
            DeValue::Boolean(false) => Ok(Toggle::Off),
            DeValue::Boolean(true) => Err("is not accepted".to_owned()),
            DeValue::String(text) if text.is_empty() || text.eq_ignore_ascii_case(OFF) => Ok(Toggle::Off),
            _ => RawValue::Toml(value).read_forms(bounds, forms).map(Toggle::Given),
        })
    }

    /// A string or a list of strings as another type. The error of `convert` continues "the value …".
    pub(crate) fn take_texts<T>(
        &mut self,
        key: &str,
        accepted: &str,
        convert: impl FnOnce(Texts) -> Result<T, String>,
    ) -> Option<T> {
        self.convert(key, accepted, |value| RawValue::Toml(value).read(&()).and_then(convert))
    }

    /// The value of a key as another type. The error of `convert` continues "the value …".
    pub(crate) fn convert<T>(
        &mut self,
        key: &str,
        accepted: &str,
        convert: impl FnOnce(Spanned<DeValue<'a>>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.remove(key)?;
        self.convert_value(&format!("{}.{key}", self.name), value, accepted, convert)
    }

    /// A value as another type. `name` is its full name, for the error.
    pub(crate) fn convert_value<T>(
        &mut self,
        name: &str,
        value: Spanned<DeValue<'a>>,
        accepted: &str,
        convert: impl FnOnce(Spanned<DeValue<'a>>) -> Result<T, String>,
    ) -> Option<T> {
        let span = value.span();
        let refused = convert(value).map_err(|reason| self.source.bad_value(&span, name, &reason, accepted));
        refused.map_err(|error| self.errors.push(error)).ok()
    }
}

/// A string, or a list of strings.
pub(crate) struct Texts {
    pub(crate) texts: Vec<String>,
    pub(crate) is_list: bool,
}

impl SettingValue for Texts {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "TEXTS";

    fn accepted((): &()) -> String {
        "a string or a list of strings".to_owned()
    }

    fn from_list(texts: Vec<String>) -> Result<Self, ValueError> {
        Ok(Self { texts, is_list: true })
    }
}

impl FromStr for Texts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self { texts: vec![text.to_owned()], is_list: false })
    }
}
