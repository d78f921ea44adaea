//! Responses that could not be sent completely: why, what the client is sent instead, and what is logged.

use std::fmt::Display;
use std::io::{self, ErrorKind};

use crate::files::Fault;
use crate::files::faults::{Faults, fault_of};
use crate::http::canned_response::{self as canned, CannedResponse};
use crate::http::target::SitePath;
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

    /// The error of a streamed body, with the message of its generator.
    pub(super) fn of_body(error: Box<dyn std::error::Error>) -> Self {
        Self::Disk(error.downcast().map_or_else(|error| io::Error::other(error.to_string()), |error| *error))
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

    /// The response in place of one of which nothing was sent. `None` if no client is left to read it.
    pub(super) fn replacement(&self) -> Option<CannedResponse> {
        match self {
            // The next request finds the file as it is now.
            Self::Changed => Some(canned::BUSY),
            Self::Disk(error) if is_temporary(error) => Some(canned::BUSY),
            Self::Disk(error) if error.kind() == ErrorKind::PermissionDenied => Some(canned::UNREADABLE),
            Self::Disk(_) => Some(canned::FAILED),
            Self::Sending(_) | Self::Socket(_) | Self::Stalled | Self::TooSlow => None,
        }
    }

    /// Logs and counts why a response to the client named by `peer` was aborted. `file` is the file it was sent from: a
    /// generated body names its file itself. `request` is the suffix with the request id.
    pub(super) fn log(
        &self,
        file: Option<&SitePath<'static>>,
        faults: &Faults,
        request: &str,
        peer: impl FnOnce() -> String,
    ) {
        let name = || file.map_or_else(|| "the file being sent".to_owned(), |file| format!("/{file}"));
        let (fault, message) = match self {
            Self::Socket(error) => return log_end(peer, error, request),
            Self::Stalled => return log_end(peer, &STALLED, request),
            Self::TooSlow => return log_end(peer, &TOO_SLOW, request),
            Self::Changed => (Fault::Changed, format!("{} changed while it was being sent", name())),
            Self::Disk(error) if file.is_some() && error.kind() == ErrorKind::PermissionDenied => {
                (Fault::Denied, format!("{} may not be read: {error}", name()))
            }
            Self::Disk(error) if file.is_some() => {
                (Fault::Populate, format!("{} could not be read: {error}", name()))
            }
            Self::Disk(error) if error.kind() == ErrorKind::StaleNetworkFileHandle => {
                (Fault::Changed, error.to_string())
            }
            Self::Disk(error) => (Fault::Read, error.to_string()),
            Self::Sending(error) => (Fault::Send, format!("{} could not be sent: {error}", name())),
        };
        let subject = file.map_or_else(|| message.as_bytes(), |file| file.as_bytes());
        faults.report(fault, subject, format_args!("{message}{request}"));
    }
}

fn log_end(peer: impl FnOnce() -> String, reason: &dyn Display, request: &str) {
    log::debug!("{}: the connection ended: {reason}{request}", peer());
}

/// Returns true if the same request may succeed in a moment.
fn is_temporary(error: &io::Error) -> bool {
    let is_short = error.raw_os_error().is_some_and(|code| fault_of(code, Fault::Populate).1);
    let is_ours = error.raw_os_error().is_none();
    let has_passed = || matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::StaleNetworkFileHandle);
    is_short || error.kind() == ErrorKind::TimedOut || (is_ours && has_passed())
}

const STALLED: &str = "the client took nothing for stall_timeout";

const TOO_SLOW: &str = "the client took less than min_rate while connections ran short";

/// Logged when a streamed body stands still.
const CHUNK_TIMEOUT: &str = "the disk did not deliver the next chunk of a listing, archive or generated body";
