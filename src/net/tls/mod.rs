//! TLS: `config` holds what all handshakes share, with `certificates` from files, chosen by `names`. `handshake` begins a `session`, which encrypts a connection.

pub(crate) mod certificates;
pub mod config;
pub(super) mod handshake;
mod names;
pub(super) mod session;
