//! What a configuration is loaded from, besides its file.

use std::ffi::OsString;

use super::{Setting, ValueOrigin};
use crate::sys::system_facts::SystemFacts;

/// Inputs of the process, from which its configuration is loaded again on a reload.
#[derive(Debug, Clone, Default)]
pub struct ProcessInputs {
    /// The command line.
    pub command_line: TextLayer,
    /// The command that may have been meant by `ROOT`.
    pub similar_command: Option<&'static str>,
    /// What the command uses of the configuration.
    pub config_use: ConfigUse,
    /// The whole environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Limits of the system.
    pub facts: SystemFacts,
}

/// Settings of the command line or of the environment, not parsed yet.
#[derive(Debug, Clone, Default)]
pub struct TextLayer {
    /// Path of the configuration file.
    pub config_file: Option<(OsString, ValueOrigin)>,
    /// The settings; of two values of a setting, the latter counts.
    pub settings: Vec<(&'static Setting, OsString, ValueOrigin)>,
}

/// What a command uses of the configuration. Only that is checked against the system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConfigUse {
    /// All: the command opens sockets, or shows what would be served.
    #[default]
    Serving,
    /// The document root.
    Tree,
    /// The keys of signed URLs.
    LinkKeys,
    /// The settings alone.
    Settings,
}
