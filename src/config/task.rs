//! What the program can be asked to do.

use super::address::Address;
use super::path_glob::PathGlobs;
use crate::config::duration_setting::DurationSetting;
use crate::http::encoding::Encoding;
use crate::http::signed_url::SignedMethod;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `pagecast` or `pagecast serve`
    Serve,
    /// `pagecast config`
    ShowConfig,
    /// `pagecast compress`
    Compress(CompressArgs),
    /// `pagecast verify`
    Verify(VerifyArgs),
    /// `pagecast warm`
    Warm(WarmArgs),
    /// `pagecast sign`
    Sign(SignArgs),
    /// A text that needs no configuration: `--help`, `--version`, `config --example`.
    Print(String),
}

impl Action {
    /// Whether it opens sockets and keeps files open, so that limits must hold together.
    pub(crate) fn is_bounded_by_limits(&self) -> bool {
        matches!(self, Self::Serve | Self::ShowConfig)
    }

    /// Whether it reads the files of secrets.
    pub(crate) fn has_to_do_with_secrets(&self) -> bool {
        matches!(self, Self::Serve | Self::ShowConfig | Self::Sign(_))
    }

    /// Whether it has to do with the root itself.
    pub(crate) fn looks_at_root(&self) -> bool {
        !matches!(self, Self::Warm(_) | Self::Sign(_))
    }
}

/// How a tree is compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressArgs {
    /// Nothing is written; what would be is told.
    pub check: bool,
    /// The codings, each once, the most preferred first.
    pub codings: Vec<Encoding>,
    /// Files that are read at once, from 1 on; none: one for each processor.
    pub threads: Option<usize>,
}

/// What a running server is to read into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmArgs {
    /// The files.
    pub globs: PathGlobs,
    /// The server's admin listener; none: the one of the configuration.
    pub admin: Option<Address>,
}

/// What a link is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignArgs {
    /// The path as it is on the disk, from the root of the site on, in absolute form; a slash at its end names a directory.
    pub path: Vec<u8>,
    /// For how long it opens the path.
    pub expires: DurationSetting,
    /// The key; none: the only one there is.
    pub key_id: Option<String>,
    /// From where it may be used.
    pub client: Option<String>,
    /// The name under which the file is to be saved; empty: its own.
    pub download: Option<String>,
    /// For which method.
    pub method: SignedMethod,
    /// What stands before the path: `https://files.example`, or nothing.
    pub base: String,
}

#[cfg(test)]
impl SignArgs {
    /// What `pagecast sign PATH` makes.
    pub(crate) fn usual(path: &str) -> Self {
        Self {
            path: path.as_bytes().to_vec(),
            expires: DurationSetting::hours(1),
            key_id: None,
            client: None,
            download: None,
            method: SignedMethod::Get,
            base: String::new(),
        }
    }
}

/// How a tree is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyArgs {
    /// One JSON document instead of lines.
    pub json: bool,
    /// Files that are read at once, from 1 on; none: one for each processor.
    pub threads: Option<usize>,
}
