//! The `_redirects` file of a site, in the format of static hosts.
//!
//! Each line is `from to [status]`, separated by blanks; a `#` at the start of a word begins a comment. `from` is a path. Its
//! names may be a `:placeholder`, and the last one may be `*` for zero or more names. `to` is a path of the site or an http(s)
//! URL; in its path, query and fragment `:placeholder` and `:splat` are replaced by what they matched. Slashes at the end of
//! `from` and of requests are ignored.
//!
//! | status                            | effect                                                    |
//! |-----------------------------------|-----------------------------------------------------------|
//! | 301 (the default), 302, 303, 307, 308 | redirects the client to `to`                          |
//! | 200                               | answers with the file at the path `to`                    |
//! | 404                               | the same, with the status 404                             |
//!
//! A status with `!` after it applies even if a file exists; others apply only if none does.

use std::collections::HashMap;
use std::fmt;

pub use super::redirect_line::Redirect;
use super::redirect_line::{RedirectLine, is_no_name, parse_line};

/// The lines of a `_redirects` file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Redirects {
    lines: Vec<RedirectLine>,
    /// Lines without placeholder and splat, by their whole path.
    exact: HashMap<Vec<u8>, Vec<usize>>,
    /// Other lines by the first name of their paths.
    by_first_name: HashMap<Vec<u8>, Vec<usize>>,
    /// Lines that begin with a placeholder or a splat.
    open: Vec<usize>,
    has_forced: bool,
}

/// Name of the file in the root of a site. It is never served.
pub const REDIRECTS_FILE: &str = "_redirects";

/// An invalid line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectLineError {
    /// Counted from 1.
    pub number: usize,
    /// The line, shortened.
    pub text: String,
    /// The reason, continuing "the line …".
    pub reason: String,
}

impl fmt::Display for RedirectLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, reason, .. } = self;
        write!(f, "the line {text:?} {reason}; accepted: {ACCEPTED}")
    }
}

impl std::error::Error for RedirectLineError {}

impl Redirects {
    /// Parses a file: at most 10,000 lines of at most 2,000 bytes each, in UTF-8, with or without a byte order mark and CRLF.
    ///
    /// # Errors
    /// Every invalid line.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<RedirectLineError>> {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        let (mut redirects, mut bad) = (Self::default(), Vec::new());
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            // The text after the last line break is not a line.
            if index >= LINES_MAX && !line.is_empty() {
                bad.push(bad_line(index, line, format!("is one too many: there may be {LINES_MAX}")));
                break;
            }
            match read_line(line.strip_suffix(b"\r").unwrap_or(line)) {
                Ok(Some(line)) => redirects.push(line),
                Ok(None) => {}
                Err(reason) => bad.push(bad_line(index, line, reason)),
            }
        }
        if bad.is_empty() { Ok(redirects) } else { Err(bad) }
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether a line applies even if a file exists.
    pub fn has_forced(&self) -> bool {
        self.has_forced
    }

    /// The answer of the first line that matches `path`.
    ///
    /// `path` is decoded and has a leading slash, and none at its end except for the root. `query` is that of the request; it is
    /// kept if the line has none. `forced_only` selects lines that apply even if a file exists. Lines that would lead back to
    /// `path` or out of the root are skipped.
    pub fn find(&self, path: &[u8], query: Option<&[u8]>, forced_only: bool) -> Option<Redirect> {
        if forced_only && !self.has_forced {
            return None;
        }
        let path = path.strip_prefix(b"/")?;
        let names = || path.split(|&byte| byte == b'/');
        // Not the path of a parsed target.
        if !path.is_empty() && names().any(is_no_name) {
            return None;
        }
        let first_name = names().next().unwrap_or_default();
        let lists = [self.exact.get(path), self.by_first_name.get(first_name), Some(&self.open)];
        in_order(lists.map(|list| list.map_or(&[][..], Vec::as_slice))).find_map(|index| {
            let line = self.lines.get(index).filter(|line| line.forced || !forced_only)?;
            line.answer(path, query)
        })
    }

    fn push(&mut self, line: RedirectLine) {
        let index = self.lines.len();
        if let Some(path) = line.exact_path() {
            self.exact.entry(path).or_default().push(index);
        } else if let Some(name) = line.first_name() {
            self.by_first_name.entry(name.to_vec()).or_default().push(index);
        } else {
            self.open.push(index);
        }
        self.has_forced |= line.forced;
        self.lines.push(line);
    }
}

/// Merges ascending lists.
fn in_order<const N: usize>(mut lists: [&[usize]; N]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let least = lists.iter().filter_map(|list| list.first().copied()).min()?;
        for list in &mut lists {
            *list = list.strip_prefix(&[least]).unwrap_or(list);
        }
        Some(least)
    })
}

