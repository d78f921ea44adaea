//! The units in which files are checked, read and sent.

/// The unit in which files are checked, populated and sent. Windows start at its multiples.
///
/// Decision: docs/decisions/048-window-size.md.
pub(crate) const WINDOW: u64 = 256 * 1024;

/// The unit in which cold files are read: several windows, since each read costs a switch to another thread and back. Batches
/// start at its multiples, so that readers of one file share them.
pub(crate) const BATCH: u64 = 4 * WINDOW;
