//! Trait of the types of settings, and the macros that implement it.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// Type of the value of a setting. One notation serves environment, flags and file: `FromStr` reads what `Display` writes.
pub trait SettingValue: FromStr<Err = ValueError> {
    /// Bounds of a value: a range for amounts, `()` if the type has none.
    type Bounds;

    /// TOML types that are accepted besides a string.
    const FORMS: TomlForms;

    /// Placeholder of the value in `--help`.
    const METAVAR: &'static str;

    /// Describes the accepted values, including bounds, as a noun phrase.
    fn accepted(bounds: &Self::Bounds) -> String;

    /// Refuses a value that is out of bounds.
    fn check(&self, _bounds: &Self::Bounds) -> Result<(), ValueError> {
        Ok(())
    }

    /// The value of a TOML boolean, if [`FORMS`](Self::FORMS) includes it.
    fn from_bool(switch: bool) -> Result<Self, ValueError> {
        switch.to_string().parse()
    }

    /// The value of a TOML list of strings, if [`FORMS`](Self::FORMS) includes it.
    fn from_list(texts: Vec<String>) -> Result<Self, ValueError> {
        texts.join(",").parse()
    }
}

/// Reason why a text is not accepted: a phrase that continues "the value …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(Cow<'static, str>);

impl ValueError {
    /// An error with this reason, such as `is empty`.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// The error for an empty text, the same for every type.
    pub(crate) const EMPTY: Self = Self(Cow::Borrowed("is empty"));
}

impl Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// The TOML types that a [`SettingValue`] accepts besides a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TomlForms {
    /// `key = 4`
    pub integer: bool,
    /// `key = true`
    pub boolean: bool,
    /// `key = ["a", "b"]`
    pub list: bool,
}

impl TomlForms {
    /// Strings only.
    pub const TEXT: Self = Self { integer: false, boolean: false, list: false };
    /// Strings and integers.
    pub const INTEGER: Self = Self { integer: true, ..Self::TEXT };
    /// Strings and lists of strings.
    pub const LIST: Self = Self { list: true, ..Self::TEXT };
}

/// A value of one layer, not parsed yet.
pub(crate) enum RawValue<'a> {
    /// From an environment variable or a flag.
    Text(&'a str),
    /// From the configuration file.
    Toml(Spanned<DeValue<'a>>),
}

impl RawValue<'_> {
    /// Parses and checks the value.
    ///
    /// # Errors
    /// The reason why the value is not accepted.
    pub(crate) fn read<T: SettingValue>(self, bounds: &T::Bounds) -> Result<T, String> {
        self.read_forms(bounds, T::FORMS)
    }

    /// Like [`read`](Self::read), with these `forms` of TOML.
    pub(crate) fn read_forms<T: SettingValue>(
        self,
        bounds: &T::Bounds,
        forms: TomlForms,
    ) -> Result<T, String> {
        let value: T = match self {
            Self::Text(text) => text.parse().map_err(|error: ValueError| error.to_string())?,
            Self::Toml(value) => ValueDeserializer::from(value)
                .deserialize_any(TextVisitor { forms, value: PhantomData })
                .map_err(|error| reason_of(error.message()))?,
        };
        value.check(bounds).map_err(|error| error.to_string())?;
        Ok(value)
    }
}

/// Reasons of settings continue "the value …"; messages of serde are sentences of their own.
pub(crate) fn reason_of(message: &str) -> String {
    let message = message.trim();
    if message.starts_with("invalid") { format!("is not accepted: {message}") } else { message.to_owned() }
}

/// Deserializes a setting: each accepted form becomes the text that `FromStr` reads.
struct TextVisitor<T> {
    forms: TomlForms,
    value: PhantomData<T>,
}

impl<'de, T: SettingValue> Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")?;
        for (accepted, name) in [
            (self.forms.integer, "an integer"),
            (self.forms.boolean, "a boolean"),
            (self.forms.list, "a list"),
        ] {
            if accepted {
                write!(f, " or {name}")?;
            }
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.accept(self.forms.integer, Unexpected::Signed(number))?;
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, switch: bool) -> Result<T, E> {
        self.accept(self.forms.boolean, Unexpected::Bool(switch))?;
        T::from_bool(switch).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        self.accept(self.forms.list, Unexpected::Seq)?;
        let texts = Vec::deserialize(SeqAccessDeserializer::new(items))?;
        T::from_list(texts).map_err(A::Error::custom)
    }
}

impl<T: SettingValue> TextVisitor<T> {
    fn accept<E: Error>(&self, is_accepted: bool, form: Unexpected<'_>) -> Result<(), E> {
        if is_accepted { Ok(()) } else { Err(E::invalid_type(form, self)) }
    }
}

/// Refuses an amount outside of `bounds`.
pub(crate) fn check_range<T: PartialOrd>(value: &T, bounds: &RangeInclusive<T>) -> Result<(), ValueError> {
    if value < bounds.start() {
        return Err(ValueError::new("is too small"));
    }
    if value > bounds.end() {
        return Err(ValueError::new("is too large"));
    }
    Ok(())
}

/// Implements [`SettingValue`] for a type without bounds: metavar, TOML forms, description of the accepted values.
macro_rules! setting_value {
    ($type:ty: $metavar:expr, $forms:expr, $accepted:expr) => {
        impl $crate::config::setting::SettingValue for $type {
            type Bounds = ();
            const FORMS: $crate::config::setting::TomlForms = $forms;
            const METAVAR: &'static str = $metavar;

            fn accepted((): &()) -> String {
                String::from($accepted)
            }
        }
    };
}
pub(crate) use setting_value;

/// Implements [`SettingValue`] for an amount within a range: metavar, noun, and the part of it that is compared.
macro_rules! amount_value {
    ($type:ty: $metavar:literal, $noun:literal, $bound:ty, $part:expr) => {
        impl $crate::config::setting::SettingValue for $type {
            type Bounds = std::ops::RangeInclusive<$bound>;
            const FORMS: $crate::config::setting::TomlForms = $crate::config::setting::TomlForms::INTEGER;
            const METAVAR: &'static str = $metavar;

            fn accepted(bounds: &Self::Bounds) -> String {
                format!("{} from {} to {}", $noun, bounds.start(), bounds.end())
            }

            fn check(&self, bounds: &Self::Bounds) -> Result<(), $crate::config::setting::ValueError> {
                let part: fn(&Self) -> &$bound = $part;
                $crate::config::setting::check_range(part(self), bounds)
            }
        }
    };
}
pub(crate) use amount_value;

/// Declares a setting that is a text which `check` accepts: name, accessor, metavar, accepted values, check.
macro_rules! text_value {
    (
        $(#[$attribute:meta])*
        $name:ident, $accessor:ident: $target:ty, $metavar:expr, $accepted:expr, $check:expr
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The value as it was given.
            pub fn $accessor(&self) -> &$target {
                (*self.0).as_ref()
            }

            /// The value `text`, unchecked.
            pub fn unchecked(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::config::setting::ValueError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text.is_empty() {
                    return Err($crate::config::setting::ValueError::EMPTY);
                }
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        $crate::config::setting::setting_value!(
            $name: $metavar, $crate::config::setting::TomlForms::TEXT, $accepted
        );
    };
}
pub(crate) use text_value;

/// Refuses a text with a NUL, which no path contains.
pub(crate) fn check_path(text: &str) -> Result<(), ValueError> {
    if text.contains('\0') { Err(ValueError::new("contains a NUL")) } else { Ok(()) }
}
