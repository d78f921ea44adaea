//! One line of a `_redirects` file: a pattern for paths, and the target.

use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};

use super::authority::is_valid_host;
use super::percent::{OUTSIDE_PATH, OUTSIDE_QUERY, OUTSIDE_URL, OUTSIDE_VALUE, has_valid_escapes};
use super::target::SitePath;

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
            return Err(format!("has a condition on the query, `{condition}`, of which there are none here"));
        }
        [from, to, status] => (from, to, *status),
        [_, _, _, condition, ..] if condition.contains('=') => {
            return Err(format!("has a condition, `{condition}`, of which there are none here"));
        }
        [_, _, _, word, ..] => return Err(format!("has a word too many, `{word}`")),
    };
    let from_text = from;
    let from = Pattern::parse(from_text)?;
    let (status, forced) = parse_status(status)?;
    let to_text = to;
    let to = RedirectTarget::parse(to_text, from_text, &from)?;
    if !is_redirect(status) && !to.is_plain_path() {
        return Err(format!("has the status {status}, with which `{to_text}` must be a path without query"));
    }
    Ok(Some(RedirectLine { from, to, status, forced }))
}

impl RedirectLine {
    /// The path relative to the root, if the line matches only one.
    pub(super) fn exact_path(&self) -> Option<Vec<u8>> {
        let names: Option<Vec<&[u8]>> = self.from.steps.iter().map(Step::name).collect();
        names.filter(|_| !self.from.splat).map(|names| names.join(&b'/'))
    }

    /// The first name of all paths that it matches.
    pub(super) fn first_name(&self) -> Option<&[u8]> {
        self.from.steps.first().and_then(Step::name)
    }

    /// The answer to a path relative to the root, if the line matches it and does not lead back to it.
    pub(super) fn answer(&self, path: &[u8], query: Option<&[u8]>) -> Option<Redirect> {
        let captured = self.from.captures(path)?;
        if is_redirect(self.status) {
            let location = self.to.location(&captured, path, query)?;
            return Some(Redirect::To { status: self.status, location });
        }
        let place = self.to.site_path(&captured, path)?;
        Some(Redirect::Rewrite { path: place, status: self.status })
    }
}

fn parse_status(word: &str) -> Result<(u16, bool), String> {
    let (digits, forced) = word.strip_suffix('!').map_or((word, false), |digits| (digits, true));
    let known = STATUSES.iter().find(|known| known.to_string() == digits);
    known
        .map(|status| (*status, forced))
        .ok_or_else(|| format!("has the status `{word}`, which is not known"))
}

fn is_redirect(status: u16) -> bool {
    (300..400).contains(&status)
}

/// The paths that a line matches.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    steps: Vec<Step>,
    /// Whether any names may follow.
    splat: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Name(Vec<u8>),
    Placeholder(String),
}

