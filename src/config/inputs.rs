//! Inputs of the process, from which its configuration is loaded again on a reload.

use std::env;
use std::ffi::OsString;

use super::error::ConfigErrors;
use super::limits::SystemFacts;
use super::load::{LoadedConfig, load};
use super::system::system_facts;
use crate::config::file_reader::FileReader;

/// The arguments, the environment and the facts of the system, as they were at start.
#[derive(Debug, Clone)]
pub struct ProcessInputs {
    /// Without the program's name.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Limits of the system.
    pub facts: SystemFacts,
}

impl ProcessInputs {
    /// The inputs of this process. Raises the soft limit on open files.
    pub fn to_the_process() -> Self {
        Self {
            arguments: env::args_os().skip(1).collect(),
            variables: env::vars_os().collect(),
            facts: system_facts(),
        }
    }

    /// Finds every setting's value as [`load`] does: the files are read anew, all else is as it was at start.
    ///
    /// # Errors
    /// All errors.
    pub fn load(&self, disk: &dyn FileReader) -> Result<LoadedConfig, ConfigErrors> {
        load(self.arguments.iter().cloned(), self.variables.iter().cloned(), disk, &self.facts)
    }
}
