//! pagecast serves a directory.

pub mod config;
