//! Target of the access log.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::setting::{TomlForms, ValueError, setting_value};

/// Target of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// To standard error, among the diagnostics.
    Stderr,
    /// To the end of a file. A relative path starts at the working directory.
    File(PathBuf),
}

impl FromStr for LogTarget {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => Err(ValueError::EMPTY),
            _ if text.eq_ignore_ascii_case("off") => Ok(Self::Off),
            _ if text.eq_ignore_ascii_case("stderr") => Ok(Self::Stderr),
            _ if text.contains('\0') => Err(ValueError::new("contains a NUL")),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

setting_value!(LogTarget: "PATH", TomlForms::TEXT, "off, stderr or the path of a file");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_paths_are_reported_apart() {
        for (text, expected) in [
            ("off", LogTarget::Off),
            ("STDERR", LogTarget::Stderr),
            ("./off", LogTarget::File("./off".into())),
            ("/var/log/a.log", LogTarget::File("/var/log/a.log".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert!("".parse::<LogTarget>().is_err());
    }
}
