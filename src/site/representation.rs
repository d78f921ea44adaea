//! Which bytes of a file are sent: its encoding, how much of it, and from which handle.

use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest};

use crate::files::handle_pool::Handle;
use crate::files::load::Unavailable;
use crate::files::{Asset, Files};
use crate::http::canned_response::{BUSY, FAILED, NOT_ACCEPTABLE};
use crate::http::decide::{Answer, Representation, decide};
use crate::http::encoding::{Encoding, EncodingChoice};
use crate::http::error::HttpError;
use crate::http::transport_info::TransportInfo;
use crate::site::request_facts::RequestHeaders;

/// Why a file that was found is not sent.
pub(crate) enum SendFailure {
    /// It is no longer the version that was found.
    Changed,
    Error(HttpError),
}

/// Chooses among the encodings that are available now; `None` is the file as it is. Starts to compress a better one.
pub(crate) fn choose(
    files: &Files,
    asset: &Arc<Asset>,
    headers: &RequestHeaders<'_>,
) -> Result<Option<Encoding>, HttpError> {
    let Some(accepted) = &headers.encodings else { return Ok(None) };
    let Some(variants) = &asset.variants else {
        return if accepted.refuses_identity() { Err(HttpError::Fixed(&NOT_ACCEPTABLE)) } else { Ok(None) };
    };
    let choice = accepted.choose(|encoding| variants.is_available(encoding));
    // A download goes on best in the encoding in which it began: ranges start none, unless there is no other.
    let may_begin = !headers.has_range() || accepted.refuses_identity();
    let wanted = accepted.best(|encoding| variants.is_possible(encoding)).filter(|_| may_begin);
    if let Some(wanted) = wanted
        && choice != EncodingChoice::Encoded(wanted)
        && !matches!(choice, EncodingChoice::Encoded(encoding) if variants.sidecar(encoding).is_some())
    {
        files.start_encoding(asset, wanted);
    }
    match choice {
        EncodingChoice::Identity => Ok(None),
        EncodingChoice::Encoded(encoding) => Ok(Some(encoding)),
        EncodingChoice::NotAcceptable if wanted.is_some() => Err(HttpError::Fixed(&BUSY)),
        EncodingChoice::NotAcceptable => Err(HttpError::Fixed(&NOT_ACCEPTABLE)),
    }
}

/// Returns the file in the chosen encoding.
pub(crate) async fn select(
    files: &Files,
    asset: &Arc<Asset>,
    headers: &RequestHeaders<'_>,
) -> Result<Arc<Asset>, SendFailure> {
    for _ in Encoding::ALL {
        let Some(encoding) = choose(files, asset, headers)? else { return Ok(Arc::clone(asset)) };
        match files.variant(asset, encoding).await {
            // The sidecar now counts as absent: there is one encoding less to choose from.
            Err(Unavailable::Failed) => {}
            // There is no handle for the sidecar: the file as it is may be in memory.
            Err(Unavailable::Busy) if !headers.refuses_identity() => break,
            variant => return Ok(variant?),
        }
    }
    Ok(Arc::clone(asset))
}

/// Decides how much of `form`, an encoding of `asset` or `asset` itself, the client gets.
pub(crate) fn answer_for(asset: &Asset, form: &Asset, headers: &RequestHeaders<'_>, is_head: bool) -> Answer {
    let dates_are_strong = form.modified.is_some_and(|date| form.version.is_of(date))
        && form.encoding.is_none()
        && !may_differ(asset, headers);
    let facts = Representation {
        length: form.length,
        etag: &form.etag,
        last_modified: form.modified,
        dates_are_strong,
        media_type: form.headers.media_type().as_bytes(),
    };
    decide(&headers.facts(is_head), &facts)
}

/// True if bytes of the file are sent. Other responses open no file, so that none is rejected for want of a handle.
pub(crate) fn needs_body(answer: &Answer, is_head: bool) -> bool {
    !is_head && matches!(answer, Answer::Whole | Answer::Part(_) | Answer::Parts(_))
}

/// Returns a handle of a file that is not on the heap, if the file is still the version that was decided on. A connection that
/// copies needs one: only the kernel may read a mapping.
pub(crate) async fn open(
    files: &Files,
    asset: &Arc<Asset>,
    request: &HttpRequest,
) -> Result<Option<Arc<Handle>>, Unavailable> {
    if asset.is_on_heap() {
        return Ok(None);
    }
    match files.handle(asset).await? {
        Some(handle) if !handle.is_unchanged().unwrap_or(false) => Err(Unavailable::Changed),
        None if is_copied(request) => Err(Unavailable::Busy),
        handle => Ok(handle),
    }
}

fn is_copied(request: &HttpRequest) -> bool {
    request.extensions().get::<TransportInfo>().is_some_and(|transport| transport.is_copied)
}

/// True if the same request may soon be answered in another encoding: then a date does not identify the bytes.
fn may_differ(asset: &Asset, headers: &RequestHeaders<'_>) -> bool {
    let both = headers.encodings.as_ref().zip(asset.variants.as_ref());
    both.is_some_and(|(accepted, variants)| {
        accepted.best(|encoding| variants.is_possible(encoding)).is_some()
    })
}

impl From<HttpError> for SendFailure {
    fn from(error: HttpError) -> Self {
        Self::Error(error)
    }
}

impl From<Unavailable> for SendFailure {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Changed => Self::Changed,
            Unavailable::Busy => Self::Error(HttpError::Fixed(&BUSY)),
            Unavailable::Failed => Self::Error(HttpError::Fixed(&FAILED)),
        }
    }
}
