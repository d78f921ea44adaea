//! What operators and load balancers see.

pub(crate) mod admin;
pub mod health;
pub(crate) mod logger;
mod process;
pub mod service;
pub(crate) mod status;
pub(crate) mod warm;
