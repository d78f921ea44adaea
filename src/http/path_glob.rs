//! Globs over the paths of a site.

use std::fmt::{self, Display};
use std::sync::Arc;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// One or more globs over site paths, which match a path if one of them does.
///
/// `*` and `?` (one byte) match within a name, `**` any number of names, `{a,b}` one of several texts, `[a-z]` and `[!a-z]`
/// one ASCII byte. A glob that contains a slash starts at the root of the site, whether or not it begins with one; any other
/// glob matches the last name of a path. A glob that ends in `/**` also matches the directory before it.
/// Matching is case-sensitive, and names need not be UTF-8.
#[derive(Clone, Debug)]
pub struct PathGlobs {
    texts: Arc<[String]>,
    set: Arc<GlobSet>,
}

impl PathGlobs {
    /// Compiles at least one glob. The error continues "the value …".
    pub fn new(texts: Vec<String>) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("is empty".to_owned());
        }
        let mut set = GlobSetBuilder::new();
        for text in &texts {
            for anchored in anchored(text)? {
                let glob = GlobBuilder::new(&anchored)
                    .literal_separator(true)
                    .backslash_escape(true)
                    .empty_alternates(true)
                    .build()
                    .map_err(|error| named(text, format!("is no glob: {}", error.kind())))?;
                set.add(glob);
            }
        }
        let set = set.build().map_err(|error| format!("is no glob: {}", error.kind()))?;
        Ok(Self { texts: texts.into(), set: Arc::new(set) })
    }

    /// Whether a path matches: relative to the root, decoded, without a slash at either end; empty for the root itself.
    pub fn matches(&self, path: &[u8]) -> bool {
        let absolute = [b"/", path].concat();
        self.set.is_match_candidate(&Candidate::from_bytes(&absolute))
    }

    /// The globs as they were written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl PartialEq for PathGlobs {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for PathGlobs {}

/// With commas between them.
impl Display for PathGlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts.join(", "))
    }
}

/// The globs over absolute paths that together mean the same as `text`.
fn anchored(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text != "/" && text.ends_with('/') {
        return Err(named(text, format!("ends with a slash: {text}** is all that is in a directory")));
    }
    let names = text.strip_prefix('/').unwrap_or(text);
    if text != "/" && names.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(named(text, "has a name in it that is empty, . or .., which no path has"));
    }
    if text.contains("{/") || text.contains(",/") {
        return Err(named(text, "begins an alternative with a slash: write several globs as a list"));
    }
    let closed = with_closed_classes(text)?;
    let relative = closed.strip_prefix('/').unwrap_or(&closed);
    Ok(if relative == "**" {
        vec!["/**".to_owned(), "/".to_owned()]
    } else if !closed.contains('/') {
        vec![format!("**/{closed}")]
    } else if let Some(directory) = relative.strip_suffix("/**") {
        vec![format!("/{relative}"), format!("/{directory}")]
    } else {
        vec![format!("/{relative}")]
    })
}

/// Makes every class match one byte that is not a slash, since globset lets `[!a]` match a slash.
fn with_closed_classes(text: &str) -> Result<String, String> {
    let mut closed = String::with_capacity(text.len() + 1);
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        closed.push(character);
        match character {
            '\\' => closed.extend(rest.next()),
            '[' => {
                let class = rest.as_str();
                let body = class.strip_prefix(['!', '^']).unwrap_or(class);
                let is_negated = body.len() < class.len();
                // A bracket that comes first is a member of the class.
                let end = body.char_indices().skip(1).find(|(_, character)| *character == ']');
                let (end, _) = end.ok_or_else(|| named(text, "has a [ without its ]"))?;
                let (members, after) = body.split_at(end);
                check_class(text, members, is_negated)?;
                closed.push_str(if is_negated { "!/" } else { "" });
                closed.push_str(members);
                rest = after.chars();
            }
            _ => {}
        }
    }
    Ok(closed)
}

fn check_class(text: &str, members: &str, negated: bool) -> Result<(), String> {
    if !members.is_ascii() {
        return Err(named(text, "has a class of characters that are not ASCII: use {a,b}"));
    }
    if negated && members.starts_with([']', '-']) {
        return Err(named(text, "has a ] or - at the start of a class that is negated: put it further back"));
    }
    let spans_slash = members.as_bytes().windows(3).any(|three| match three {
        [first, b'-', last] => (first..=last).contains(&&b'/'),
        _ => false,
    });
    if members.contains('/') || spans_slash {
        return Err(named(text, "has a slash in a class"));
    }
    Ok(())
}

