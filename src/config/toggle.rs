//! Values that may be turned off.

use std::fmt;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError};

/// Something that is given, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toggle<T> {
    /// There is none.
    Off,
    /// Given by the operator.
    Given(T),
}

impl<T> Toggle<T> {
    /// What was given, if it is not off.
    pub fn given(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::Given(value) => Some(value),
        }
    }
}

impl<T: FromStr<Err = ValueError>> FromStr for Toggle<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.eq_ignore_ascii_case(OFF) { Ok(Self::Off) } else { text.parse().map(Self::Given) }
    }
}

impl<T: fmt::Display> fmt::Display for Toggle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str(OFF),
            Self::Given(value) => value.fmt(f),
        }
    }
}

impl<T: SettingValue> SettingValue for Toggle<T> {
    type Bounds = T::Bounds;
    const FORMS: TomlForms = T::FORMS;
    const METAVAR: &'static str = T::METAVAR;

    fn accepted(bounds: &Self::Bounds) -> String {
        format!("{}, or {OFF}", T::accepted(bounds))
    }

    fn check(&self, bounds: &Self::Bounds) -> Result<(), ValueError> {
        self.given().map_or(Ok(()), |value| value.check(bounds))
    }
}

/// How nothing is written.
pub(crate) const OFF: &str = "off";
