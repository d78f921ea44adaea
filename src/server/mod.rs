//! Starts the server, runs its workers and their accept loops, and stops it.
//!
//! - `run`: the phases of the server, from start to stop
//! - `signals`: requests to stop, reload or reopen the access log
//! - `components`: what is built before the workers start
//! - `workers`: the worker threads, and what one of them does
//! - `accept`: accept loops
//! - `app`: the actix App of a worker
//! - `housekeeping`: periodic tasks

pub(crate) mod accept;
pub(crate) mod app;
pub(crate) mod components;
pub(crate) mod housekeeping;
pub mod run;
pub mod signals;
pub(crate) mod workers;

pub use crate::lifecycle::handover::Listeners;
pub use run::{run, serve};
pub use signals::Signals;
