//! Names and values of headers in the configuration (RFC 9110 §5).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::setting::{ValueError, text_value};
use crate::http::header_grammar::is_token;

text_value! {
    /// Value of a header: visible ASCII, with spaces and tabs inside; never empty.
    ConfigHeaderValue, as_str: str, "VALUE", "the value of a header in visible ASCII", check_header_value
}

pub(super) fn check_header_value(text: &str) -> Result<(), ValueError> {
    if text.trim_matches([' ', '\t']).len() != text.len() {
        return Err(ValueError::new("begins or ends with white space"));
    }
    match text.chars().find(|&character| !matches!(character, ' '..='~' | '\t')) {
        Some('\r' | '\n') => Err(ValueError::new("contains a line break")),
        Some(character) if character.is_ascii() => Err(ValueError::new("contains a control character")),
        Some(_) => Err(ValueError::new("contains a character that is not ASCII")),
        None => Ok(()),
    }
}

/// Name of a header as it was written. Compared without regard to case.
#[derive(Debug, Clone)]
pub struct ConfigHeaderName(Arc<str>);

impl ConfigHeaderName {
    /// The name, as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for ConfigHeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for ConfigHeaderName {}

impl FromStr for ConfigHeaderName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError::EMPTY);
        }
        if !is_token(text.as_bytes()) {
            return Err(ValueError::new("is not the name of a header"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ConfigHeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is `type/subtype`, with parameters or without (RFC 9110 §8.3.1).
pub(crate) fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').map_or((text, None), |(a, b)| (a, Some(b)));
    let Some((kind, subtype)) = essence.trim_end_matches([' ', '\t']).split_once('/') else { return false };
    is_token(kind.as_bytes()) && is_token(subtype.as_bytes()) && parameters.is_none_or(are_parameters)
}

/// One or more `name=value` between semicolons.
fn are_parameters(text: &str) -> bool {
    let mut rest = text;
    loop {
        let Some((name, value)) = rest.trim_start_matches([' ', '\t']).split_once('=') else { return false };
        let Some(after) = after_parameter_value(value) else { return false };
        if !is_token(name.as_bytes()) {
            return false;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix(';') {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

/// What follows a token or a quoted string.
fn after_parameter_value(text: &str) -> Option<&str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return is_token(value.as_bytes()).then_some(after);
    };
    let mut escaped = false;
    for (at, character) in quoted.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return quoted.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_visible_ascii_with_spaces_inside() {
        for text in ["a", "public, max-age=60", "a\tb", "\"quoted\"", "~"] {
            assert_eq!(text.parse::<ConfigHeaderValue>().expect(text).as_str(), text);
        }
        for (text, reason) in [
            ("", "is empty"),
            (" a", "begins or ends with white space"),
            ("a\t", "begins or ends with white space"),
            ("a\r\nb: c", "contains a line break"),
            ("a\nb", "contains a line break"),
            ("a\0b", "contains a control character"),
            ("a\x7fb", "contains a control character"),
            ("caf\u{e9}", "contains a character that is not ASCII"),
        ] {
            assert_eq!(text.parse::<ConfigHeaderValue>(), Err(ValueError::new(reason)), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_a_token_and_equal_in_either_case() {
        let name = |text: &str| text.parse::<ConfigHeaderName>();
        assert_eq!(name("X-Served-By"), name("x-served-by"));
        assert_eq!(name("").err(), Some(ValueError::EMPTY));
        for text in ["a b", "a:", "a\n", "caf\u{e9}", "(a)"] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_media_type_has_a_subtype_and_may_have_parameters() {
        for text in [
            "text/html",
            "text/html; charset=utf-8",
            "text/html;charset=\"utf-8\"",
            "a/b ; c=d; e=\"f;\\\"g\"",
            "application/vnd.oci.image.manifest.v1+json",
        ] {
            assert!(is_media_type(text), "{text}");
        }
        for text in [
            "",
            "text",
            "text/",
            "/html",
            "a/b;",
            "a/b; c",
            "a/b; c=",
            "a/b; c=\"d",
            "a /b",
            "a/b c",
            "a/b/c",
        ] {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
