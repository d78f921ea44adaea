//! The real server on real sockets, a module per behaviour.

#![allow(unreachable_pub, reason = "one crate, which nobody reaches into")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by a panic")]

mod basics;
mod cli;
mod client;
mod conditional;
mod framing;
mod methods;
mod ranges;
mod site;
mod targets;
mod traffic;
