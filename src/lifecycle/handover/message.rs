//! Messages between the two processes of an upgrade: JSON, one line for each.

use serde::{Deserialize, Serialize};

use crate::net::listener::Scheme;

/// A message. Its names on the wire are read by other versions of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum HandoverMessage {
    /// First message of the successor.
    Hello {
        /// Version of its protocol.
        protocol: u32,
    },
    /// The predecessor refuses; the connection ends.
    Refused {
        /// The reason, for the successor's log.
        reason: String,
    },
    /// A listening socket, whose descriptor is sent with this line.
    Socket(Description),
    /// All sockets have been sent.
    Offered {
        /// Their number.
        count: usize,
        /// Timeout of the service manager's watchdog in microseconds, if the predecessor feeds one.
        watchdog_usec: Option<u64>,
    },
    /// The successor is ready to accept.
    Ready {
        /// Groups of sockets that it takes.
        taken: Vec<usize>,
    },
    /// The sockets belong to the successor now.
    Yours,
}

/// Description of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// Sockets of one address have the same number.
    pub(super) group: usize,
    pub(super) role: Role,
    /// Its scheme; predecessors without TLS don't send it.
    #[serde(default)]
    pub(super) scheme: Scheme,
    /// The address as it was configured; `None` if a service manager opened the socket.
    pub(super) asked: Option<String>,
    /// Whether the process that closes it last removes its path.
    pub(super) owns_path: bool,
}

/// What a socket is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Requests for the site.
    Traffic,
    /// Requests for the admin listener.
    Admin,
}

/// Version of the protocol. Others are refused.
pub(super) const PROTOCOL: u32 = 1;
