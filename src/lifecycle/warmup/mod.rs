//! Reads recently used files into the caches after a restart, or when an operator requests it.

pub(crate) mod capacity;
pub mod progress;
pub(crate) mod protocol;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod state_dir;
pub(crate) mod walk;
