//! Sockets: HTTP/1.1 (RFC 9112) and HTTP/2 (RFC 9113) between the kernel and the App.
//!
//! A connection: [`listener`] and [`socket`], then [`opening`], which reads the PROXY header (`proxy_header`,
//! [`proxy_protocol`]) and completes the TLS handshake ([`tls`]) of a `new_connection`. Then `http1` or `http2` serves
//! it, and `linger` ends it. `reject` answers clients that are not served.
//!
//! A request: `head` parses it, `body_discarder` reads past its body, [`app`] calls the App, `exchanges` counts it,
//! `request_log` records it.
//!
//! A response: [`prerendered`] by the site; its body as [`segments`]. `response_parts` takes it apart, `render` and
//! `status_line` write the head of HTTP/1.1, `header_cache` holds that of HTTP/2. `send` sends the `send_queue` as far
//! as `residency_cursor`, `bulk_scheduler` and `pacing` allow; `deadline` and `stall` end what stands still, `abort`
//! says why.
//!
//! A worker: [`worker`] with its `copy_buffers`, and the `registration` of each connection.

mod abort;
pub mod app;
mod body_discarder;
mod bulk_scheduler;
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
mod send_queue;
pub mod socket;
mod stall;
mod status_line;
pub mod tls;
pub mod worker;

use self::abort::SendError;
use self::app::AppService;
use self::body_discarder::{BodyDiscarder, BodyFraming, DiscardProgress};
use self::bulk_scheduler::{BulkScheduler, BulkTurn};
use self::copy_buffers::{BUFFER, CopyBuffers, PooledBytes};
use self::deadline::Deadline;
use self::exchanges::Exchanges;
use self::head::{FramingHeaders, HeadLimits, LastHost, ParsedHead, Scan, Scanner, method_of};
use self::header_cache::{HeaderMapCache, append_header, append_header_lines};
use self::linger::Linger;
use self::new_connection::NewConnection;
use self::pacing::{Pacer, pace_of};
use self::prerendered::{PacedResponse, PrerenderedBody, PrerenderedResponse};
use self::registration::{LAST_CHANCE, WorkerRegistration};
use self::reject::{reject, reject_at_once, rejection, rejection_message};
use self::render::{Framing, GeneratedBody, StreamFraming, lines_without, render};
use self::residency_cursor::{ResidencyCursor, check_unchanged};
use self::response_parts::{ResponseParts, canned, describes_body, is_framing, status_of};
use self::segments::{Segment, Segments, Window, body_of, distance};
use self::send_queue::SendQueue;
use self::socket::Socket;
use self::stall::{ReceiveRate, StallTimer};
use self::status_line::StatusLines;
use self::worker::{Worker, WorkerContext};