fn read_line(line: &[u8]) -> Result<Option<RedirectLine>, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("is longer than {LINE_BYTES_MAX} bytes"));
    }
    let text = str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    if text.chars().any(|character| character.is_control() && character != '\t') {
        return Err("contains a control character".to_owned());
    }
    parse_line(text)
}

fn bad_line(index: usize, line: &[u8], reason: String) -> RedirectLineError {
    let text = String::from_utf8_lossy(line.trim_ascii());
    let mut shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    RedirectLineError { number: index + 1, text: shown, reason }
}

const LINES_MAX: usize = 10_000;
const LINE_BYTES_MAX: usize = 2_000;
const TEXT_CHARS_MAX: usize = 100;
const ACCEPTED: &str = "FROM TO [STATUS], where FROM is a path with :placeholders and perhaps /* at its end, TO a path or \
                        an http(s) URL, and STATUS one of 301, 302, 303, 307, 308, 200 and 404, perhaps with ! behind it";

#[cfg(test)]
mod tests {
    use super::*;

    fn redirects(text: &str) -> Redirects {
        Redirects::parse(text.as_bytes()).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
    }

    /// `301 /location` or `200 =path`.
    fn found(redirects: &Redirects, path: &[u8], query: Option<&[u8]>, forced_only: bool) -> String {
        match redirects.find(path, query, forced_only) {
            None => String::new(),
            Some(Redirect::To { status, location }) => format!("{status} {location}"),
            Some(Redirect::Rewrite { path, status }) => format!("{status} ={path}"),
        }
    }

    #[test]
    fn a_line_redirects_to_its_target() {
        for (text, path, expected) in [
            ("/a /b", "/a", "301 /b"),
            ("/a /b 302", "/a", "302 /b"),
            ("/a\t/b  308 # moved", "/a", "308 /b"),
            ("/a /b #303", "/a", "301 /b"),
            ("/a/ /b/", "/a", "301 /b/"),
            ("/a /b", "/ab", ""),
            ("/a /b", "/a/b", ""),
            ("/ /home 307", "/", "307 /home"),
            ("/a /", "/a", "301 /"),
            ("/a https://example.com", "/a", "301 https://example.com"),
            ("/a http://example.com:8080/x?y#z", "/a", "301 http://example.com:8080/x?y#z"),
            ("/blog/* /news/:splat", "/blog/a/b", "301 /news/a/b"),
            ("/blog/* /news/:splat", "/blog", "301 /news/"),
            ("/blog/* /news/:splat", "/blogs", ""),
            ("/* https://example.com/:splat", "/a/b", "301 https://example.com/a/b"),
            ("/* https://example.com/:splat", "/", "301 https://example.com/"),
            ("/* /index.html 200", "/a/b", "200 =index.html"),
            ("/* /index.html 200", "/", "200 =index.html"),
            ("/* /errors/404.html 404", "/a", "404 =errors/404.html"),
            ("/:year/:month /archive/:month-:year", "/2024/05", "301 /archive/05-2024"),
            ("/:year/:month /archive/:month-:year", "/2024", ""),
            ("/:year/:month /archive/:month-:year", "/2024/05/01", ""),
            ("/u/:id /users?id=:id#:id", "/u/a&b=c", "301 /users?id=a%26b%3Dc#a%26b%3Dc"),
            ("/d/:a/* /e/:splat/:a 200", "/d/x/y/z", "200 =e/y/z/x"),
            ("/caf\u{e9} /tea", "/caf\u{e9}", "301 /tea"),
            ("/caf%C3%A9 /tea", "/caf\u{e9}", "301 /tea"),
            ("/tea /caf\u{e9}?\u{e9}", "/tea", "301 /caf%C3%A9?%C3%A9"),
            ("/tea /caf%C3%A9", "/tea", "301 /caf%C3%A9"),
            ("/tea /caf%C3%A9 200", "/tea", "200 =caf\\xc3\\xa9"),
            ("/a%20b /c%20d", "/a b", "301 /c%20d"),
            ("/a /b:80", "/a", "301 /b:80"),
        ] {
            assert_eq!(found(&redirects(text), path.as_bytes(), None, false), expected, "{text} for {path}");
        }
    }

    #[test]
    fn the_first_matching_line_decides() {
        let text = "/a/x /1\n/a/* /2\n/a/y /3\n/:p/z /4\n/b/z /5\n/* /6";
        for (path, expected) in
            [("/a/x", "/1"), ("/a/y", "/2"), ("/b/z", "/4"), ("/c", "/6"), ("/a/z", "/2"), ("/a", "/2")]
        {
            let expected = format!("301 {expected}");
            assert_eq!(found(&redirects(text), path.as_bytes(), None, false), expected, "{path}");
        }
    }

