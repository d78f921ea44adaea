//! One line of a `_redirects` file: a pattern for paths, and the target.

use percent_encoding::{AsciiSet, percent_encode};

use super::authority::is_valid_host;
use super::percent::{OUTSIDE_PATH, OUTSIDE_QUERY, OUTSIDE_URL, OUTSIDE_VALUE, has_valid_escapes};
use super::target::{SitePath, TargetError, decode};

/// The answer to a path that a line matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// A redirect.
    To {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The value of the Location header: an absolute path or an http(s) URL, in visible ASCII.
        location: String,
    },
    /// Another file of the site is served.
    Rewrite {
        /// The file.
        path: SitePath<'static>,
        /// 200 or 404.
        status: u16,
    },
}

/// A valid line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RedirectLine {
    from: Pattern,
    to: RedirectTarget,
    status: u16,
    /// Whether it applies even if a file exists.
    pub(super) forced: bool,
}

/// Parses a line; `None` if it is blank or a comment. The error continues "the line …".
pub(super) fn parse_line(text: &str) -> Result<Option<RedirectLine>, String> {
    let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let end = words.iter().position(|word| word.starts_with('#')).unwrap_or(words.len());
    let (from, to, status) = match words.get(..end).unwrap_or_default() {
        [] => return Ok(None),
        [_] => return Err("says from where, but not where to".to_owned()),
        [from, to] => (from, to, "301"),
        [_, condition, ..] if !condition.contains('/') && condition.contains('=') => {
            return Err(format!("has a condition on the query, `{condition}`: conditions are not supported"));
        }
        [from, to, status] => (from, to, *status),
        [_, _, _, condition, ..] if condition.contains('=') => {
            return Err(format!("has a condition, `{condition}`: conditions are not supported"));
        }
        [_, _, _, word, ..] => return Err(format!("has an unexpected word, `{word}`")),
    };
    let pattern = Pattern::parse(from)?;
    let (status, forced) = parse_status(status)?;
    let target = RedirectTarget::parse(to, from, &pattern)?;
    reject(!is_redirect(status) && !target.is_plain_path(), || {
        format!("has the status {status}, with which `{to}` must be a path without query")
    })?;
    Ok(Some(RedirectLine { from: pattern, to: target, status, forced }))
}

/// Fails with `reason` if a line is invalid.
fn reject(is_invalid: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if is_invalid { Err(reason()) } else { Ok(()) }
}

impl RedirectLine {
    /// The path relative to the root, if the line matches only one.
    pub(super) fn exact_path(&self) -> Option<Vec<u8>> {
        let names: Option<Vec<&[u8]>> = self.from.names.iter().map(Option::as_deref).collect();
        names.filter(|_| !self.from.has_splat).map(|names| names.join(&b'/'))
    }

    /// The first name of all paths that it matches.
    pub(super) fn first_name(&self) -> Option<&[u8]> {
        self.from.names.first()?.as_deref()
    }

    /// The answer to a path relative to the root, if the line matches it and does not lead back to it.
    pub(super) fn answer(&self, path: &[u8], query: Option<&[u8]>) -> Option<Redirect> {
        let captured = self.from.captures(path)?;
        if is_redirect(self.status) {
            let location = self.to.location(&captured, path, query)?;
            return Some(Redirect::To { status: self.status, location });
        }
        let (path, _) = self.to.site_path(&captured, path)?;
        Some(Redirect::Rewrite { path, status: self.status })
    }
}

fn parse_status(word: &str) -> Result<(u16, bool), String> {
    let digits = word.strip_suffix('!').unwrap_or(word);
    let known = STATUSES.iter().find(|known| known.to_string() == digits);
    let status = known.ok_or_else(|| format!("has the status `{word}`, which is not known"))?;
    Ok((*status, digits.len() < word.len()))
}

fn is_redirect(status: u16) -> bool {
    (300..400).contains(&status)
}

