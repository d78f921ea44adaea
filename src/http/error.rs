//! Errors of a request for a file: the client reads a fixed sentence, the log the cause.

use super::canned_response::{self as canned, CannedResponse};
use super::challenge::Challenge;

/// Why a request gets no file. [`canned_response`](super::canned_response) has the sentences.
///
/// | error                  | client sees                           | log                         |
/// |------------------------|---------------------------------------|-----------------------------|
/// | `BAD_TARGET`           | 400                                   | debug: target               |
/// | `BAD_QUERY`            | 400                                   | warn: client, sampled       |
/// | `UNKNOWN_HOST`         | 400                                   | nothing                     |
/// | `UNKNOWN_DIGEST`       | 400 and the digests that are computed | nothing                     |
/// | `UNKNOWN_ARCHIVE`      | 400 and the formats that are made     | nothing                     |
/// | `Unauthorized`         | 401 and `WWW-Authenticate`            | nothing                     |
/// | `NotAllowed`           | 403                                   | nothing                     |
/// | `SIGNED_URL_REQUIRED`  | 403                                   | nothing                     |
/// | `SIGNED_URL_INVALID`   | 403                                   | debug: path, cause          |
/// | `SIGNED_URL_EXPIRED`   | 403                                   | debug: path                 |
/// | `UNREADABLE`           | 403                                   | warn: path, cause           |
/// | `TOO_LARGE`            | 403                                   | info: path, limit           |
/// | `NOT_FOUND`            | 404                                   | nothing                     |
/// | `METHOD_NOT_ALLOWED`   | 405 and `Allow`                       | nothing                     |
/// | `NOT_ACCEPTABLE`       | 406                                   | nothing                     |
/// | `PRECONDITION_FAILED`  | 412                                   | nothing                     |
/// | `NotSatisfiable`       | 416 and `Content-Range: bytes */N`    | nothing                     |
/// | `TooManyRequests`      | 429, `Retry-After` and `RateLimit`    | warn: client, once a minute |
/// | `TooManyAttempts`      | 429 and `Retry-After`                 | warn: client, once a minute |
/// | `FAILED`               | 500                                   | error: path, cause          |
/// | `METHOD_UNKNOWN`       | 501                                   | nothing                     |
/// | `BUSY`                 | 503 and `Retry-After`                 | warn or error: path, cause  |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// A response that is the same for every request.
    Fixed(&'static CannedResponse),
    /// No credentials, or wrong ones.
    Unauthorized(Challenge),
    /// The credentials are valid, but not for this path.
    NotAllowed(Challenge),
    /// No range lies within the file, whose length in bytes this is.
    NotSatisfiable(u64),
    /// The client is over a limit; seconds until it may try again.
    TooManyRequests(u64),
    /// Too many wrong credentials; seconds until the client may try again.
    TooManyAttempts(u64),
}

impl HttpError {
    /// Returns the status, the sentence and the headers that are the same for every request.
    pub fn canned(self) -> &'static CannedResponse {
        match self {
            Self::Fixed(canned) => canned,
            Self::Unauthorized(_) => &canned::UNAUTHORIZED,
            Self::NotAllowed(_) => &canned::ACCESS_DENIED,
            Self::NotSatisfiable(_) => &canned::RANGE_NOT_SATISFIABLE,
            Self::TooManyRequests(_) => &canned::TOO_MANY_REQUESTS,
            Self::TooManyAttempts(_) => &canned::TOO_MANY_ATTEMPTS,
        }
    }
}

impl From<&'static CannedResponse> for HttpError {
    fn from(canned: &'static CannedResponse) -> Self {
        Self::Fixed(canned)
    }
}