    #[test]
    fn forced_lines_are_found_beside_others() {
        let some = redirects("/a /1\n/a /2 302!\n/* /3\n/b/* /4 200!");
        for (path, any, forced) in
            [("/a", "301 /1", "302 /2"), ("/b/c", "301 /3", "200 =4"), ("/c", "301 /3", "")]
        {
            assert_eq!(found(&some, path.as_bytes(), None, false), any, "{path}");
            assert_eq!(found(&some, path.as_bytes(), None, true), forced, "{path}");
        }
        assert!(some.has_forced() && !redirects("/a /b").has_forced());
    }

    #[test]
    fn the_query_of_the_request_is_kept_if_the_line_has_none() {
        for (text, query, expected) in [
            ("/a /b", "x=1&y", "301 /b?x=1&y"),
            ("/a /b#c", "x=1", "301 /b?x=1#c"),
            ("/a /b?z", "x=1", "301 /b?z"),
            ("/a https://h/b", "x=%20", "301 https://h/b?x=%20"),
            ("/a https://h", "x", "301 https://h?x"),
            ("/a /b", "\"<x>\r\n#\u{e9}", "301 /b?%22%3Cx%3E%0D%0A%23%C3%A9"),
        ] {
            assert_eq!(found(&redirects(text), b"/a", Some(query.as_bytes()), false), expected, "{text}");
        }
    }

    #[test]
    fn a_line_that_leads_back_to_the_request_is_skipped() {
        for (text, path, expected) in [
            ("/a /a", "/a", ""),
            ("/a /a/", "/a", ""),
            ("/a /a?x", "/a", ""),
            ("/a /%61", "/a", ""),
            ("/* /index.html 200", "/index.html", ""),
            ("/* /index.html", "/index.html", ""),
            ("/* /:splat 302\n/a /b", "/a", "301 /b"),
            ("/a /a\n/a /b", "/a", "301 /b"),
            ("/* /", "/", ""),
            ("/a https://h/a", "/a", "301 https://h/a"),
        ] {
            assert_eq!(found(&redirects(text), path.as_bytes(), None, false), expected, "{text} for {path}");
        }
    }

    #[test]
    fn no_path_leads_to_another_host_or_up_or_into_another_header() {
        for (text, path, expected) in [
            ("/r/* /:splat", &b"/r//evil.example"[..], ""),
            ("/r/* /:splat", b"/r/\\evil.example", "301 /%5Cevil.example"),
            ("/r/* /:splat", b"/r/../x", ""),
            ("/r/* /a/:splat 200", b"/r/../x", ""),
            ("/r/* /a/:splat", b"/r/x\r\ny: z", "301 /a/x%0D%0Ay:%20z"),
            ("/r/* /a/:splat", b"/r/%2e%2e", "301 /a/%252e%252e"),
            ("/r/* /a/:splat", b"/r/\xFF", "301 /a/%FF"),
            ("/r/* /a/.:splat", b"/r", ""),
            ("/r/* /a/.:splat", b"/r/.x", "301 /a/..x"),
            ("/r/:a/* /:splat/:a", b"/r/x", "301 /x"),
            ("/r/* /:splat/", b"/r/x", "301 /x/"),
            ("/r/* /:splat/", b"/r", "301 /"),
            ("/r/* /a/.:splat 200", b"/r", ""),
            ("/r/* https://h/.:splat", b"/r", ""),
            ("/r/* https://h/:splat", b"/r/a?b#c", "301 https://h/a%3Fb%23c"),
            ("/r/* /a?to=:splat", b"/r/a/b&c=d", "301 /a?to=a%2Fb%26c%3Dd"),
            ("/r/* /a", b"r/x", ""),
            ("/r/* /a", b"", ""),
        ] {
            let shown = path.escape_ascii();
            assert_eq!(found(&redirects(text), path, None, false), expected, "{text} for {shown}");
        }
        let wide = format!("/r/* /{}", ":splat".repeat(300));
        let long = [b"/r/".as_slice(), &vec![b'x'; 10_000]].concat();
        assert_eq!(found(&redirects(&wide), &long, None, false), "");
    }

    #[test]
    fn blank_lines_comments_crlf_and_a_byte_order_mark_are_let_pass() {
        let some =
            redirects("\u{feff}# all that moved\r\n\r\n  \t\r\n/a /b\r\n  # more\n/c /d 302 # why\r\n");
        assert_eq!(found(&some, b"/a", None, false), "301 /b");
        assert_eq!(found(&some, b"/c", None, false), "302 /d");
        assert!(redirects("").is_empty() && redirects("# nothing").is_empty());
    }

