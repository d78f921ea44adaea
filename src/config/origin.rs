//! Where a value comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The layer, and the place in it, that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// The built-in default.
    Default,
    /// Derived from what the system allows, as no value was given.
    Derived,
    /// A line of the file, counted from 1.
    File {
        /// The file's path as it was given.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// The variable of that name.
    Variable(String),
    /// The flag of that name, dashes included.
    Flag(String),
    /// The argument `ROOT`.
    Argument,
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived => f.write_str("derived"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Argument => f.write_str("argument ROOT"),
        }
    }
}

/// The origin of every setting's value, and of every rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueOrigins {
    settings: BTreeMap<&'static str, ValueOrigin>,
    /// Where each rule begins, in their order.
    pub rules: Vec<ValueOrigin>,
}

impl ValueOrigins {
    /// Where the value of the setting `key` comes from.
    pub fn of(&self, key: &str) -> &ValueOrigin {
        self.settings.get(key).unwrap_or(&ValueOrigin::Default)
    }

    pub(crate) fn set(&mut self, key: &'static str, origin: ValueOrigin) {
        self.settings.insert(key, origin);
    }
}
