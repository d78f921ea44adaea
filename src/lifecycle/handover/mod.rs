//! Listening sockets that outlive a process: those that a service manager has opened, and those that a successor takes over.
//!
//! | room          | what it knows                                                             |
//! |---------------|---------------------------------------------------------------------------|
//! | `listeners`   | where the sockets of this process come from                               |
//! | `inherited`   | sockets from a service manager, checked                                   |
//! | `predecessor` | the running server whose sockets are taken over: what the new process does |
//! | `offer`       | the sockets as they are offered to a successor: what the old process does |
//! | `place`       | the path of the upgrade socket, and who may be there                      |
//! | `channel`     | lines and descriptors between the two                                     |
//! | `message`     | what the lines say                                                        |
//!
//! ```text
//! successor                      predecessor
//!   hello, protocol   ──────▶
//!                     ◀──────      one line for each socket, with its descriptor; how many; what its watchdog is
//!   ... starts; it accepts nothing yet ...
//!   ready, and which  ──────▶
//!                     ◀──────      yours; it stops accepting
//!   takes the path of the upgrade socket, tells the service manager, closes
//! ```
//!
//! Whatever ends the connection before `ready` leaves the predecessor as it was.

mod channel;
mod inherited;
mod listeners;
mod message;
mod offer;
mod predecessor;
mod upgrade_socket;

pub(crate) use listeners::ActivatedSockets;
pub use listeners::Listeners;
pub(crate) use offer::{SocketOffer, Successor, came_to_nothing, failures};
pub(crate) use predecessor::Predecessor;
pub(crate) use upgrade_socket::{UpgradePath, UpgradeSocket};
