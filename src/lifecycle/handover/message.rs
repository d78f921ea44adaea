//! What the two processes of an upgrade say to each other: JSON, a line for each message.

use serde::{Deserialize, Serialize};

use crate::net::listener::Scheme;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(super) enum HandoverMessage {
    /// The successor's first word.
    Hello {
        /// What it speaks.
        protocol: u32,
    },
    /// It can't be; the connection ends.
    Refused {
        /// Why, for the successor's log.
        reason: String,
    },
    /// A listening socket, whose descriptor comes with this line.
    Socket(Description),
    /// That were all sockets.
    Offered {
        /// How many.
        count: usize,
        /// The microseconds of the service manager's watchdog, which the predecessor feeds.
        watchdog_usec: Option<u64>,
    },
    /// The successor serves as soon as the predecessor lets it.
    Ready {
        /// Groups of sockets that it has taken.
        taken: Vec<usize>,
    },
    /// The sockets are the successor's.
    Yours,
}

/// What a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// Sockets of one address have the same number.
    pub(super) group: usize,
    /// What comes in on it.
    pub(super) role: Role,
    /// What is spoken on it; predecessors that know nothing of TLS do not say.
    #[serde(default)]
    pub(super) scheme: Scheme,
    /// The address as it was configured; none where a service manager has opened the socket.
    pub(super) asked: Option<String>,
    /// Whether its path is to be removed by whoever has it last.
    pub(super) owns_path: bool,
}

/// What comes in on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Requests for the site.
    Traffic,
    /// Questions about the server's health.
    Admin,
}

/// The protocol that is spoken here. One that differs is refused.
pub(super) const PROTOCOL: u32 = 1;