/// The paths that a line matches.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pattern {
    /// `None` is a placeholder.
    names: Vec<Option<Vec<u8>>>,
    /// Whether any names may follow.
    has_splat: bool,
    /// The placeholders without their colons; the splat is last.
    captures: Vec<String>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        reject(text.contains("://"), || "begins with a URL: lines are for paths of this site".to_owned())?;
        let relative = text
            .strip_prefix('/')
            .ok_or_else(|| format!("begins with `{text}`, which does not start with a slash"))?;
        reject(text.contains('?'), || format!("has a query in `{text}`: only paths are matched"))?;
        reject(text.contains('#'), || format!("has a fragment in `{text}`, which no client sends"))?;
        let mut pattern = Self::default();
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        let mut segments: Vec<&str> = relative.split('/').collect();
        pattern.has_splat = segments.pop_if(|last| *last == "*").is_some();
        if relative.is_empty() {
            segments.clear();
        }
        for segment in segments {
            pattern.push(segment, text)?;
        }
        pattern.captures.extend(pattern.has_splat.then(|| SPLAT.to_owned()));
        Ok(pattern)
    }

    fn push(&mut self, segment: &str, text: &str) -> Result<(), String> {
        reject(segment.contains('*'), || format!("has a * in `{text}` elsewhere than as its last name"))?;
        if let Some(name) = segment.strip_prefix(':') {
            reject(placeholder(segment) != Some(name) || name == SPLAT, || {
                format!("has a placeholder in `{text}` that is no word of its own")
            })?;
            reject(self.index_of(name).is_some(), || format!("has the placeholder `:{name}` twice"))?;
            self.names.push(None);
            self.captures.push(name.to_owned());
            return Ok(());
        }
        let name = decoded(segment, text)?;
        reject(name.is_empty(), || format!("has an empty name in `{text}`"))?;
        reject(is_dots(&name), || format!("has `{segment}` as a name in `{text}`, which no path has"))?;
        self.names.push(Some(name));
        Ok(())
    }

    /// The index of a placeholder among the captures.
    fn index_of(&self, name: &str) -> Option<usize> {
        self.captures.iter().position(|known| known == name)
    }

    /// The captures of the placeholders and the splat in a path, if the path matches.
    fn captures<'a>(&self, path: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let mut captured = Vec::new();
        let names = path.splitn(self.names.len() + 1, |&byte| byte == b'/');
        let mut names = names.filter(|name| !name.is_empty());
        for known in &self.names {
            let name = names.next()?;
            match known {
                None => captured.push(name),
                Some(known) if known == name => {}
                Some(_) => return None,
            }
        }
        match (names.next(), self.has_splat) {
            (Some(_), false) => return None,
            (None, false) => {}
            (rest, true) => captured.push(rest.unwrap_or_default()),
        }
        Some(captured)
    }
}

/// The target of a line.
#[derive(Debug, PartialEq, Eq)]
struct RedirectTarget {
    /// `https://host`; empty for a path of the site.
    origin: String,
    /// Decoded for a path of the site, otherwise encoded.
    path: Template,
    query: Option<Template>,
    fragment: Option<Template>,
}

impl RedirectTarget {
    fn parse(text: &str, from_text: &str, from: &Pattern) -> Result<Self, String> {
        let refused = |reason: &str| format!("leads to `{text}`, which {reason}");
        reject(text.contains('*'), || refused("has a *: what it matched is :splat"))?;
        let (before, fragment) = split_off(text, '#');
        let (before, query) = split_off(before, '?');
        let (origin, path) = split_origin(before).map_err(refused)?;
        for segment in path.split('/') {
            reject(is_dots(&decoded(segment, text)?), || refused("has . or .. as a name"))?;
        }
        let index_of = |name: &str| {
            from.index_of(name)
                .ok_or_else(|| refused(&format!("has the placeholder `:{name}` that `{from_text}` lacks")))
        };
        let encoded = |part| Template::parse(part, |part| encoded(part, text), index_of);
        Ok(Self {
            origin: origin.to_owned(),
            path: match origin {
                "" => Template::parse(path, |part| decoded(part, text), index_of)?,
                _ => encoded(path)?,
            },
            query: query.map(encoded).transpose()?,
            fragment: fragment.map(encoded).transpose()?,
        })
    }

    fn is_plain_path(&self) -> bool {
        self.origin.is_empty() && self.query.is_none() && self.fragment.is_none()
    }

    /// The value of the Location header.
    fn location(&self, captured: &[&[u8]], requested: &[u8], query: Option<&[u8]>) -> Option<String> {
        let mut location = if self.origin.is_empty() {
            let (path, has_slash) = self.site_path(captured, requested)?;
            if has_slash { path.to_location(None) } else { path.to_file_location(None) }
        } else {
            let path = self.path.fill_encoded(captured, OUTSIDE_PATH)?;
            if path.split('/').any(|name| is_dots(name.as_bytes())) {
                return None;
            }
            format!("{}{path}", self.origin)
        };
        if let Some(template) = &self.query {
            location.push('?');
            location.push_str(&template.fill_encoded(captured, OUTSIDE_VALUE)?);
        } else if let Some(query) = query {
            location.push('?');
            location.extend(percent_encode(query, OUTSIDE_QUERY));
        }
        if let Some(template) = &self.fragment {
            location.push('#');
            location.push_str(&template.fill_encoded(captured, OUTSIDE_VALUE)?);
        }
        Some(location)
    }

