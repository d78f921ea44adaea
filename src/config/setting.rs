//! What a type must offer to be the value of a knob, whichever layer it comes from.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::value::{Error as TextError, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// The value of a knob. One notation serves variables, flags and the file: what `FromStr` reads, `Display` writes.
pub trait SettingValue: Clone + PartialEq + Display + FromStr<Err = ValueError> + DeserializeOwned {
    /// What limits a value: a range for amounts, `()` where the type says it all.
    type Bounds;

    /// The TOML types that are accepted beside a string.
    const FORMS: TomlForms;

    /// The word that stands for a value in `--help`.
    const METAVAR: &'static str;

    /// Says what is accepted, bounds included, as a noun phrase.
    fn accepted(bounds: &Self::Bounds) -> String;

    /// Refuses a value outside of its bounds.
    fn check(&self, bounds: &Self::Bounds) -> Result<(), ValueError>;
}

/// Why a text is not a value: a phrase that continues "the value …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(Cow<'static, str>);

impl ValueError {
    /// A refusal for the reason given, as in `is empty`.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }

    /// The refusal of an empty text, the same for every type.
    pub(crate) const EMPTY: Self = Self(Cow::Borrowed("is empty"));
}

impl Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// The TOML types that a [`SettingValue`] accepts beside a string.
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
    /// Strings and booleans.
    pub const BOOLEAN: Self = Self { boolean: true, ..Self::TEXT };
    /// Strings and lists of strings.
    pub const LIST: Self = Self { list: true, ..Self::TEXT };
}

/// A value as a layer holds it, not yet read.
pub(crate) enum RawValue<'a> {
    /// From a variable or a flag.
    Text(&'a str),
    /// From the file.
    Toml(Spanned<DeValue<'a>>),
}

impl RawValue<'_> {
    /// Reads and checks the value; otherwise the reason why not.
    pub(crate) fn read<T: SettingValue>(self, bounds: &T::Bounds) -> Result<T, String> {
        let value = match self {
            Self::Text(text) => {
                let deserializer: StrDeserializer<'_, TextError> = text.into_deserializer();
                T::deserialize(deserializer).map_err(|error| error.to_string())?
            }
            Self::Toml(value) => {
                T::deserialize(ValueDeserializer::from(value)).map_err(|error| reason_of(error.message()))?
            }
        };
        value.check(bounds).map_err(|refusal| refusal.to_string())?;
        Ok(value)
    }
}

/// Our reasons continue "the value …"; those of serde begin anew.
fn reason_of(message: &str) -> String {
    let message = message.trim();
    if message.starts_with("invalid") { format!("is not accepted: {message}") } else { message.to_owned() }
}

/// `Deserialize` for every setting: each accepted form is turned into the text that `FromStr` reads.
pub(crate) fn deserialize<'de, T: SettingValue, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(TextVisitor(PhantomData))
}

struct TextVisitor<T>(PhantomData<T>);

impl<'de, T: SettingValue> Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")?;
        for (accepted, name) in
            [(T::FORMS.integer, "an integer"), (T::FORMS.boolean, "a boolean"), (T::FORMS.list, "a list")]
        {
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
        if !T::FORMS.integer {
            return Err(E::invalid_type(serde::de::Unexpected::Signed(number), &self));
        }
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, switch: bool) -> Result<T, E> {
        if !T::FORMS.boolean {
            return Err(E::invalid_type(serde::de::Unexpected::Bool(switch), &self));
        }
        switch.to_string().parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        if !T::FORMS.list {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = items.next_element()? {
            texts.push(text);
        }
        texts.join(",").parse().map_err(A::Error::custom)
    }
}

/// Refuses an amount outside of `bounds`, saying on which side.
pub(crate) fn check_range<T: PartialOrd>(value: &T, bounds: &RangeInclusive<T>) -> Result<(), ValueError> {
    if value < bounds.start() {
        return Err(ValueError::new("is too small"));
    }
    if value > bounds.end() {
        return Err(ValueError::new("is too large"));
    }
    Ok(())
}

/// Implements `Deserialize` of settings by their text.
macro_rules! deserialize_by_text {
    ($($type:ty),+) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::setting::deserialize(deserializer)
            }
        }
    )+};
}
pub(crate) use deserialize_by_text;
