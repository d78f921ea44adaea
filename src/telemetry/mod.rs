//! What the server records about itself: metrics, the access log, the diagnostics log.

pub mod access_log;
pub(crate) mod log_alias;
pub(crate) mod log_throttle;
pub(crate) mod logger;
pub mod metrics;
