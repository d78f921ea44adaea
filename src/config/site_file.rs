//! A file of the site, named in a configuration.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::setting::{SettingValue, TomlForms, ValueError, deserialize_by_text};
use crate::http::target::SitePath;

/// The path of a file within the site, written with a leading slash and not percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFile(Arc<str>);

impl SiteFile {
    /// The usual page of a single-page application, `/index.html`.
    pub(crate) fn usual() -> Self {
        Self("/index.html".into())
    }

    /// The path with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path within the site.
    pub fn to_site_path(&self) -> SitePath<'static> {
        SitePath::root().index(&self.0)
    }
}

impl FromStr for SiteFile {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        let Some(names) = text.strip_prefix('/') else {
            return Err(ValueError::new("does not start with a slash"));
        };
        if text.contains('\0') {
            return Err(ValueError::new("has a NUL in it"));
        }
        if text.ends_with('/') {
            return Err(ValueError::new("names a directory"));
        }
        if names.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(ValueError::new("has a name in it that is empty, . or .."));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SiteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SettingValue for SiteFile {
    type Bounds = ();
    const FORMS: TomlForms = TomlForms::TEXT;
    const METAVAR: &'static str = "PATH";

    fn accepted((): &()) -> String {
        "the path of a file within the site, such as /index.html".to_owned()
    }

    fn check(&self, (): &()) -> Result<(), ValueError> {
        Ok(())
    }
}

deserialize_by_text!(SiteFile);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_site_starts_at_its_root() {
        let file: SiteFile = "/app/index.html".parse().expect("a path");
        assert_eq!(file.to_site_path().as_bytes(), b"app/index.html");
        assert_eq!(SiteFile::usual().to_site_path().as_bytes(), b"index.html");
        for (text, reason) in [
            ("", "is empty"),
            ("index.html", "does not start with a slash"),
            ("/", "names a directory"),
            ("/a/", "names a directory"),
            ("//a", "has a name in it that is empty, . or .."),
            ("/../a", "has a name in it that is empty, . or .."),
            ("/a\0", "has a NUL in it"),
        ] {
            assert_eq!(text.parse::<SiteFile>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }
}
