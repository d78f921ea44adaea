//! Errors in the configuration, for the operator.

use std::fmt;
use std::path::PathBuf;

use super::ValueOrigin;

/// One error. Its text is one line and names the accepted values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// A name that no setting has.
    Unknown {
        /// The name as it was given, with its place: `PAGECAST_WORKER`, `--worker`, `a.toml:3: worker`.
        name: String,
        /// The known name that is nearest, in the same style.
        nearest: String,
    },
    /// A value that a setting does not accept.
    BadValue {
        /// The name as it was given, with its place.
        name: String,
        /// The value as it was given.
        value: String,
        /// Why it is refused, continuing "the value …".
        reason: String,
        /// The accepted values, bounds included.
        accepted: String,
    },
    /// A file that cannot be read, or is not TOML.
    File {
        /// The file, as it was given.
        path: PathBuf,
        /// The line, where there is one.
        line: Option<usize>,
        /// The reason.
        reason: String,
    },
    /// An invalid command line.
    Usage(String),
    /// Values that are valid by themselves, but not together or not on this system.
    Conflict(String),
}

impl ConfigError {
    /// A bad value of the setting or key `name`, which includes its place.
    pub(crate) fn bad_value_at(name: String, value: &str, reason: &str, accepted: String) -> Self {
        Self::BadValue { name, value: shortened(value), reason: reason.to_owned(), accepted }
    }
}

/// The name that a value was given under, with its place.
pub(crate) fn name_at(origin: &ValueOrigin, key: &str) -> String {
    match origin {
        ValueOrigin::Variable(name) | ValueOrigin::Flag(name) => name.clone(),
        ValueOrigin::Argument => "ROOT".to_owned(),
        ValueOrigin::File { path, line } => format!("{}:{line}: {key}", path.display()),
        ValueOrigin::Default | ValueOrigin::Derived => format!("{key} (default)"),
    }
}

/// Keeps a message to one line of a readable length.
pub(crate) fn shortened(value: &str) -> String {
    let mut shown: String = value.chars().take(VALUE_CHARS_MAX).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}

const VALUE_CHARS_MAX: usize = 100;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, nearest } => {
                write!(f, "{} is not known; the nearest known name is {nearest}", name.escape_debug())
            }
            Self::BadValue { name, value, reason, accepted } => {
                write!(f, "{name}: the value {value:?} {reason}; accepted: {accepted}")
            }
            Self::File { path, line: Some(line), reason } => write!(f, "{}:{line}: {reason}", path.display()),
            Self::File { path, line: None, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Usage(text) | Self::Conflict(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

/// All errors of one load; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` if there are no errors.
    ///
    /// # Errors
    /// All errors.
    pub fn none_or(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// The errors: of the form of flags and variables, then of values in the file, the environment and the flags,
    /// then of all together.
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

impl From<Vec<ConfigError>> for ConfigErrors {
    fn from(errors: Vec<ConfigError>) -> Self {
        Self(errors)
    }
}

impl fmt::Display for ConfigErrors {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = if self.0.len() == 1 { "error" } else { "errors" };
        write!(f, "pagecast: {} {errors} in the configuration", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
