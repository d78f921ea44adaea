//! Output of a command.

use std::fmt;

/// What a command prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOutput {
    /// For standard output: lines, or one JSON document.
    pub out: String,
    /// For standard error: lines.
    pub err: String,
    /// False if there were errors or findings.
    pub is_clean: bool,
}

impl CommandOutput {
    /// The output of a command that can't do its work.
    pub(crate) fn failed(reason: impl fmt::Display) -> Self {
        Self { err: format!("pagecast: {reason}\n"), ..Self::default() }
    }
}

/// A count with its noun, in the plural unless it is 1.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
