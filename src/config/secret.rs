//! Secret values.

use std::fmt;
use std::str::FromStr;

use super::setting::{TomlForms, ValueError, setting_value};

/// A shared secret: 16 to 256 visible ASCII characters. Shown as `(hidden)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for a comparison with the one that was presented.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.len() {
            0 => Err(ValueError::EMPTY),
            1..LENGTH_MIN => Err(ValueError::new(format!("is shorter than {LENGTH_MIN} characters"))),
            LENGTH_MIN..=LENGTH_MAX if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self(text.to_owned()))
            }
            LENGTH_MIN..=LENGTH_MAX => {
                Err(ValueError::new("contains something other than visible ASCII characters"))
            }
            _ => Err(ValueError::new(format!("is longer than {LENGTH_MAX} characters"))),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

setting_value!(
    Secret: SECRET, TomlForms::TEXT, format!("{LENGTH_MIN} to {LENGTH_MAX} visible ASCII characters")
);

/// Shown in place of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// The placeholder of a secret in `--help`, which marks its setting.
pub(crate) const SECRET: &str = "SECRET";

const LENGTH_MIN: usize = 16;

const LENGTH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_never_written() {
        let secret: Secret = "correct-horse-battery".parse().unwrap();
        assert_eq!(secret.reveal(), "correct-horse-battery");
        assert_eq!(format!("{secret} {secret:?}"), "(hidden) (hidden)");
    }

    #[test]
    fn what_is_too_short_too_long_or_invisible_is_no_secret() {
        let long = "x".repeat(257);
        for (text, reason) in [
            ("", "is empty"),
            ("short", "is shorter than 16 characters"),
            (&long, "is longer than 256 characters"),
            ("sixteen letters and a space", "contains something other than visible ASCII characters"),
        ] {
            assert_eq!(text.parse::<Secret>().map_err(|refusal| refusal.to_string()), Err(reason.to_owned()));
        }
    }
}
