//! HTTP/1.1 connections (RFC 9112), from the first request to the close.
//!
//! `serve` runs a connection: `read_head` waits for a request, `exchange` has the App answer it, `flush` sends.
//! `request_body` and `response_body` read and send bodies. All of them work on a [`Connection`].
//!
//! [`Connection`]: connection::Http1Connection

mod connection;
mod exchange;
mod flush;
mod read_head;
mod request_body;
mod response_body;
mod serve;

pub(super) use serve::serve;
