//! Encrypted connections.
//!
//! | room        | what it knows                                                        |
//! |-------------|----------------------------------------------------------------------|
//! | `handshake` | how a session begins, within its time and among how many others      |
//! | `session`   | a session under way                                                  |

pub(crate) mod certificates;
pub mod config;
pub(crate) mod handshake;
pub(crate) mod names;
pub(crate) mod session;
pub(crate) mod validity;
