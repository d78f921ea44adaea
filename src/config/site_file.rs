//! A file of the site, named in the configuration.

use super::setting::{ValueError, check_path, text_value};
use crate::http::target::SitePath;

text_value! {
    /// Path of a file within the site, with a leading slash and not percent-encoded.
    SiteFile, as_str: str, "PATH", "the path of a file within the site, such as /index.html", check_file
}

impl SiteFile {
    /// The path within the site.
    pub fn to_site_path(&self) -> SitePath<'static> {
        SitePath::root().index(&self.0)
    }
}

fn check_file(text: &str) -> Result<(), ValueError> {
    let Some(names) = text.strip_prefix('/') else {
        return Err(ValueError::new("does not start with a slash"));
    };
    check_path(text)?;
    if text.ends_with('/') {
        return Err(ValueError::new("names a directory"));
    }
    if names.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(ValueError::new("contains a name that is empty, . or .."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_site_starts_at_its_root() {
        let file: SiteFile = "/app/index.html".parse().expect("a path");
        assert_eq!(file.to_site_path().as_bytes(), b"app/index.html");
        assert_eq!(SiteFile::unchecked("/index.html").to_site_path().as_bytes(), b"index.html");
        for (text, reason) in [
            ("", "is empty"),
            ("index.html", "does not start with a slash"),
            ("/", "names a directory"),
            ("/a/", "names a directory"),
            ("//a", "contains a name that is empty, . or .."),
            ("/../a", "contains a name that is empty, . or .."),
            ("/a\0", "contains a NUL"),
        ] {
            assert_eq!(text.parse::<SiteFile>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }
}
