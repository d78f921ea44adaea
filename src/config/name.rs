//! Names of files: the root, the index, and where things of our own lie.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};

/// A directory to serve. A relative one starts at the working directory, whichever layer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPath(PathBuf);

impl RootPath {
    /// The directory at `path`, unchecked.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for RootPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if text.contains('\0') {
            return Err(ValueError::new("has a NUL in it"));
        }
        Ok(Self::new(text))
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl SettingValue for RootPath {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::TEXT;
    const METAVAR: &'static str = "DIRECTORY";

    fn accepted((): &()) -> String {
        "the path of a directory".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

/// Where something of our own lies. A relative path starts at the working directory, whichever layer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPath(PathBuf);

impl OwnPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for OwnPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let RootPath(path) = text.parse()?;
        Ok(Self(path))
    }
}

impl fmt::Display for OwnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl SettingValue for OwnPath {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::TEXT;
    const METAVAR: &'static str = "PATH";

    fn accepted((): &()) -> String {
        "a path".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

/// A plain file name: at most 255 bytes, no slash, no NUL, neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexName(String);

impl IndexName {
    /// The usual name, `index.html`.
    pub fn usual() -> Self {
        Self("index.html".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IndexName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => Err(ValueError::EMPTY),
            "." | ".." => Err(ValueError::new("names a directory")),
            _ if text.contains(['/', '\0']) => Err(ValueError::new("has a slash or a NUL in it")),
            _ if text.len() > NAME_BYTES_MAX => {
                Err(ValueError::new(format!("is longer than {NAME_BYTES_MAX} bytes")))
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SettingValue for IndexName {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::TEXT;
    const METAVAR: &'static str = "NAME";

    fn accepted((): &()) -> String {
        format!("a file name without a slash, at most {NAME_BYTES_MAX} bytes")
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(RootPath, OwnPath, IndexName);

/// `NAME_MAX`, the same on every Linux file system of note.
const NAME_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_a_plain_file_name() {
        assert_eq!("main.htm".parse::<IndexName>().expect("a name").as_str(), "main.htm");
        let long = "x".repeat(256);
        for (text, reason) in [
            ("", "is empty"),
            (".", "names a directory"),
            ("..", "names a directory"),
            ("a/b", "has a slash or a NUL in it"),
            ("a\0b", "has a slash or a NUL in it"),
            (&long, "is longer than 255 bytes"),
        ] {
            assert_eq!(text.parse::<IndexName>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }

    #[test]
    fn a_root_is_any_path_but_the_empty_one() {
        assert_eq!("a b".parse(), Ok(RootPath::new("a b")));
        assert_eq!("".parse::<RootPath>(), Err(ValueError::EMPTY));
        assert_eq!("a\0".parse::<RootPath>(), Err(ValueError::new("has a NUL in it")));
    }
}
