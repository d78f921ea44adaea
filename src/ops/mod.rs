//! What operators and load balancers see.

pub(crate) mod admin;
pub mod health;
mod process;
pub(crate) mod status;
pub(crate) mod warm;
