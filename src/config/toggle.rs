//! Values with a word for "none" or "derived": `off` and `auto`.

use std::fmt;
use std::str::FromStr;

use super::{SettingValue, TomlForms, ValueError};

/// Declares an enum of a value and a word that can be written in its place.
macro_rules! value_or_word {
    ($(#[$attribute:meta])* $name:ident { $(#[$about:meta])* $variant:ident = $word:ident }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name<T> {
            $(#[$about])*
            $variant,
            /// Given by the operator.
            Given(T),
        }

        impl<T> $name<T> {
            /// The value, if one is given.
            pub fn given(&self) -> Option<&T> {
                match self {
                    Self::$variant => None,
                    Self::Given(value) => Some(value),
                }
            }
        }

        impl<T: FromStr<Err = ValueError>> FromStr for $name<T> {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                if text.eq_ignore_ascii_case($word) { Ok(Self::$variant) } else { text.parse().map(Self::Given) }
            }
        }

        impl<T: fmt::Display> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::$variant => f.write_str($word),
                    Self::Given(value) => value.fmt(f),
                }
            }
        }

        impl<T: SettingValue> SettingValue for $name<T> {
            type Bounds = T::Bounds;
            const FORMS: TomlForms = T::FORMS;
            const METAVAR: &'static str = T::METAVAR;

            fn accepted(bounds: &Self::Bounds) -> String {
                format!("{}, or {}", T::accepted(bounds), $word)
            }

            fn check(&self, bounds: &Self::Bounds) -> Result<(), ValueError> {
                self.given().map_or(Ok(()), |value| value.check(bounds))
            }
        }
    };
}

value_or_word! {
    /// A value that can be turned off.
    Toggle {
        /// There is none.
        Off = OFF
    }
}

value_or_word! {
    /// An amount that can be left to the program: it is derived at start from what the system allows (see [`super::limits`]).
    Auto {
        /// Left to the program.
        Auto = AUTO
    }
}

pub(crate) const OFF: &str = "off";
pub(crate) const AUTO: &str = "auto";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Count;

    #[test]
    fn auto_is_a_word_or_an_amount() {
        assert_eq!("auto".parse(), Ok(Auto::<Count>::Auto));
        assert_eq!("Auto".parse(), Ok(Auto::<Count>::Auto));
        assert_eq!("8".parse(), Ok(Auto::Given(Count::of(8))));
        assert_eq!("".parse::<Auto<Count>>(), Err(ValueError::EMPTY));
        assert_eq!(Auto::<Count>::Auto.to_string(), "auto");
        assert_eq!(Auto::Given(Count::of(8)).to_string(), "8");
    }
}