impl Step {
    fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Name(name) => Some(name),
            Self::Placeholder(_) => None,
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("begins with a URL: lines are for paths of this site".to_owned());
        }
        let Some(relative) = text.strip_prefix('/') else {
            return Err(format!("begins with `{text}`, which does not start with a slash"));
        };
        if text.contains('?') {
            return Err(format!("has a query in `{text}`, on which nothing depends here"));
        }
        if text.contains('#') {
            return Err(format!("has a fragment in `{text}`, which no client sends"));
        }
        let mut pattern = Self { steps: Vec::new(), splat: false };
        let relative = relative.strip_suffix('/').unwrap_or(relative);
        let mut segments: Vec<&str> = relative.split('/').collect();
        if segments.last() == Some(&"*") {
            segments.pop();
            pattern.splat = true;
        }
        if relative.is_empty() {
            segments.clear();
        }
        for segment in segments {
            let step = pattern.step(segment, text)?;
            pattern.steps.push(step);
        }
        Ok(pattern)
    }

    fn step(&self, segment: &str, text: &str) -> Result<Step, String> {
        if segment.contains('*') {
            return Err(format!("has a * in `{text}` elsewhere than as its last name"));
        }
        if let Some(name) = segment.strip_prefix(':') {
            if placeholder(segment) != Some(name) || name == SPLAT {
                return Err(format!("has a placeholder in `{text}` that is no word of its own"));
            }
            if self.index_of(name).is_some() {
                return Err(format!("has the placeholder `:{name}` twice"));
            }
            return Ok(Step::Placeholder(name.to_owned()));
        }
        let name = decoded(segment, text)?;
        match name.as_slice() {
            b"" => Err(format!("has an empty name in `{text}`")),
            b"." | b".." => Err(format!("has `{segment}` as a name in `{text}`, which no path has")),
            _ => Ok(Step::Name(name)),
        }
    }

    /// The index of a placeholder among the captures; the splat is last.
    fn index_of(&self, name: &str) -> Option<usize> {
        let names = || {
            self.steps.iter().filter_map(|step| match step {
                Step::Placeholder(name) => Some(name.as_str()),
                Step::Name(_) => None,
            })
        };
        if self.splat && name == SPLAT {
            Some(names().count())
        } else {
            names().position(|known| known == name)
        }
    }

    /// The captures of the placeholders and the splat in a path, if the path matches.
    fn captures<'a>(&self, path: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let mut captured = Vec::new();
        let mut rest = Some(path).filter(|path| !path.is_empty());
        for step in &self.steps {
            let here = rest?;
            let (name, after) = match memchr::memchr(b'/', here) {
                Some(at) => (here.get(..at)?, here.get(at + 1..)),
                None => (here, None),
            };
            match step {
                Step::Name(known) if known != name => return None,
                Step::Name(_) => {}
                Step::Placeholder(_) => captured.push(name),
            }
            rest = after;
        }
        match rest {
            Some(_) if !self.splat => return None,
            _ if self.splat => captured.push(rest.unwrap_or_default()),
            _ => {}
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
        if text.contains('*') {
            return Err(refused("has a *: what it matched is :splat"));
        }
        let (before, fragment) = split_off(text, '#');
        let (before, query) = split_off(before, '?');
        let scheme = SCHEMES.iter().find(|scheme| before.starts_with(**scheme));
        let origin_length = match scheme {
            Some(scheme) => {
                let host =
                    before.get(scheme.len()..).unwrap_or_default().split('/').next().unwrap_or_default();
                if host.is_empty() || !is_valid_host(host.as_bytes()) {
                    return Err(refused("names no host, or more than a host and a port before its path"));
                }
                scheme.len() + host.len()
            }
            None if before.starts_with("//") => {
                return Err(refused(
                    "begins with two slashes: with the host of another site, https: comes first",
                ));
            }
            None if before.starts_with('/') => 0,
            None => return Err(refused("is neither a path nor an http(s) URL")),
        };
        let (origin, path) = before.split_at(origin_length);
        for segment in path.split('/') {
            if matches!(decoded(segment, text)?.as_slice(), b"." | b"..") {
                return Err(refused("has . or .. as a name"));
            }
        }
        let template = |part: &str, is_decoded: bool| {
            Template::parse(part, text, is_decoded, |name| {
                from.index_of(name).ok_or_else(|| {
                    refused(&format!("has the placeholder `:{name}` that `{from_text}` lacks"))
                })
            })
        };
        Ok(Self {
            origin: origin.to_owned(),
            path: template(path, origin.is_empty())?,
            query: query.map(|query| template(query, false)).transpose()?,
            fragment: fragment.map(|fragment| template(fragment, false)).transpose()?,
        })
    }

    fn is_plain_path(&self) -> bool {
        self.origin.is_empty() && self.query.is_none() && self.fragment.is_none()
    }

    /// The value of the Location header.
    fn location(&self, captured: &[&[u8]], requested: &[u8], query: Option<&[u8]>) -> Option<String> {
        let mut location = self.origin.clone();
        if self.origin.is_empty() {
            let path = self.path.fill(captured, |value, path| path.extend_from_slice(value))?;
            let names = names_of(&path, requested)?;
            for name in &names {
                location.push('/');
                location.extend(percent_encode(name, OUTSIDE_PATH));
            }
            if names.is_empty() || path.ends_with(b"/") {
                location.push('/');
            }
        } else {
            let path = self.path.fill(captured, |value, path| encode_into(path, value, OUTSIDE_PATH))?;
            if path.split(|&byte| byte == b'/').any(|name| matches!(name, b"." | b"..")) {
                return None;
            }
            location.push_str(str::from_utf8(&path).ok()?);
        }
        let value_of = |template: &Template| {
            template.fill(captured, |value, text| encode_into(text, value, OUTSIDE_VALUE))
        };
        if let Some(template) = &self.query {
            location.push('?');
            location.push_str(str::from_utf8(&value_of(template)?).ok()?);
        } else if let Some(query) = query {
            location.push('?');
            location.extend(percent_encode(query, OUTSIDE_QUERY));
        }
        if let Some(template) = &self.fragment {
            location.push('#');
            location.push_str(str::from_utf8(&value_of(template)?).ok()?);
        }
        Some(location)
    }

    /// The path of a file of the site.
    fn site_path(&self, captured: &[&[u8]], requested: &[u8]) -> Option<SitePath<'static>> {
        let path = self.path.fill(captured, |value, path| path.extend_from_slice(value))?;
        let names = names_of(&path, requested)?;
        Some(names.iter().fold(SitePath::root(), |path, name| path.entry(name)))
    }
}

