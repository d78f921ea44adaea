//! What operators and load balancers see: the admin listener with its dashboard, metrics, status and actions, and the health paths.

pub(crate) mod actions;
pub(crate) mod attempts;
pub(crate) mod authorize;
pub(crate) mod dashboard;
pub(crate) mod debug;
pub(crate) mod events;
pub mod health;
pub(crate) mod listener;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod readings;
pub(crate) mod sampler;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod warm;
