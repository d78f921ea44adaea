//! HTTP/2 connections (RFC 9113), from the preface to the close. The `h2` crate reads and writes the frames; what they
//! mean for the server is decided here.
//!
//! `serve` runs a connection; `connection` reads frames, begins streams and writes, and `deadlines` ends what stands
//! still. `io` is the socket as `h2` sees it, `flood_guard` inspects the frames on their way in, and `connection_waker`
//! decides what wakes the task. `stream` answers one request: `request` makes it one for the App, `response` makes the
//! head that is sent, `sending` sends the body, which `source` provides in chunks (`chunk`), and `open_stream` counts
//! and logs it and bounds its waits.

mod chunk;
mod connection;
mod connection_waker;
mod deadlines;
mod flood_guard;
mod io;
mod open_stream;
mod request;
mod response;
mod sending;
mod serve;
mod source;
mod stream;

pub(super) use flood_guard::PREFACE;
pub(super) use serve::serve;
