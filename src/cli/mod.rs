//! The command line, and the commands beside serving: `compress`, `verify`, `warm` and `sign`.
//!
//! `compress` and `verify` open names beneath the document root's handle as the server does, so that they read and write nothing
//! that it could not serve.
//!
//! - `command_table`, `command_line`, `action`: the commands with their arguments, how they are read, and what is read
//! - `compress`: writes missing and outdated sidecars
//! - `verify`: finds files that can't be served, or not as intended; `finding` is one of them
//! - `warm`: makes a running server read files into its caches
//! - `sign`: prints a signed URL
//! - `walk`, `compare`, `progress`, `outcome`: the tree, a sidecar and its original, the progress bar, the output

pub mod action;
pub mod command_line;
pub(crate) mod command_table;
pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod finding;
pub mod outcome;
pub(crate) mod progress;
pub(crate) mod sign;
pub(crate) mod verify;
pub(crate) mod walk;
pub(crate) mod warm;

pub use action::Action;
pub use command_line::{CommandLine, read_command_line};
pub use compress::compress;
pub use outcome::CommandOutput;
pub use sign::sign;
pub use verify::verify;
pub use warm::warm;
