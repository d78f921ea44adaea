//! The commands of the program, with their arguments.

use crate::config::{Address, ConfigUse, DurationSetting};
use crate::http::encoding::Encoding;
use crate::http::method::ReadMethod;
use crate::http::path_glob::PathGlobs;

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Action {
    /// `pagecast` or `pagecast serve`
    #[default]
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
    /// What the command uses of the configuration.
    pub fn config_use(&self) -> ConfigUse {
        match self {
            Self::Serve | Self::ShowConfig => ConfigUse::Serving,
            Self::Compress(_) | Self::Verify(_) => ConfigUse::Tree,
            Self::Sign(_) => ConfigUse::LinkKeys,
            Self::Warm(_) | Self::Print(_) => ConfigUse::Settings,
        }
    }
}

/// Arguments of `compress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressArgs {
    /// Write nothing; report what would be written.
    pub check: bool,
    /// Encodings, each once, the most preferred first.
    pub encodings: Vec<Encoding>,
    /// Files that are read at once, at least 1. `None`: one for each processor.
    pub threads: Option<usize>,
}

/// Arguments of `warm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmArgs {
    /// The files.
    pub globs: PathGlobs,
    /// The server's admin listener. `None`: the one of the configuration.
    pub admin: Option<Address>,
}

/// Arguments of `sign`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignArgs {
    /// The path as it is on the disk, from the root of the site on, in absolute form; a slash at its end names a directory.
    pub path: Vec<u8>,
    /// Time for which the URL is valid.
    pub expires: DurationSetting,
    /// Id of the key. `None`: the only key in the file.
    pub key_id: Option<String>,
    /// Client address or network that can use the URL.
    pub client: Option<String>,
    /// File name for the download; if empty, the name of the file.
    pub download: Option<String>,
    /// Method for which the URL is valid.
    pub method: ReadMethod,
    /// Prefix of the URL, such as `https://files.example`, or empty.
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
            method: ReadMethod::Get,
            base: String::new(),
        }
    }
}

/// How a tree is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyArgs {
    /// One JSON document instead of lines.
    pub json: bool,
    /// Files that are read at once, at least 1. `None`: one for each processor.
    pub threads: Option<usize>,
}
