//! Looking after a tree before it is served: what `pagecast compress` and `pagecast verify` do.
//!
//! | room        | what it knows                                                        |
//! |-------------|----------------------------------------------------------------------|
//! | `walk`      | every name below the root, as the server would find it               |
//! | `compress`  | which sidecars are missing or older than their originals             |
//! | `verify`    | what in a tree can't be served, or not as it was meant               |
//! | `finding`   | one thing that is wrong with a tree                                  |
//! | `checksum`  | files of checksums                                                   |
//! | `compare`   | whether a sidecar is of the original beside it                       |
//! | `progress`  | the bar on a terminal                                                |
//! | `threads`   | how many work at once                                                |
//!
//! Names are opened beneath the root's handle as the server opens them, so that neither command looks at, or writes, anything
//! that the server could not serve.

use std::io;
use std::path::Path;

/// What a command has to say when it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOutput {
    /// For standard output: lines, or one JSON document.
    pub out: String,
    /// For standard error: lines.
    pub err: String,
    /// Whether there is nothing that somebody should look at.
    pub is_clean: bool,
}

impl CommandOutput {
    pub(crate) fn no_root(path: &Path, error: &io::Error) -> Self {
        Self { err: format!("pagecast: {}: {error}\n", path.display()), ..Self::default() }
    }

    pub(crate) fn no_threads(error: &rayon::ThreadPoolBuildError) -> Self {
        Self { err: format!("pagecast: no threads: {error}\n"), ..Self::default() }
    }
}
