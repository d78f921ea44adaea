//! Why a request gets no file: the client reads a fixed sentence, the log the cause.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;

use crate::config::policy::rules::PathPolicy;
use crate::http::canned_response::{self as canned, CannedResponse};
use crate::http::challenge::Challenge;
use crate::http::range::unsatisfied_content_range;
use crate::net::prerendered::PrerenderedResponse;

/// Why a request gets no file. [`canned_response`](crate::http::canned_response) has the sentences.
///
/// | variant                | client sees                           | log                         |
/// |------------------------|---------------------------------------|-----------------------------|
/// | `BadTarget`            | 400                                   | debug: target               |
/// | `BadQuery`             | 400                                   | warn: client, sampled       |
/// | `UnknownHost`          | 400                                   | nothing                     |
/// | `UnknownDigest`        | 400 and the digests that are computed | nothing                     |
/// | `UnknownArchive`       | 400 and the formats that are made     | nothing                     |
/// | `Unauthorized`         | 401 and `WWW-Authenticate`            | nothing                     |
/// | `NotAllowed`           | 403                                   | nothing                     |
/// | `SignedUrlRequired`    | 403                                   | nothing                     |
/// | `SignedUrlInvalid`     | 403                                   | debug: path, cause          |
/// | `SignedUrlExpired`     | 403                                   | debug: path                 |
/// | `Forbidden`            | 403                                   | warn: path, cause           |
/// | `TooLarge`             | 403                                   | info: path, limit           |
/// | `NotFound`             | 404                                   | nothing                     |
/// | `MethodNotAllowed`     | 405 and `Allow`                       | nothing                     |
/// | `NotAcceptable`        | 406                                   | nothing                     |
/// | `PreconditionFailed`   | 412                                   | nothing                     |
/// | `NotSatisfiable`       | 416 and `Content-Range: bytes */N`    | nothing                     |
/// | `TooManyRequests`      | 429, `Retry-After` and `RateLimit`    | warn: client, once a minute |
/// | `TooManyAttempts`      | 429 and `Retry-After`                 | warn: client, once a minute |
/// | `Failed`               | 500                                   | error: path, cause          |
/// | `NotImplemented`       | 501                                   | nothing                     |
/// | `Busy`                 | 503 and `Retry-After`                 | warn or error: path, cause  |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The target is not a path of the site.
    BadTarget,
    /// No credentials, or wrong ones.
    Unauthorized(Challenge),
    /// The credentials are valid, but not for this path.
    NotAllowed(Challenge),
    /// The path needs a signed URL.
    SignedUrlRequired,
    /// The signed URL is not valid here.
    SignedUrlInvalid,
    /// The signed URL was valid once.
    SignedUrlExpired,
    /// Too many wrong credentials; seconds until the client may try again.
    TooManyAttempts(u64),
    /// The query filter took the query for an attack.
    BadQuery,
    /// No redirect may lead to this host.
    UnknownHost,
    /// A digest algorithm that is not computed.
    UnknownDigest,
    /// An archive format that is not made.
    UnknownArchive,
    /// The directory holds more than an archive may.
    TooLarge,
    /// The file exists and is not readable.
    Forbidden,
    /// Nothing is at the path.
    NotFound,
    /// The client refuses the file as it is and in every available encoding.
    NotAcceptable,
    /// A known method that files do not allow.
    MethodNotAllowed,
    /// `If-Match` or `If-Unmodified-Since` does not hold.
    PreconditionFailed,
    /// No range lies within the file, whose length in bytes this is.
    NotSatisfiable(u64),
    /// The client is over a limit; seconds until it may try again.
    TooManyRequests(u64),
    /// An unknown method.
    NotImplemented,
    /// Out of handles or memory for now.
    Busy,
    /// The disk failed.
    Failed,
}

impl HttpError {
    fn canned(self) -> CannedResponse {
        match self {
            Self::BadTarget => canned::BAD_TARGET,
            Self::Unauthorized(_) => canned::UNAUTHORIZED,
            Self::NotAllowed(_) => canned::ACCESS_DENIED,
            Self::SignedUrlRequired => canned::SIGNED_URL_REQUIRED,
            Self::SignedUrlInvalid => canned::SIGNED_URL_INVALID,
            Self::SignedUrlExpired => canned::SIGNED_URL_EXPIRED,
            Self::TooManyAttempts(_) => canned::TOO_MANY_ATTEMPTS,
            Self::BadQuery => canned::BAD_QUERY,
            Self::UnknownHost => canned::UNKNOWN_HOST,
            Self::UnknownDigest => canned::UNKNOWN_DIGEST,
            Self::UnknownArchive => canned::UNKNOWN_ARCHIVE,
            Self::TooLarge => canned::TOO_LARGE,
            Self::Forbidden => canned::UNREADABLE,
            Self::NotFound => canned::NOT_FOUND,
            Self::NotAcceptable => canned::NOT_ACCEPTABLE,
            Self::MethodNotAllowed => canned::METHOD_NOT_ALLOWED,
            Self::PreconditionFailed => canned::PRECONDITION_FAILED,
            Self::NotSatisfiable(_) => canned::RANGE_NOT_SATISFIABLE,
            Self::TooManyRequests(_) => canned::TOO_MANY_REQUESTS,
            Self::NotImplemented => canned::METHOD_UNKNOWN,
            Self::Busy => canned::BUSY,
            Self::Failed => canned::FAILED,
        }
    }

    /// Returns the status of the response.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.canned().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Makes the response under the policy of its path, without content for HEAD. `varies`: the file was available in several
    /// encodings.
    pub(crate) fn respond(self, is_head: bool, policy: &PathPolicy, varies: bool) -> HttpResponse {
        let make = || self.block(policy, varies);
        let is_usual = self == Self::NotFound && !varies;
        let (block, body_at) = if is_usual { policy.not_found.get_or_init(make).clone() } else { make() };
        text_response(self.status(), block, body_at, is_head)
    }

    /// Renders everything behind the status line; also returns the offset of the content.
    fn block(self, policy: &PathPolicy, varies: bool) -> (Bytes, usize) {
        let canned = self.canned();
        let varies = varies || self == Self::NotAcceptable;
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
