//! Why a response could not be sent completely.

use std::io::{self, ErrorKind};

use crate::telemetry::metrics::exchange::ExchangeOutcome;

/// Why a response could not be sent completely. The connection then closes: a body is never padded and never spliced.
#[derive(Debug)]
pub(super) enum SendError {
    /// The client disconnected, or the socket failed.
    Socket(io::Error),
    /// The client took nothing for `stall_timeout`.
    Stalled,
    /// The client took less than `min_rate` while connections ran short.
    TooSlow,
    /// The file changed after the response began.
    Changed,
    /// The disk did not deliver a window, or the next chunk of a streamed body.
    Disk(io::Error),
    /// The disk failed while the kernel sent from a file.
    Sending(io::Error),
}

impl SendError {
    /// The client reset the stream or the connection.
    pub(super) fn reset() -> Self {
        Self::Socket(ErrorKind::ConnectionReset.into())
    }

    /// The disk did not deliver a window in time.
    pub(super) fn disk_timeout() -> Self {
        Self::Disk(ErrorKind::TimedOut.into())
    }

    /// A streamed body did not deliver its next chunk in time.
    pub(super) fn chunk_timeout() -> Self {
        Self::Disk(io::Error::new(ErrorKind::TimedOut, CHUNK_TIMEOUT))
    }

    /// The outcome of the exchange.
    pub(super) fn outcome(&self) -> ExchangeOutcome {
        match self {
            Self::Socket(_) => ExchangeOutcome::ClientGone,
            Self::Stalled => ExchangeOutcome::Stalled,
            Self::TooSlow => ExchangeOutcome::TooSlow,
            Self::Changed => ExchangeOutcome::Changed,
            Self::Disk(_) | Self::Sending(_) => ExchangeOutcome::Failed,
        }
    }
}

/// Logged when a streamed body stands still.
const CHUNK_TIMEOUT: &str = "the disk did not deliver the next chunk of a listing, archive or generated body";
