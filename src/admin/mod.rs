//! Admin listener: dashboard, metrics, status, actions of operators, and the health checks.
//!
//! `listener` accepts and routes, `authorize` checks tokens and origins. `context` holds the parts of the server, `readings`
//! collects their numbers, `registry` declares them once for `metrics`, `status` and `sampler` (which feeds `events` and
//! `dashboard`). `actions`, `warm` and `debug` are for operators.

pub(crate) mod actions;
pub(crate) mod authorize;
pub(crate) mod context;
pub(crate) mod dashboard;
pub(crate) mod debug;
pub(crate) mod events;
pub mod health;
pub(crate) mod listener;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod readings;
pub(crate) mod registry;
mod respond;
pub(crate) mod sampler;
pub(crate) mod slots;
pub(crate) mod status;
pub(crate) mod warm;
