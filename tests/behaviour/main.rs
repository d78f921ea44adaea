//! The real server on real sockets, a module per behaviour.

#![allow(unreachable_pub, reason = "one crate, which nobody reaches into")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end by a panic")]

mod admin;
mod archives;
mod basics;
mod browser;
mod changed_on_disk;
mod chromium;
mod cli;
mod client;
mod clients;
mod coded;
mod cold;
mod conditional;
mod configured;
mod connections;
mod continuity;
mod cors;
mod dashboard;
mod directories;
mod disk;
mod encodings;
mod error_pages;
mod faults;
mod files;
mod framing;
mod handover;
mod in_process;
mod integrity;
mod limits;
mod live;
mod methods;
mod pacing;
mod panics;
mod ranges;
mod redirects;
mod reload;
mod rules;
mod security;
mod single_page;
mod site;
mod slashes;
mod slow_clients;
mod slowhttptest;
mod soak;
mod stopping;
mod targets;
mod traffic;
mod tree_commands;
mod warmth;
