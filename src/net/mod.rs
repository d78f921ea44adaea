//! Sockets: HTTP/1.1 (RFC 9112) and HTTP/2 (RFC 9113) between the kernel and the App.
//!
//! A connection: [`listener`] and [`socket`], then [`opening`], which reads the PROXY header (`proxy_header`, [`proxy_protocol`]) and
//! completes the TLS handshake ([`tls`]) of a `new_connection`. Then `http1` or `http2` serves it, and `linger` ends it. `reject`
//! answers clients that are not served.
//!
//! A request: `head` parses it, `body_discarder` reads past its body, `app_response` is what the App makes of it, `exchanges` and
//! `tracked_exchange` count it, `request_log` records it.
//!
//! A response: [`prerendered`] by the site; its body as [`segments`]. `response_parts` takes it apart, `render` and
//! `status_line` write the head of HTTP/1.1, `header_cache` holds that of HTTP/2. `send` sends the `send_queue` as far as
//! `residency_cursor`, `bulk_scheduler` and `pacing` allow; `deadline` and `stall` end what stands still, `send_error` and `abort`
//! say why.
//!
//! A worker: [`worker`] with its `worker_context`, [`connection_settings`], `copy_buffers`, and the `registration` of each connection.

mod abort;
mod app_response;
mod body_discarder;
mod bulk_scheduler;
pub mod connection_settings;
mod copy_buffers;
mod deadline;
mod exchanges;
pub mod head;
mod header_cache;
mod http1;
mod http2;
mod linger;
pub mod listener;
mod new_connection;
pub mod opening;
mod pacing;
pub mod prerendered;
mod proxy_header;
pub mod proxy_protocol;
mod registration;
pub(crate) mod reject;
mod render;
pub(crate) mod request_log;
mod residency_cursor;
mod response_parts;
pub mod segments;
mod send;
mod send_error;
mod send_queue;
pub mod socket;
mod stall;
mod status_line;
pub mod tls;
mod tracked_exchange;
pub mod worker;
pub mod worker_context;
