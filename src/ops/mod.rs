//! What operators and load balancers see.

pub(crate) mod admin;
pub mod health;
pub(crate) mod logger;
