//! The units in which files are looked at and read.

/// The unit in which files are checked, populated and sent. Windows start at its multiples.
pub(crate) const WINDOW: u64 = 256 * 1024;

/// The unit in which cold files are read: several windows, since each read costs a way to another thread and back. Batches start at
/// its multiples, so that those who read the same file meet in them.
pub(crate) const BATCH: u64 = 4 * WINDOW;
