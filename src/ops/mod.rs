//! What operators and load balancers see.

pub(crate) mod admin;
mod attempts;
mod dashboard;
mod debug;
pub(crate) mod entry;
mod events;
pub mod health;
pub(crate) mod logger;
pub(crate) mod metrics;
pub(crate) mod operators;
pub(crate) mod places;
mod process;
mod pulse;
pub(crate) mod readings;
pub mod service;
pub(crate) mod status;
pub(crate) mod warm;
