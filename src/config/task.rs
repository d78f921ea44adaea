//! What the program can be asked to do.

use super::address::Address;
use super::path_glob::PathGlobs;
use crate::http::encoding::Coding;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `pagecast` or `pagecast serve`
    Serve,
    /// `pagecast config`
    ShowConfig,
    /// `pagecast compress`
    Compress(Compress),
    /// `pagecast verify`
    Verify(Verification),
    /// `pagecast warm`
    Warm(Warm),
    /// A text that needs no configuration: `--help`, `--version`, `config --example`.
    Print(String),
}

impl Task {
    /// Whether it opens sockets and keeps files open, so that limits must hold together.
    pub(crate) fn is_bounded_by_limits(&self) -> bool {
        matches!(self, Self::Serve | Self::ShowConfig)
    }

    /// Whether it has to do with the root itself.
    pub(crate) fn looks_at_root(&self) -> bool {
        !matches!(self, Self::Warm(_))
    }
}

/// How a tree is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// Nothing is written; what would be is told.
    pub check: bool,
    /// The codings, each once, the most preferred first.
    pub codings: Vec<Coding>,
    /// Files that are read at once, from 1 on; none: one for each processor.
    pub threads: Option<usize>,
}

/// What a running server is to read into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// The files.
    pub globs: PathGlobs,
    /// The server's admin listener; none: the one of the configuration.
    pub admin: Option<Address>,
}

/// How a tree is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// One JSON document instead of lines.
    pub json: bool,
    /// Files that are read at once, from 1 on; none: one for each processor.
    pub threads: Option<usize>,
}
