//! Reads recently used files into the caches after a restart, or when an operator requests it.
//!
//! - `warmer`: reads files into the caches, as far as `capacity` allows, and counts in `progress`, which `pagecast warm` shows
//! - `restore`: saves the recently used files at a stop and warms them at the next start
//! - `state_dir`, `record`: the directory and the format of that list
//! - `walk`: the files that globs match

pub(crate) mod capacity;
pub mod progress;
pub(crate) mod record;
pub(crate) mod restore;
pub(crate) mod state_dir;
pub(crate) mod walk;
pub(crate) mod warmer;
