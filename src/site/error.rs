//! What went wrong, and who is told: the client a fixed sentence, the log the cause.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;

use crate::config::policy::rules::PathPolicy;
use crate::http::challenge::Challenge;
use crate::http::method::ALLOW;
use crate::http::range::ContentRange;
use crate::net::prerendered::PrerenderedResponse;

/// Why a request gets no file.
///
/// | variant                | client sees                                      | log                     |
/// |------------------------|--------------------------------------------------|-------------------------|
/// | `BadTarget`            | 400 "The request target is malformed."           | debug: target           |
/// | `Forbidden`            | 403 "This may not be read."                      | nothing                 |
/// | `Unauthorized`         | 401 "Please say who you are.", `WWW-Authenticate` | nothing                |
/// | `NotAllowed`           | 403 "This is not for you."                       | nothing                 |
/// | `NeedsLink`            | 403 "This takes a signed link."                  | nothing                 |
/// | `BadLink`              | 403 "This link is not valid here."               | debug: path, cause      |
/// | `ExpiredLink`          | 403 "This link has expired."                     | debug: path             |
/// | `TooManyAttempts`      | 429 "Too many attempts. Please wait.", `Retry-After` | warn: client, once a minute |
/// | `BadQuery`             | 400 "The query is not accepted here."            | debug: query            |
/// | `UnknownHost`          | 400 "This host is not served here."              | nothing                 |
/// | `UnknownDigest`        | 400 and the digests that are known               | nothing                 |
/// | `UnknownArchive`       | 400 and the archives that are known              | nothing                 |
/// | `TooLarge`             | 403 "This is too large for an archive."          | debug: path, limit      |
/// | `NotFound`             | 404 "Not found."                                 | nothing                 |
/// | `NotAcceptable`        | 406 "There is no coding that you accept."        | nothing                 |
/// | `MethodNotAllowed`     | 405 and `Allow`                                  | nothing                 |
/// | `PreconditionFailed`   | 412 "The file is not the version asked for."     | nothing                 |
/// | `NotSatisfiable`       | 416 and `Content-Range: bytes */N`               | nothing                 |
/// | `TooManyRequests`      | 429 "Too many requests. Please slow down.", `Retry-After`, `RateLimit` | warn: client, once a minute |
/// | `NotImplemented`       | 501 "This method is not known here."             | nothing                 |
/// | `Busy`                 | 503 and `Retry-After`                            | warn or error: path, cause |
/// | `Failed`               | 500 "Something failed."                          | error: path, cause      |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The target can't be a path of the site.
    BadTarget,
    /// Nobody knows who asks.
    Unauthorized(Challenge),
    /// It is known who asks, and it is not for them.
    NotAllowed(Challenge),
    /// It takes a signed link.
    NeedsLink,
    /// The signed link opens nothing here.
    BadLink,
    /// The signed link did open this once.
    ExpiredLink,
    /// The client was wrong too often; it may come back after so many seconds.
    TooManyAttempts(u64),
    /// The query filter took it for an attack.
    BadQuery,
    /// A host to which no redirect may lead.
    UnknownHost,
    /// A digest was asked for that nobody computes.
    UnknownDigest,
    /// An archive was asked for that nobody makes.
    UnknownArchive,
    /// A directory has more in it than an archive may have.
    TooLarge,
    /// It exists and may not be read.
    Forbidden,
    /// Nothing is there.
    NotFound,
    /// The client refuses the file as it is, and in every coding in which it is to be had.
    NotAcceptable,
    /// A known method that files don't have.
    MethodNotAllowed,
    /// `If-Match` or `If-Unmodified-Since` does not hold.
    PreconditionFailed,
    /// No range lies within a file of so many bytes.
    NotSatisfiable(u64),
    /// The client is over a limit; it may come back after so many seconds.
    TooManyRequests(u64),
    /// A method that nobody knows.
    NotImplemented,
    /// Out of handles or memory for now.
    Busy,
    /// The disk failed.
    Failed,
}

