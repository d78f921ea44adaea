//! The parts of an App's response, for both protocols.

use actix_http::header::{self, HeaderName};
use actix_http::{Response, StatusCode};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use crate::http::canned_response::CannedResponse;
use crate::net::PrerenderedResponse;

/// The parts of a response.
pub(super) struct ResponseParts {
    pub(super) response: Response<()>,
    /// The prerendered head and body, if the site made the response.
    pub(super) prerendered: Option<PrerenderedResponse>,
    /// True if no middleware changed the prerendered status or body.
    pub(super) is_unchanged: bool,
    /// The body if it is in one piece; else it is in `body`.
    pub(super) bytes: Option<Bytes>,
    pub(super) body: BoxBody,
}

impl ResponseParts {
    pub(super) fn of(response: Response<BoxBody>) -> Self {
        let (mut response, body) = response.into_parts();
        let prerendered = response.extensions_mut().remove::<PrerenderedResponse>();
        let (bytes, body) = match body.try_into_bytes() {
            Ok(bytes) => (Some(bytes), BoxBody::new(())),
            Err(body) => (None, body),
        };
        let status = response.status();
        let is_unchanged =
            prerendered.as_ref().is_some_and(|made| made.is_unchanged(status, &body, bytes.as_ref()));
        Self { response, prerendered, is_unchanged, bytes, body }
    }

    /// Size of the body of a response that is not prerendered. `None` if its status allows no body.
    pub(super) fn body_size(&self) -> Option<BodySize> {
        let status = self.response.status();
        let has_no_body = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        if has_no_body {
            return None;
        }
        let size =
            self.bytes.as_ref().map_or_else(|| self.body.size(), |bytes| BodySize::Sized(bytes.len() as u64));
        Some(if size == BodySize::None { BodySize::Sized(0) } else { size })
    }
}

/// A response made by the connection itself.
pub(super) fn canned(response: CannedResponse, is_head: bool) -> Response<BoxBody> {
    let content = if is_head { "" } else { response.sentence };
    let content = Bytes::from_static(content.as_bytes());
    let mut made = PrerenderedResponse::inline(status_of(response), content, 0, None);
    PrerenderedResponse::add_headers(&mut made, response.header_lines().as_bytes());
    Response::from(made)
}

/// The status of a canned response.
pub(super) fn status_of(response: CannedResponse) -> StatusCode {
    StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Returns true for headers that belong to the connection and are written by it alone.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    [header::CONNECTION, header::CONTENT_LENGTH, header::DATE, header::TRANSFER_ENCODING].contains(name)
}

/// Returns true for headers that are wrong once the body is another.
pub(super) fn describes_body(name: &HeaderName) -> bool {
    let names = [
        header::ACCEPT_RANGES,
        header::CONTENT_DISPOSITION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::ETAG,
        header::LAST_MODIFIED,
    ];
    names.contains(name) || matches!(name.as_str(), "content-digest" | "repr-digest")
}
