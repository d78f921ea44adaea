//! Several files of our own.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};

/// Paths in the order given, at least one: a comma list, in the file also a list of strings. Relative ones start at the
/// working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathList(Vec<PathBuf>);

impl PathList {
    /// The paths; never empty.
    pub fn as_slice(&self) -> &[PathBuf] {
        &self.0
    }
}

impl FromStr for PathList {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if text.contains('\0') {
            return Err(ValueError::new("has a NUL in it"));
        }
        let parts: Vec<_> = text.split(',').map(str::trim).collect();
        if parts.contains(&"") {
            return Err(ValueError::new("has an empty place in its list"));
        }
        Ok(Self(parts.into_iter().map(PathBuf::from).collect()))
    }
}

impl fmt::Display for PathList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, path) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            path.display().fmt(f)?;
        }
        Ok(())
    }
}

impl SettingValue for PathList {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::LIST;
    const METAVAR: &'static str = "PATHS";

    fn accepted((): &()) -> String {
        "a comma list of paths".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(PathList);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_paths_are_read_and_written() {
        for (text, written) in [("/a.pem", "/a.pem"), ("a.pem, /b c.pem", "a.pem,/b c.pem")] {
            assert_eq!(text.parse::<PathList>().unwrap().to_string(), written);
        }
        for text in ["", "a,,b", ",", "a\0"] {
            assert!(text.parse::<PathList>().is_err(), "{text:?}");
        }
    }
}
