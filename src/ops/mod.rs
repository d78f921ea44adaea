//! What operators and load balancers see.

pub(crate) mod admin;
pub mod health;
pub(crate) mod logger;
pub(crate) mod metrics;
mod process;
pub(crate) mod readings;
pub mod service;
pub(crate) mod status;
pub(crate) mod warm;
