//! Plain counts.

use std::fmt;
use std::str::FromStr;

use super::setting::{ValueError, amount_value};

/// A number of things, in decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(u64);

impl Count {
    /// A count of `count`.
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
}
