//! HTTP/1.1 connections (RFC 9112), from the first request to the close.
//!
//! `serve` runs a connection: `read_head` waits for a request, `exchange` has the App answer it, `flush` sends.
//! `body` reads and sends bodies. All of them work on a [`Connection`].
//!
//! [`Connection`]: connection::Http1Connection

mod body;
mod connection;
mod exchange;
mod flush;
mod read_head;
mod serve;

pub(super) use serve::serve;
