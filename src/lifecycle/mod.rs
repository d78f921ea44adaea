//! The life of the process: phases, configuration reload, handover to a successor, cache warmup.

pub(crate) mod handover;
pub mod phase;
pub mod reload;
pub mod warmup;