impl HttpError {
    /// The status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadTarget
            | Self::BadQuery
            | Self::UnknownHost
            | Self::UnknownDigest
            | Self::UnknownArchive => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden
            | Self::TooLarge
            | Self::NotAllowed(_)
            | Self::NeedsLink
            | Self::BadLink
            | Self::ExpiredLink => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::NotSatisfiable(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooManyRequests(_) | Self::TooManyAttempts(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The response, without its body for a HEAD, under the policy of its path. `varies`: the file was to be had in several
    /// codings.
    pub(crate) fn respond(self, is_head: bool, policy: &PathPolicy, varies: bool) -> HttpResponse {
        let make = || self.block(policy, varies);
        let is_usual = self == Self::NotFound && !varies;
        let (block, body_at) = if is_usual { policy.not_found.get_or_init(make).clone() } else { make() };
        if is_head {
            return PrerenderedResponse::head(self.status(), block.slice(..body_at), Bytes::new());
        }
        PrerenderedResponse::inline(self.status(), block, body_at, None)
    }

    /// All that is sent behind the status line, and where the body begins.
    fn block(self, policy: &PathPolicy, varies: bool) -> (Bytes, usize) {
        let sentence = self.sentence();
        let varies = varies || self == Self::NotAcceptable;
        let mut block = policy.lines_with(policy.vary_of_error(self.status(), varies));
        let length = sentence.len();
        let fields = format!(
            "{}content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
             content-length: {length}\r\n\r\n",
            self.fields()
        );
        block.extend_from_slice(fields.as_bytes());
        let body_at = block.len();
        block.extend_from_slice(sentence.as_bytes());
        (block.into(), body_at)
    }

    fn fields(self) -> String {
        match self {
            Self::MethodNotAllowed => format!("allow: {ALLOW}\r\n"),
            Self::NotSatisfiable(length) => {
                format!("accept-ranges: bytes\r\ncontent-range: {}\r\n", ContentRange::unsatisfied(length))
            }
            Self::Unauthorized(challenge) | Self::NotAllowed(challenge) => challenge.lines(),
            Self::TooManyRequests(seconds) | Self::TooManyAttempts(seconds) => {
                format!("retry-after: {seconds}\r\n")
            }
            Self::Busy => "retry-after: 1\r\n".to_owned(),
            _ => String::new(),
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::BadTarget => "The request target is malformed.\n",
            Self::Unauthorized(_) => "Please say who you are.\n",
            Self::NotAllowed(_) => "This is not for you.\n",
            Self::NeedsLink => "This takes a signed link.\n",
            Self::BadLink => "This link is not valid here.\n",
            Self::ExpiredLink => "This link has expired.\n",
            Self::TooManyAttempts(_) => "Too many attempts. Please wait.\n",
            Self::BadQuery => "The query is not accepted here.\n",
            Self::UnknownHost => "This host is not served here.\n",
            Self::UnknownDigest => "There is no such digest here: sha-256 and sha-512 are known.\n",
            Self::UnknownArchive => "There is no such archive here: tar, tar.zst and zip are known.\n",
            Self::Forbidden => "This may not be read.\n",
            Self::TooLarge => "This is too large for an archive.\n",
            Self::NotFound => "Not found.\n",
            Self::NotAcceptable => "There is no coding that you accept.\n",
            Self::MethodNotAllowed => "Files are only read here.\n",
            Self::PreconditionFailed => "The file is not the version asked for.\n",
            Self::NotSatisfiable(_) => "No such range.\n",
            Self::TooManyRequests(_) => "Too many requests. Please slow down.\n",
            Self::NotImplemented => "This method is not known here.\n",
            Self::Busy => "Busy. Please try again.\n",
            Self::Failed => "Something failed.\n",
        }
    }
}
