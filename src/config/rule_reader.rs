//! Deserializes tables of the configuration file so that one wrong value does not hide the next.

use std::ops::Range;

use serde::de::value::Error as FieldsError;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, ValueDeserializer};

use super::error::{ConfigError, name_at};
use super::file::TomlSource;
use super::nearest::nearest_of;
use super::origin::ValueOrigin;
use super::setting::{SettingValue, TomlForms, ValueError, deserialize, reason_of};
use crate::config::settings_table::Setting;
use crate::config::toggle::{OFF, Toggle};

/// The key of rules.
pub(crate) const RULE: &str = "rule";

/// Key of a table: a value or the reason why it is not accepted, with its place in the file. `None` if it is not there.
pub(crate) type Key<T> = Option<Spanned<Checked<T>>>;

/// A value, or the reason why it is not accepted.
pub(crate) struct Checked<T>(pub(crate) Result<T, String>);

impl<'de, T: SettingValue> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserialize(deserializer).map_err(|error| reason_of(&error.to_string()))))
    }
}

/// Reads tables and collects the errors.
pub(crate) struct RuleReader<'s, 'a> {
    pub(crate) source: &'s TomlSource<'a>,
    pub(crate) errors: &'s mut Vec<ConfigError>,
}

impl<'a> RuleReader<'_, 'a> {
    /// Deserializes a table, whose fields are all [`Key`]s. Unknown keys are reported and left out.
    pub(crate) fn read_keys<T: DeserializeOwned>(&mut self, name: &str, table: DeTable<'a>) -> Option<T> {
        let known = field_names::<T>();
        let mut entries = DeTable::new();
        for entry in self.source.entries(table) {
            if known.contains(&entry.key.as_str()) {
                entries.insert(Spanned::new(0..0, DeString::Owned(entry.key)), entry.value);
            } else if name == RULE && Setting::by_key(&entry.key).is_some() {
                let hint =
                    "is a setting of the whole server and no key of a rule: put it above the first [[rule]]";
                self.report(entry.line, format!("{} {hint}", entry.key));
            } else {
                let nearest = nearest_of(&entry.key, known.iter().copied()).to_owned();
                let name = name_at(&self.origin(entry.line), &format!("{name}.{}", entry.key));
                self.errors.push(ConfigError::Unknown { name, nearest });
            }
        }
        match T::deserialize(ValueDeserializer::from(Spanned::new(0..0, DeValue::Table(entries)))) {
            Ok(keys) => Some(keys),
            // A rule that is left out without an error would open what it closes.
            Err(error) => {
                let path = self.source.path.to_path_buf();
                self.errors.push(ConfigError::File { path, line: None, reason: format!("{name}: {error}") });
                None
            }
        }
    }

    /// The value of a key if it is there and within its bounds; otherwise reports it.
    pub(crate) fn take<T: SettingValue>(&mut self, name: &str, key: Key<T>, bounds: &T::Bounds) -> Option<T> {
        self.convert(name, key, &T::accepted(bounds), |value| {
            value.check(bounds).map(|()| value).map_err(|error| error.to_string())
        })
    }

    /// The value of a key as another type. The error of `convert` continues "the value …".
    pub(crate) fn convert<T, U>(
        &mut self,
        name: &str,
        key: Key<T>,
        accepted: &str,
        convert: impl FnOnce(T) -> Result<U, String>,
    ) -> Option<U> {
        let key = key?;
        let span = key.span();
        match key.into_inner().0.and_then(convert) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.refuse(&span, name, &reason, accepted);
                None
            }
        }
    }

    /// Reports a value that is not accepted.
    pub(crate) fn refuse(&mut self, span: &Range<usize>, name: &str, reason: &str, accepted: &str) {
        let name = name_at(&self.origin(self.source.line_of(span)), name);
        let written = self.source.written(span);
        self.errors.push(ConfigError::bad_value_at(name, written, reason, accepted.to_owned()));
    }

    pub(crate) fn report(&mut self, line: usize, reason: String) {
        let path = self.source.path.to_path_buf();
        self.errors.push(ConfigError::File { path, line: Some(line), reason });
    }

    pub(crate) fn origin(&self, line: usize) -> ValueOrigin {
        ValueOrigin::File { path: self.source.path.to_path_buf(), line }
    }
}

/// Names of the fields of a struct, as it deserializes them.
fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    let _ = T::deserialize(FieldNames(&mut fields));
    fields
}

struct FieldNames<'f>(&'f mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = FieldsError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldsError> {
        Err(FieldsError::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, FieldsError> {
        *self.0 = fields;
        Err(FieldsError::custom("only the names are wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A string, or a list of strings.
#[derive(Clone, PartialEq)]
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

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }

    fn from_list(texts: Vec<String>) -> Result<Self, ValueError> {
        Ok(Self { texts, is_list: true })
    }
}

impl std::str::FromStr for Texts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Ok(Self { texts: vec![text.to_owned()], is_list: false })
    }
}

impl std::fmt::Display for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.texts.join(", "))
    }
}

/// A value, or off: `false`, `"off"` or `""`.
#[derive(Clone, PartialEq)]
pub(crate) struct OrOff<T>(pub(crate) Toggle<T>);

impl<T: SettingValue> SettingValue for OrOff<T> {
    type Bounds = T::Bounds;
    const FORMS: TomlForms = TomlForms { boolean: true, ..T::FORMS };
    const METAVAR: &'static str = T::METAVAR;

    fn accepted(bounds: &Self::Bounds) -> String {
        Toggle::<T>::accepted(bounds)
    }

    fn check(&self, bounds: &Self::Bounds) -> Result<(), ValueError> {
        self.0.check(bounds)
    }

    fn from_bool(switch: bool) -> Result<Self, ValueError> {
        if switch { Err(ValueError::new("is not accepted")) } else { Ok(Self(Toggle::Off)) }
    }

    /// A list never means off.
    fn from_list(texts: Vec<String>) -> Result<Self, ValueError> {
        T::from_list(texts).map(|value| Self(Toggle::Given(value)))
    }
}

impl<T: SettingValue> std::str::FromStr for OrOff<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() { OFF } else { text }.parse().map(Self)
    }
}

impl<T: SettingValue> std::fmt::Display for OrOff<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
