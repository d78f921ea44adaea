//! Paths and names of files, on this machine and within the site.

use std::path::Path;

use super::setting::{ValueError, check_path, text_value};
use crate::http::target::SitePath;

text_value! {
    /// The document root. A relative path starts at the working directory, in every layer.
    RootPath, as_path: Path, "DIRECTORY", "the path of a directory", check_path
}

text_value! {
    /// Path of a file, directory or socket of the server. A relative path starts at the working directory, in every layer.
    OwnPath, as_path: Path, "PATH", "a path", check_path
}

text_value! {
    /// A plain file name: at most 255 bytes, no slash, no NUL, neither `.` nor `..`.
    IndexName, as_str: str, "NAME",
    format!("a file name without a slash, at most {NAME_BYTES_MAX} bytes"), check_name
}

fn check_name(text: &str) -> Result<(), ValueError> {
    match text {
        "." | ".." => Err(ValueError::new("names a directory")),
        _ if text.contains(['/', '\0']) => Err(ValueError::new("contains a slash or a NUL")),
        _ if text.len() > NAME_BYTES_MAX => {
            Err(ValueError::new(format!("is longer than {NAME_BYTES_MAX} bytes")))
        }
        _ => Ok(()),
    }
}

/// `NAME_MAX` of common Linux file systems.
const NAME_BYTES_MAX: usize = 255;

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
    fn an_index_is_a_plain_file_name() {
        assert_eq!("main.htm".parse::<IndexName>().expect("a name").as_str(), "main.htm");
        let long = "x".repeat(256);
        for (text, reason) in [
            ("", "is empty"),
            (".", "names a directory"),
            ("..", "names a directory"),
            ("a/b", "contains a slash or a NUL"),
            ("a\0b", "contains a slash or a NUL"),
            (&long, "is longer than 255 bytes"),
        ] {
            assert_eq!(text.parse::<IndexName>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }

    #[test]
    fn a_root_is_any_path_but_the_empty_one() {
        assert_eq!("a b".parse(), Ok(RootPath::unchecked("a b")));
        assert_eq!("".parse::<RootPath>(), Err(ValueError::EMPTY));
        assert_eq!("a\0".parse::<RootPath>(), Err(ValueError::new("contains a NUL")));
    }

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
