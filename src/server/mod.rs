//! Starts the server, runs its workers and their accept loops, and stops it.

pub(crate) mod accept;
pub mod run;
pub(crate) mod workers;

pub use run::run;
