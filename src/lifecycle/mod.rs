//! The life of the process.
//!
//! - `phase`: the phases from start to stop
//! - `reload`, `worker_updates`: reload of the configuration, and how workers get the new one
//! - `config_reads`, `config_change`: what a reload reads, and what it changes
//! - `handover`: listening sockets from a service manager or a predecessor, and to a successor
//! - `warmup`: cache warm-up after a restart or on request

pub(crate) mod config_change;
pub(crate) mod config_reads;
pub(crate) mod handover;
pub mod phase;
pub mod reload;
pub mod warmup;
pub(crate) mod worker_updates;

pub use handover::Listeners;
pub(crate) use handover::{
    ActivatedSockets, Predecessor, SocketOffer, Successor, UpgradePath, UpgradeSocket, log_failed_handover,
};
pub use phase::{Lifecycle, Phase};
pub use reload::ReloadRequests;
pub(crate) use reload::{ConfigInEffect, ReloadTargets, Reloader, UPDATE_TIMEOUT};
pub(crate) use warmup::{restore::WarmupState, warmer::Warmup};
pub(crate) use worker_updates::{UpdateReceiver, WorkerUpdates};
