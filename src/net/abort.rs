//! Responses that could not be finished: who is told what.

use std::io::{self, ErrorKind};

use actix_http::StatusCode;

use super::head::HeadError;
use super::send::SendError;
use crate::files::Fault;
use crate::files::faults::{Faults, fault_of};
use crate::http::target::SitePath;

/// What the client hears where nothing of the response has left; none where nobody is left to hear it.
pub(super) fn refusal_of(cut: &SendError) -> Option<HeadError> {
    match cut {
        // The next request finds the file as it is now.
        SendError::Changed => Some(BUSY),
        SendError::Disk(error) if is_passing(error) => Some(BUSY),
        SendError::Disk(error) if error.kind() == ErrorKind::PermissionDenied => Some(DENIED),
        SendError::Disk(_) => Some(FAILED),
        SendError::Sending(_) | SendError::Socket(_) | SendError::Stalled | SendError::TooSlow => None,
    }
}

/// Logs and counts `cut`, of the response to whoever `who` names, which sent from `file`. What is made piece by piece, and is
/// no file, says itself of which one it speaks.
pub(super) fn tell(
    cut: &SendError,
    file: Option<&SitePath<'static>>,
    faults: &Faults,
    request: &str,
    who: impl FnOnce() -> String,
) {
    match cut {
        SendError::Socket(error) => log::debug!("{}: the connection ended: {error}{request}", who()),
        SendError::Stalled => log::debug!("{}: the connection ended: {NOTHING_TAKEN}{request}", who()),
        SendError::TooSlow => log::debug!("{}: the connection ended: {TOO_LITTLE}{request}", who()),
        fault => tell_fault(fault, file, faults, request),
    }
}

fn tell_fault(cut: &SendError, file: Option<&SitePath<'static>>, faults: &Faults, request: &str) {
    let name = file.map_or_else(|| "what was sent".to_owned(), |file| format!("/{file}"));
    let is_changed = |error: &io::Error| error.kind() == ErrorKind::StaleNetworkFileHandle;
    let (fault, words) = match cut {
        SendError::Changed => (Fault::Changed, format!("{name} changed while it was sent")),
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
    let what = file.map_or_else(|| words.as_bytes(), |file| file.as_bytes());
    faults.report(fault, what, format_args!("{words}{request}"));
}

/// Why a body broke off, in the words of whoever made it.
pub(super) fn why_broken(error: Box<dyn std::error::Error>) -> io::Error {
    error.downcast().map_or_else(|error| io::Error::other(error.to_string()), |error| *error)
}

/// The disk did not bring the next piece of a body in time.
pub(super) fn no_piece() -> SendError {
    SendError::Disk(io::Error::new(ErrorKind::TimedOut, NO_PIECE))
}

/// Whether it may be better in a moment.
fn is_passing(error: &io::Error) -> bool {
    let is_short = error.raw_os_error().is_some_and(|code| fault_of(code, Fault::Populate).1);
    let is_ours = error.raw_os_error().is_none();
    let has_passed = || matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::StaleNetworkFileHandle);
    is_short || error.kind() == ErrorKind::TimedOut || (is_ours && has_passed())
}

const BUSY: HeadError = (StatusCode::SERVICE_UNAVAILABLE, "Busy. Please try again.\n");

const FAILED: HeadError = (StatusCode::INTERNAL_SERVER_ERROR, "Something failed.\n");

const DENIED: HeadError = (StatusCode::FORBIDDEN, "This may not be read.\n");

/// What is logged of a body that stands still.
const NO_PIECE: &str = "the disk does not bring the next piece of what is listed, archived or read";

const NOTHING_TAKEN: &str = "the client took nothing for too long";

const TOO_LITTLE: &str = "the client took less than it must while connections run short";
