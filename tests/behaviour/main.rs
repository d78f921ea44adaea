//! The real server on real sockets, a module per behaviour.

mod basics;
mod site;