/// The names of a decoded path; `None` if it climbs or is the requested one.
fn names_of<'a>(path: &'a [u8], requested: &[u8]) -> Option<Vec<&'a [u8]>> {
    let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
    let leads_on = !names.iter().any(|name| is_no_name(name)) && names.join(&b'/') != requested;
    leads_on.then_some(names)
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
    /// Parses a part of `whole`. `index_of` finds the index of a placeholder among the captures.
    fn parse(
        part: &str,
        whole: &str,
        is_decoded: bool,
        index_of: impl Fn(&str) -> Result<usize, String>,
    ) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let push_text = |pieces: &mut Vec<TemplatePiece>, text: &str| {
            let bytes = if is_decoded { decoded(text, whole)? } else { encoded(text, whole)? };
            pieces.push(TemplatePiece::Text(bytes));
            Ok::<(), String>(())
        };
        let mut from = 0;
        for (at, _) in part.match_indices(':') {
            let Some(name) = part.get(at..).and_then(placeholder) else { continue };
            push_text(&mut pieces, part.get(from..at).unwrap_or_default())?;
            pieces.push(TemplatePiece::Captured(index_of(name)?));
            from = at + 1 + name.len();
        }
        push_text(&mut pieces, part.get(from..).unwrap_or_default())?;
        Ok(Self(pieces))
    }

    /// Fills the gaps with `write`; `None` if the text becomes too long.
    fn fill(&self, captured: &[&[u8]], write: impl Fn(&[u8], &mut Vec<u8>)) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Text(bytes) => text.extend_from_slice(bytes),
                TemplatePiece::Captured(place) => write(captured.get(*place)?, &mut text),
            }
            if text.len() > FILLED_BYTES_MAX {
                return None;
            }
        }
        Some(text)
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
    check_escapes(text, whole)?;
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    let slashes = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'/').count();
    if bytes.contains(&0) || slashes(&bytes) != slashes(text.as_bytes()) {
        return Err(format!("has an encoded slash or NUL in `{whole}`"));
    }
    Ok(bytes)
}

fn encoded(text: &str, whole: &str) -> Result<Vec<u8>, String> {
    check_escapes(text, whole)?;
    let mut bytes = Vec::new();
    encode_into(&mut bytes, text.as_bytes(), OUTSIDE_URL);
    Ok(bytes)
}

fn check_escapes(text: &str, whole: &str) -> Result<(), String> {
    if has_valid_escapes(text.as_bytes()) {
        return Ok(());
    }
    Err(format!("has a % in `{whole}` that is not followed by two hexadecimal digits"))
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
    matches!(segment, b"" | b"." | b"..") || segment.contains(&0)
}
