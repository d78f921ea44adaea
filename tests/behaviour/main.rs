//! The real server on real sockets, a module per behaviour.

mod basics;
mod changed_on_disk;
mod cold;
mod files;
mod limits;
mod panics;
mod site;
mod slow_clients;
mod stopping;
