//! Listening sockets that outlive a process: from a service manager, and from a predecessor to a successor.
//!
//! - `listeners`: gathers the sockets of this process
//! - `inherited`: checks sockets from a service manager
//! - `predecessor`: the running server whose sockets the new process takes over
//! - `offer`: offers the sockets of the old process to a successor
//! - `upgrade_socket`: the unix socket on which the two meet
//! - `channel`, `message`: the protocol between the two
//!
//! ```text
//! successor                      predecessor
//!   hello, protocol   ──────▶
//!                     ◀──────      a line and a descriptor for each socket; their number; the watchdog's timeout
//!   ... starts; it accepts nothing yet ...
//!   ready, groups     ──────▶
//!                     ◀──────      yours; it stops accepting
//!   moves its upgrade socket to the path, reports to the service manager, closes the connection
//! ```
//!
//! If the connection ends before `ready`, the predecessor serves on as before.

mod channel;
mod inherited;
mod listeners;
mod message;
mod offer;
mod predecessor;
mod upgrade_socket;

pub(crate) use inherited::ActivatedSockets;
pub use listeners::Listeners;
pub(crate) use offer::{FAILURES, SocketOffer, Successor, log_failed_handover};
pub(crate) use predecessor::Predecessor;
pub(crate) use upgrade_socket::{UpgradePath, UpgradeSocket};
