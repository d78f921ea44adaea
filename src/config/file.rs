//! The layer of the TOML file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a file says: its entries in order of their lines, and where it is not TOML.
pub(crate) struct Parsed<'a> {
    pub(crate) entries: Vec<Entry<'a>>,
    /// Line and reason of the faults of syntax, one a line.
    pub(crate) faults: Vec<(usize, String)>,
}

/// A key at the top of the file with its value.
pub(crate) struct Entry<'a> {
    pub(crate) key: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// The value as it is written.
    pub(crate) written: &'a str,
    pub(crate) value: Spanned<DeValue<'a>>,
}

/// Reads a TOML document as far as it can be read.
pub(crate) fn parse(text: &str) -> Parsed<'_> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<(usize, String)> = errors
        .iter()
        .map(|error| {
            let line = error.span().map_or(1, |span| line_of(text, &span));
            (line, error.message().trim().replace('\n', "; "))
        })
        .collect();
    faults.sort();
    // What follows the first fault of a line is mostly its echo.
    faults.dedup_by_key(|(line, _)| *line);
    let mut entries: Vec<Entry<'_>> = table
        .into_inner()
        .into_iter()
        .map(|(key, value)| Entry {
            line: line_of(text, &key.span()),
            written: text.get(value.span()).unwrap_or_default(),
            key: key.into_inner().into_owned(),
            value,
        })
        // What is left of a faulty line says nothing about what was meant.
        .filter(|entry| faults.iter().all(|(line, _)| *line != entry.line))
        .collect();
    entries.sort_by_key(|entry| entry.value.span().start);
    Parsed { entries, faults }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