fn named(text: &str, reason: impl Display) -> String {
    format!("has `{}` in it, which {reason}", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Result<PathGlobs, String> {
        PathGlobs::new(texts.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn a_glob_matches_what_it_says() {
        for (glob, yes, no) in [
            ("**", &["", "a", "a/b/c", "a\nb"][..], &[][..]),
            ("/**", &["", "a", "a/b/c"], &[]),
            ("/", &[""], &["a"]),
            ("*.html", &["a.html", "b/c/a.html", ".html"], &["a.htm", "a.html/b", "a.HTML"]),
            ("/*.html", &["a.html"], &["b/a.html"]),
            (
                "/assets/**",
                &["assets", "assets/a", "assets/a/b", "assets/a\nb"],
                &["assetsx", "b/assets/a", ""],
            ),
            ("assets/**", &["assets", "assets/a"], &["b/assets/a"]),
            ("/assets/*", &["assets/a"], &["assets", "assets/a/b"]),
            ("/a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["a/zz", "z"]),
            ("**/cache/**", &["cache", "cache/a", "x/cache", "x/y/cache/a"], &["caches"]),
            ("*.{js,css}", &["a.js", "x/a.css"], &["a.json"]),
            ("*.tar{,.gz}", &["a.tar", "a.tar.gz"], &["a.tar.xz"]),
            ("/{a,b}/x", &["a/x", "b/x"], &["c/x"]),
            ("{a,b}/x", &["a/x", "b/x"], &["c/x", "x"]),
            ("file?", &["file1", "a/filex"], &["file", "file12"]),
            ("a[0-9]", &["a1"], &["ax", "a"]),
            ("/a[!x]b", &["ayb"], &["axb", "a/b"]),
            ("/a[^x]b", &["ayb"], &["axb", "a/b"]),
            ("/a?b", &["axb"], &["a/b"]),
            ("\\[a\\]", &["[a]"], &["a"]),
            ("\\*", &["*"], &["a"]),
            ("caf\u{e9}", &["caf\u{e9}"], &["cafe"]),
        ] {
            let compiled = globs(&[glob]).expect(glob);
            for path in yes {
                assert!(compiled.matches(path.as_bytes()), "{glob} should match {path:?}");
            }
            for path in no {
                assert!(!compiled.matches(path.as_bytes()), "{glob} should not match {path:?}");
            }
        }
    }

    #[test]
    fn names_need_not_be_utf_8() {
        assert!(globs(&["*.bin"]).expect("a glob").matches(b"\xff\xfe.bin"));
        assert!(globs(&["/a/**"]).expect("a glob").matches(b"a/\x80"));
        assert!(globs(&["a?"]).expect("a glob").matches(b"a\xff"));
    }

    #[test]
    fn one_of_several_globs_is_enough() {
        let two = globs(&["*.js", "/a/**"]).expect("globs");
        assert!(two.matches(b"x.js") && two.matches(b"a/x") && !two.matches(b"x"));
        assert_eq!(two.to_string(), "*.js, /a/**");
    }

    #[test]
    fn what_is_no_glob_is_refused_with_its_reason() {
        for (glob, reason) in [
            ("", "is empty"),
            ("/a/", "has `/a/` in it, which ends with a slash"),
            ("[a", "has `[a` in it, which has a [ without its ]"),
            ("[]", "has `[]` in it, which has a [ without its ]"),
            ("{a,b", "has `{a,b` in it, which is no glob: "),
            ("a}", "has `a}` in it, which is no glob: "),
            ("a//b", "has `a//b` in it, which has a name in it that is empty"),
            ("/../a", "has `/../a` in it, which has a name in it that is empty, . or .."),
            ("./a", "has `./a` in it, which has a name in it that is empty, . or .."),
            ("{/a,/b}", "has `{/a,/b}` in it, which begins an alternative with a slash"),
            ("[a/b]", "has `[a/b]` in it, which has a slash in a class"),
            ("[+-9]", "has `[+-9]` in it, which has a slash in a class"),
            ("[!-a]", "has `[!-a]` in it, which has a ] or - at the start"),
            ("[\u{e9}]", "has `[\u{e9}]` in it, which has a class of characters"),
            ("[z-a]", "has `[z-a]` in it, which is no glob: "),
        ] {
            let refusal = globs(&[glob]).expect_err(glob);
            assert!(refusal.starts_with(reason), "{glob}: {refusal}");
        }
        assert_eq!(globs(&[]).err(), Some("is empty".to_owned()));
    }
}
