//! Plain counts, and amounts that may be left to the program.

use std::fmt;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, amount_value};

/// A number of things, in decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u64);

impl Count {
    /// So many.
    pub const fn of(count: u64) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as a length in memory, saturating where `usize` is narrower.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Count {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ValueError::new("is not a whole number in decimal digits"));
        }
        text.parse().map(Self).map_err(|_| ValueError::new("is too large"))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

amount_value!(Count: "COUNT", "a count", Self, |count| count);

/// An amount that is given, or `auto`: settled at start from what the system allows (see [`super::limits`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    /// Left to the program.
    Auto,
    /// Given by the operator.
    Given(T),
}

impl<T> Auto<T> {
    /// The amount given, if one was.
    pub fn given(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Given(amount) => Some(amount),
        }
    }
}

impl<T: FromStr<Err = ValueError>> FromStr for Auto<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.eq_ignore_ascii_case(AUTO) { Ok(Self::Auto) } else { text.parse().map(Self::Given) }
    }
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Given(amount) => amount.fmt(f),
        }
    }
}

impl<T: SettingValue> SettingValue for Auto<T> {
    type Bounds = T::Bounds;
    const FORMS: TomlForms = T::FORMS;
    const METAVAR: &'static str = T::METAVAR;

    fn accepted(bounds: &Self::Bounds) -> String {
        format!("{}, or {AUTO}", T::accepted(bounds))
    }

    fn check(&self, bounds: &Self::Bounds) -> Result<(), ValueError> {
        match self {
            Self::Auto => Ok(()),
            Self::Given(amount) => amount.check(bounds),
        }
    }
}

/// The word for an amount that is left to the program.
pub(crate) const AUTO: &str = "auto";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_decimal_digits_and_nothing_else() {
        assert_eq!("0".parse(), Ok(Count(0)));
        assert_eq!("65536".parse(), Ok(Count(65_536)));
        for (text, reason) in [
            ("", "is empty"),
            ("-1", "is not a whole number in decimal digits"),
            ("+1", "is not a whole number in decimal digits"),
            ("1e3", "is not a whole number in decimal digits"),
            ("many", "is not a whole number in decimal digits"),
            ("99999999999999999999", "is too large"),
        ] {
            assert_eq!(text.parse::<Count>(), Err(ValueError::new(reason)), "{text}");
        }
    }

    #[test]
    fn auto_is_a_word_or_an_amount() {
        assert_eq!("auto".parse(), Ok(Auto::<Count>::Auto));
        assert_eq!("Auto".parse(), Ok(Auto::<Count>::Auto));
        assert_eq!("8".parse(), Ok(Auto::Given(Count(8))));
        assert_eq!("".parse::<Auto<Count>>(), Err(ValueError::EMPTY));
        assert_eq!(Auto::<Count>::Auto.to_string(), "auto");
        assert_eq!(Auto::Given(Count(8)).to_string(), "8");
    }
}
