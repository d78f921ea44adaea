//! Renders errors as responses.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;

use crate::files::policy::PathPolicy;
use crate::http::canned_response::NOT_ACCEPTABLE;
use crate::http::error::HttpError;
use crate::http::range::unsatisfied_content_range;
use crate::net::prerendered::PrerenderedResponse;

impl HttpError {
    /// Returns the status of the response.
    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.canned().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Makes the response under the policy of its path, without content for HEAD. `varies`: the file was available in several
    /// encodings.
    pub(crate) fn respond(self, is_head: bool, policy: &PathPolicy, varies: bool) -> HttpResponse {
        let (status, make) = (self.status(), || self.block(policy, varies));
        // Only one canned response has this status.
        let is_usual = status == StatusCode::NOT_FOUND && !varies;
        let (block, body_at) = if is_usual { policy.not_found.get_or_init(make).clone() } else { make() };
        text_response(status, block, body_at, is_head)
    }

    /// Renders everything behind the status line; also returns the offset of the content.
    fn block(self, policy: &PathPolicy, varies: bool) -> (Bytes, usize) {
        let canned = self.canned();
        let varies = varies || self == Self::Fixed(&NOT_ACCEPTABLE);
        let mut block = policy.lines_with(policy.vary_of_error(self.status(), varies));
        block.extend_from_slice(self.varying_headers().as_bytes());
        block.extend_from_slice(canned.header_lines().as_bytes());
        let body_at = block.len();
        block.extend_from_slice(canned.sentence.as_bytes());
        (block.into(), body_at)
    }

    /// Returns header lines whose values differ from request to request.
    fn varying_headers(self) -> String {
        match self {
            Self::NotSatisfiable(length) => {
                format!("content-range: {}\r\n", unsatisfied_content_range(length))
            }
            Self::Unauthorized(challenge) | Self::NotAllowed(challenge) => challenge.lines(),
            Self::TooManyRequests(seconds) | Self::TooManyAttempts(seconds) => {
                format!("retry-after: {seconds}\r\n")
            }
            _ => String::new(),
        }
    }
}

/// Makes a response of `block`: headers, and content from `body_at` on that HEAD does not get.
pub(crate) fn text_response(status: StatusCode, block: Bytes, body_at: usize, is_head: bool) -> HttpResponse {
    match is_head {
        true => PrerenderedResponse::head(status, block.slice(..body_at), Bytes::new()),
        false => PrerenderedResponse::inline(status, block, body_at, None),
    }
}