    /// The path within the site, and whether it ends in a slash; `None` if it climbs or is the requested one.
    fn site_path(&self, captured: &[&[u8]], requested: &[u8]) -> Option<(SitePath<'static>, bool)> {
        let path = self.path.fill(captured, Vec::extend_from_slice)?;
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let relative = names.join(&b'/');
        let leads_on = !names.iter().any(|name| is_no_name(name)) && relative != requested;
        leads_on.then(|| (SitePath::from_bytes(relative), path.ends_with(b"/")))
    }
}

/// Splits a target, without its query and fragment, into `https://host`, which is empty for a path of the site, and the path.
///
/// # Errors
/// The reason, continuing "which …".
fn split_origin(target: &str) -> Result<(&str, &str), &'static str> {
    let Some(scheme) = SCHEMES.iter().find(|scheme| target.starts_with(**scheme)) else {
        return match target {
            _ if target.starts_with("//") => {
                Err("begins with two slashes: with the host of another site, https: comes first")
            }
            _ if target.starts_with('/') => Ok(("", target)),
            _ => Err("is neither a path nor an http(s) URL"),
        };
    };
    let host = target.get(scheme.len()..).unwrap_or_default().split('/').next().unwrap_or_default();
    match !host.is_empty() && is_valid_host(host.as_bytes()) {
        true => Ok(target.split_at(scheme.len() + host.len())),
        false => Err("names no host, or more than a host and a port before its path"),
    }
}

fn split_off(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// A text with gaps for captures.
#[derive(Debug, PartialEq, Eq)]
struct Template(Vec<TemplatePiece>);

#[derive(Debug, PartialEq, Eq)]
enum TemplatePiece {
    Text(Vec<u8>),
    Captured(usize),
}

impl Template {
    /// Parses a text. `literal` converts what is between placeholders, and `index_of` finds the index of a placeholder among the
    /// captures.
    fn parse(
        text: &str,
        literal: impl Fn(&str) -> Result<Vec<u8>, String>,
        index_of: impl Fn(&str) -> Result<usize, String>,
    ) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for (at, _) in text.match_indices(':') {
            let Some(name) = text.get(at..).and_then(placeholder) else { continue };
            pieces.push(TemplatePiece::Text(literal(text.get(from..at).unwrap_or_default())?));
            pieces.push(TemplatePiece::Captured(index_of(name)?));
            from = at + 1 + name.len();
        }
        pieces.push(TemplatePiece::Text(literal(text.get(from..).unwrap_or_default())?));
        Ok(Self(pieces))
    }

    /// Fills the gaps with `write`; `None` if the text becomes too long.
    fn fill(&self, captured: &[&[u8]], write: impl Fn(&mut Vec<u8>, &[u8])) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Text(bytes) => text.extend_from_slice(bytes),
                TemplatePiece::Captured(index) => write(&mut text, captured.get(*index)?),
            }
            if text.len() > FILLED_BYTES_MAX {
                return None;
            }
        }
        Some(text)
    }

    /// Fills the gaps, with the characters of `outside` percent-encoded.
    fn fill_encoded(&self, captured: &[&[u8]], outside: &'static AsciiSet) -> Option<String> {
        String::from_utf8(self.fill(captured, |text, value| encode_into(text, value, outside))?).ok()
    }
}

/// The name of the placeholder at the start of a text.
fn placeholder(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(':')?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let end = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
    let name = rest.get(..end)?;
    name.starts_with(|first: char| first.is_ascii_alphabetic()).then_some(name)
}

fn decoded(text: &str, whole: &str) -> Result<Vec<u8>, String> {
    decode(text.as_bytes()).map_err(|error| match error {
        TargetError::Escape => bad_escape(whole),
        _ => format!("has an encoded slash or NUL in `{whole}`"),
    })
}

fn encoded(text: &str, whole: &str) -> Result<Vec<u8>, String> {
    reject(!has_valid_escapes(text.as_bytes()), || bad_escape(whole))?;
    Ok(percent_encode(text.as_bytes(), OUTSIDE_URL).to_string().into_bytes())
}

fn bad_escape(whole: &str) -> String {
    format!("has a % in `{whole}` that is not followed by two hexadecimal digits")
}

fn encode_into(bytes: &mut Vec<u8>, value: &[u8], outside: &'static AsciiSet) {
    for part in percent_encode(value, outside) {
        bytes.extend_from_slice(part.as_bytes());
    }
}

const SPLAT: &str = "splat";
const SCHEMES: &[&str] = &["https://", "http://"];
const STATUSES: &[u16] = &[301, 302, 303, 307, 308, 200, 404];

/// Clients do not follow longer ones.
const FILLED_BYTES_MAX: usize = 32 << 10;

/// Whether no file can have this name.
pub(super) fn is_no_name(segment: &[u8]) -> bool {
    segment.is_empty() || is_dots(segment) || segment.contains(&0)
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}
