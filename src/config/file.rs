//! Parses the TOML file.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, name_at};
use super::origin::ValueOrigin;

/// Text of a file, with its syntax errors.
pub(crate) struct TomlSource<'a> {
    pub(crate) path: &'a Path,
    text: &'a str,
    /// Line and reason of each syntax error, at most one per line.
    pub(crate) faults: Vec<(usize, String)>,
}

/// A key of a table with its value.
pub(crate) struct TomlEntry<'a> {
    pub(crate) key: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// The value as it is written, a string without its quotes.
    pub(crate) written: &'a str,
    pub(crate) value: Spanned<DeValue<'a>>,
}

/// Reads a TOML document as far as it can be read, into the entries of its top.
pub(crate) fn parse<'a>(path: &'a Path, text: &'a str) -> (TomlSource<'a>, Vec<TomlEntry<'a>>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut source = TomlSource { path, text, faults: Vec::new() };
    source.faults = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or_default();
            let mut reason = error.message().trim().replace('\n', "; ");
            if reason == DUPLICATE_KEY {
                reason = format!("{reason} {}", text.get(span.clone()).unwrap_or_default().trim());
            }
            (source.line_of(&span), reason)
        })
        .collect();
    source.faults.sort();
    // What follows the first fault of a line is mostly its echo.
    source.faults.dedup_by_key(|(line, _)| *line);
    let entries = source.entries(table.into_inner());
    (source, entries)
}

impl<'a> TomlSource<'a> {
    /// The entries of a table of the file, in order of their lines.
    pub(crate) fn entries(&self, table: DeTable<'a>) -> Vec<TomlEntry<'a>> {
        let mut entries: Vec<TomlEntry<'_>> = table
            .into_iter()
            .map(|(key, value)| TomlEntry {
                line: self.line_of(&key.span()),
                written: self.written(&value.span()),
                key: key.into_inner().into_owned(),
                value,
            })
            // What is left of a faulty line says nothing about what was meant.
            .filter(|entry| self.faults.iter().all(|(line, _)| *line != entry.line))
            .collect();
        entries.sort_by_key(|entry| entry.value.span().start);
        entries
    }

    /// The value at a span as it is written, a string without its quotes.
    pub(crate) fn written(&self, span: &Range<usize>) -> &'a str {
        unquoted(self.text.get(span.clone()).unwrap_or_default())
    }

    /// The place of a line.
    pub(crate) fn origin(&self, line: usize) -> ValueOrigin {
        ValueOrigin::File { path: self.path.to_path_buf(), line }
    }

    /// An error in a line.
    pub(crate) fn fault(&self, line: usize, reason: String) -> ConfigError {
        ConfigError::File { path: self.path.to_path_buf(), line: Some(line), reason }
    }

    /// The error for the value at a span, which is not accepted for what has the name `name`.
    pub(crate) fn bad_value(
        &self,
        span: &Range<usize>,
        name: &str,
        reason: &str,
        accepted: &str,
    ) -> ConfigError {
        let name = name_at(&self.origin(self.line_of(span)), name);
        ConfigError::bad_value_at(name, self.written(span), reason, accepted.to_owned())
    }

    /// The line in which a span begins, counted from 1.
    pub(crate) fn line_of(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

/// What stands between the quotes of a string; anything else as it is.
fn unquoted(written: &str) -> &str {
    ["\"\"\"", "'''", "\"", "'"]
        .iter()
        .find_map(|quote| written.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(written)
}

/// What the parser says of a key that is there already, without its name.
const DUPLICATE_KEY: &str = "duplicate key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_named() {
        for text in ["a = 1\nspa = 1\nspa = 2\n", "[[rule]]\nspa = 1\nspa = 2\n"] {
            let (source, _) = parse(Path::new("c.toml"), text);
            assert_eq!(source.faults, [(3, "duplicate key spa".to_owned())], "{text}");
        }
    }

    #[test]
    fn a_string_is_shown_without_its_quotes() {
        for (written, shown) in [
            ("\"a\"", "a"),
            ("'a'", "a"),
            ("\"\"", ""),
            ("\"\"\"a\"\"\"", "a"),
            ("\"", "\""),
            ("[\"a\"]", "[\"a\"]"),
            ("3", "3"),
            ("", ""),
        ] {
            assert_eq!(unquoted(written), shown, "{written}");
        }
    }
}
