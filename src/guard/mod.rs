//! Who may have how much.

pub(crate) mod connections;
