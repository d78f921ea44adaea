//! Which checksums responses carry without being asked.

use std::fmt;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};
use crate::config::toggle::OFF;

/// The algorithms of the digests that responses carry (RFC 9530); none of them: off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DigestChoice {
    /// `sha-256`, which `true` stands for.
    pub sha256: bool,
    /// `sha-512`
    pub sha512: bool,
}

impl FromStr for DigestChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => return Err(ValueError::EMPTY),
            "false" | OFF => return Ok(Self::default()),
            "true" | "on" => return Ok(Self { sha256: true, sha512: false }),
            _ => {}
        }
        let mut choice = Self::default();
        for name in text.split(',') {
            let chosen = match name.trim() {
                "sha-256" => &mut choice.sha256,
                "sha-512" => &mut choice.sha512,
                other => {
                    return Err(ValueError::new(format!(
                        "has the unknown algorithm `{}`",
                        other.escape_debug()
                    )));
                }
            };
            if std::mem::replace(chosen, true) {
                return Err(ValueError::new(format!("has {} in it twice", name.trim())));
            }
        }
        Ok(choice)
    }
}

impl fmt::Display for DigestChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.sha256, self.sha512) {
            (false, false) => OFF,
            (true, false) => "sha-256",
            (false, true) => "sha-512",
            (true, true) => "sha-256,sha-512",
        })
    }
}

impl SettingValue for DigestChoice {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms { boolean: true, ..TomlForms::LIST };
    const METAVAR: &'static str = "ALGORITHMS";

    fn accepted((): &()) -> String {
        "true, sha-256, sha-512, a list of them, or off".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(DigestChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_read_and_written() {
        for (text, written) in [
            ("true", "sha-256"),
            ("sha-256", "sha-256"),
            ("sha-512", "sha-512"),
            ("sha-512, sha-256", "sha-256,sha-512"),
            ("false", "off"),
            ("off", "off"),
        ] {
            assert_eq!(text.parse::<DigestChoice>().expect(text).to_string(), written);
        }
        for (text, reason) in [
            ("", "is empty"),
            ("md5", "has the unknown algorithm `md5`"),
            ("sha-256,sha-256", "has sha-256 in it twice"),
            ("sha-256,", "has the unknown algorithm ``"),
        ] {
            assert_eq!(text.parse::<DigestChoice>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
