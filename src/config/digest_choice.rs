//! Checksums that responses carry whether or not the client wants them.

use std::fmt;
use std::str::FromStr;

use super::comma_list::{read_flags, write_flags};
use super::setting::{TomlForms, ValueError, setting_value};
use crate::config::toggle::OFF;

/// Algorithms of the digests in responses (RFC 9530); neither: off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DigestChoice {
    /// `sha-256`, also written `true`.
    pub sha256: bool,
    /// `sha-512`
    pub sha512: bool,
}

impl FromStr for DigestChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut choice = Self::default();
        match text {
            "false" | OFF => {}
            "true" | "on" => choice.sha256 = true,
            _ => read_flags(text, [("sha-256", &mut choice.sha256), ("sha-512", &mut choice.sha512)])?,
        }
        Ok(choice)
    }
}

impl fmt::Display for DigestChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { sha256: false, sha512: false } => f.write_str(OFF),
            _ => write_flags(f, &[("sha-256", self.sha256), ("sha-512", self.sha512)]),
        }
    }
}

setting_value!(
    DigestChoice: "ALGORITHMS", TomlForms { boolean: true, ..TomlForms::LIST },
    "true, sha-256, sha-512, a list of them, or off"
);

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
            ("md5", "contains the unknown word `md5`"),
            ("sha-256,sha-256", "contains sha-256 twice"),
            ("sha-256,", "contains the unknown word ``"),
        ] {
            assert_eq!(text.parse::<DigestChoice>(), Err(ValueError::new(reason)), "{text}");
        }
    }
}
