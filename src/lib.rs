//! pagecast serves a directory.

pub mod http;