    #[test]
    fn an_invalid_line_is_reported_with_number_text_and_reason() {
        for (line, reason) in [
            ("/a", "says from where, but not where to"),
            ("a /b", "begins with `a`, which does not start with a slash"),
            ("https://h/a /b", "begins with a URL"),
            ("//h/a /b", "has an empty name in `//h/a`"),
            ("/a/../b /c", "has `..` as a name in `/a/../b`"),
            ("/a/%2e/b /c", "has `%2e` as a name in `/a/%2e/b`"),
            ("/a%2Fb /c", "has an encoded slash or NUL in `/a%2Fb`"),
            ("/a%zz /c", "has a % in `/a%zz` that is not followed by two hexadecimal digits"),
            ("/a?b=:c /d", "has a query in `/a?b=:c`"),
            ("/a#b /c", "has a fragment in `/a#b`"),
            ("/a/*/b /c", "has a * in `/a/*/b` elsewhere than as its last name"),
            ("/a* /c", "has a * in `/a*` elsewhere than as its last name"),
            ("/:a/:a /c", "has the placeholder `:a` twice"),
            ("/:splat /c", "has a placeholder in `/:splat` that is no word of its own"),
            ("/: /c", "has a placeholder in `/:` that is no word"),
            ("/:a-b /c", "has a placeholder in `/:a-b` that is no word"),
            ("/a b", "leads to `b`, which is neither a path nor an http(s) URL"),
            ("/a ftp://h/", "leads to `ftp://h/`, which is neither a path nor an http(s) URL"),
            ("/a //h/b", "leads to `//h/b`, which begins with two slashes"),
            ("/a /b/../c", "leads to `/b/../c`, which has . or .. as a name"),
            ("/a /b/%2e%2e/c", "leads to `/b/%2e%2e/c`, which has . or .. as a name"),
            ("/a /b%2Fc", "has an encoded slash or NUL in `/b%2Fc`"),
            ("/a /b?%z", "has a % in `/b?%z` that is not followed by two"),
            ("/a https:///b", "leads to `https:///b`, which names no host"),
            ("/a https://u:p@h/b", "leads to `https://u:p@h/b`, which names no host"),
            ("/:a https://:a.h/b", "leads to `https://:a.h/b`, which names no host"),
            ("/* https://h:splat", "leads to `https://h:splat`, which names no host"),
            ("/a /b/*", "leads to `/b/*`, which has a *: what it matched is :splat"),
            ("/a /:splat", "leads to `/:splat`, which has the placeholder `:splat` that `/a` lacks"),
            ("/:a /:ab", "leads to `/:ab`, which has the placeholder `:ab` that `/:a` lacks"),
            ("/a /b 300", "has the status `300`"),
            ("/a /b 301!!", "has the status `301!!`"),
            ("/a /b !", "has the status `!`"),
            ("/a https://h/b 200", "has the status 200, with which `https://h/b` must be a path"),
            ("/a /b?c 404", "has the status 404, with which `/b?c` must be a path"),
            ("/a id=:id /b 301", "has a condition on the query, `id=:id`"),
            ("/a /b 302 Country=fr", "has a condition, `Country=fr`"),
            ("/a /b 302 more", "has an unexpected word, `more`"),
            ("/a\u{1}b /c", "contains a control character"),
        ] {
            let text = format!("/good /line\n\n{line}\n");
            let bad = Redirects::parse(text.as_bytes()).expect_err(line);
            let [bad] = bad.as_slice() else { panic!("{line}: {bad:?}") };
            assert_eq!((bad.number, bad.text.as_str()), (3, line));
            assert!(bad.reason.starts_with(reason), "{line}: {}", bad.reason);
        }
    }

    #[test]
    fn all_invalid_lines_are_reported_at_once() {
        let bad = Redirects::parse(b"a\n/b /c\nd\n\xFF\n").expect_err("three are bad");
        assert_eq!(bad.iter().map(|bad| bad.number).collect::<Vec<_>>(), [1, 3, 4]);
        let message = bad.first().map(ToString::to_string).unwrap_or_default();
        assert!(
            message.starts_with("the line \"a\" ") && message.contains("; accepted: FROM TO [STATUS]"),
            "{message}"
        );
        let long = format!("/a /{}", "b".repeat(2_000));
        let bad = Redirects::parse(long.as_bytes()).expect_err("too long");
        assert_eq!(bad[0].reason, "is longer than 2000 bytes");
        assert!(bad[0].text.len() < 200);
    }

    #[test]
    fn there_may_be_ten_thousand_lines() {
        let line = |number: usize| format!("/{number} /to/{number}\n");
        let most: String = (0..10_000).map(line).collect();
        assert_eq!(found(&redirects(&most), b"/9999", None, false), "301 /to/9999");
        let bad = Redirects::parse((most + "/x /y").as_bytes()).expect_err("one too many");
        assert_eq!((bad.len(), bad[0].number), (1, 10_001));
    }
}
