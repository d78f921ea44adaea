//! Responses that could not be sent completely: what the client is sent instead, and what is logged.

use std::io::{self, ErrorKind};

use crate::files::Fault;
use crate::files::faults::{Faults, fault_of};
use crate::http::canned_response::{self as canned, CannedResponse};
use crate::http::target::SitePath;
use crate::net::SendError;

/// The response in place of one of which nothing was sent. `None` if no client is left to read it.
pub(super) fn replacement_for(error: &SendError) -> Option<CannedResponse> {
    match error {
        // The next request finds the file as it is now.
        SendError::Changed => Some(canned::BUSY),
        SendError::Disk(error) if is_temporary(error) => Some(canned::BUSY),
        SendError::Disk(error) if error.kind() == ErrorKind::PermissionDenied => Some(canned::UNREADABLE),
        SendError::Disk(_) => Some(canned::FAILED),
        SendError::Sending(_) | SendError::Socket(_) | SendError::Stalled | SendError::TooSlow => None,
    }
}

/// Logs and counts why a response to the client named by `peer` was aborted. `file` is the file it was sent from: a
/// generated body names its file itself. `request` is the suffix with the request id.
pub(super) fn log_abort(
    error: &SendError,
    file: Option<&SitePath<'static>>,
    faults: &Faults,
    request: &str,
    peer: impl FnOnce() -> String,
) {
    match error {
        SendError::Socket(error) => log::debug!("{}: the connection ended: {error}{request}", peer()),
        SendError::Stalled => log::debug!("{}: the connection ended: {STALLED}{request}", peer()),
        SendError::TooSlow => log::debug!("{}: the connection ended: {TOO_SLOW}{request}", peer()),
        SendError::Changed | SendError::Disk(_) | SendError::Sending(_) => {
            log_fault(error, file, faults, request);
        }
    }
}

fn log_fault(error: &SendError, file: Option<&SitePath<'static>>, faults: &Faults, request: &str) {
    let name = file.map_or_else(|| "the file being sent".to_owned(), |file| format!("/{file}"));
    let is_changed = |error: &io::Error| error.kind() == ErrorKind::StaleNetworkFileHandle;
    let (fault, message) = match error {
        SendError::Changed => (Fault::Changed, format!("{name} changed while it was being sent")),
        SendError::Disk(error) if file.is_some() && error.kind() == ErrorKind::PermissionDenied => {
            (Fault::Denied, format!("{name} may not be read: {error}"))
        }
        SendError::Disk(error) if file.is_some() => {
            (Fault::Populate, format!("{name} could not be read: {error}"))
        }
        SendError::Disk(error) if is_changed(error) => (Fault::Changed, error.to_string()),
        SendError::Disk(error) => (Fault::Read, error.to_string()),
        SendError::Stalled | SendError::TooSlow => return,
        SendError::Sending(error) | SendError::Socket(error) => {
            (Fault::Send, format!("{name} could not be sent: {error}"))
        }
    };
    let subject = file.map_or_else(|| message.as_bytes(), |file| file.as_bytes());
    faults.report(fault, subject, format_args!("{message}{request}"));
}

/// The error of a streamed body, with the message of its generator.
pub(super) fn body_error(error: Box<dyn std::error::Error>) -> SendError {
    SendError::Disk(error.downcast().map_or_else(|error| io::Error::other(error.to_string()), |error| *error))
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
