//! Who may have how much.

pub(crate) mod connections;
pub(crate) mod gate;
