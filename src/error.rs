//! What went wrong, and who is told: the client a fixed sentence, the log the cause.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;

use crate::http::method::ALLOW;
use crate::http::range::ContentRange;
use crate::wire::ready::Ready;

/// Why a request gets no file.
///
/// | variant                | client sees                                      | log                     |
/// |------------------------|--------------------------------------------------|-------------------------|
/// | `BadTarget`            | 400 "The request target is malformed."           | debug: target           |
/// | `Forbidden`            | 403 "This may not be read."                      | nothing                 |
/// | `NotFound`             | 404 "Not found."                                 | nothing                 |
/// | `MethodNotAllowed`     | 405 and `Allow`                                  | nothing                 |
/// | `PreconditionFailed`   | 412 "The file is not the version asked for."     | nothing                 |
/// | `NotSatisfiable`       | 416 and `Content-Range: bytes */N`               | nothing                 |
/// | `NotImplemented`       | 501 "This method is not known here."             | nothing                 |
/// | `Busy`                 | 503 and `Retry-After`                            | warn or error: path, cause |
/// | `Failed`               | 500 "Something failed."                          | error: path, cause      |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The target can't be a path of the site.
    BadTarget,
    /// It exists and may not be read.
    Forbidden,
    /// Nothing is there.
    NotFound,
    /// A known method that files don't have.
    MethodNotAllowed,
    /// `If-Match` or `If-Unmodified-Since` does not hold.
    PreconditionFailed,
    /// No range lies within a file of so many bytes.
    NotSatisfiable(u64),
    /// A method that nobody knows.
    NotImplemented,
    /// Out of handles or memory for now.
    Busy,
    /// The disk failed.
    Failed,
}

impl Refused {
    /// The response, without its body for a HEAD.
    pub fn respond(self, is_head: bool) -> HttpResponse {
        let (status, more, sentence) = match self {
            Self::BadTarget => (StatusCode::BAD_REQUEST, String::new(), "The request target is malformed.\n"),
            Self::Forbidden => (StatusCode::FORBIDDEN, String::new(), "This may not be read.\n"),
            Self::NotFound => return not_found(is_head),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, format!("allow: {ALLOW}\r\n"), "Files are only read here.\n")
            }
            Self::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, String::new(), "The file is not the version asked for.\n")
            }
            Self::NotSatisfiable(length) => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("accept-ranges: bytes\r\ncontent-range: {}\r\n", ContentRange::unsatisfied(length)),
                "No such range.\n",
            ),
            Self::NotImplemented => {
                (StatusCode::NOT_IMPLEMENTED, String::new(), "This method is not known here.\n")
            }
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "retry-after: 1\r\n".to_owned(),
                "Busy. Please try again.\n",
            ),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, String::new(), "Something failed.\n"),
        };
        let (block, body_at) = block(&more, sentence);
        respond(status, block, body_at, is_head)
    }
}

fn respond(status: StatusCode, block: Bytes, body_at: usize, is_head: bool) -> HttpResponse {
    if is_head {
        return Ready::head(status, block.slice(..body_at), Bytes::new());
    }
    Ready::inline(status, block, body_at)
}

/// Missing names are asked for as often as files are, so their answer is made once.
fn not_found(is_head: bool) -> HttpResponse {
    thread_local! {
        static BLOCK: (Bytes, usize) = block("", "Not found.\n");
    }
    let (block, body_at) = BLOCK.with(Clone::clone);
    respond(StatusCode::NOT_FOUND, block, body_at, is_head)
}

fn block(more: &str, sentence: &str) -> (Bytes, usize) {
    let length = sentence.len();
    let fields = format!(
        "{more}content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
         content-length: {length}\r\n\r\n"
    );
    let body_at = fields.len();
    (Bytes::from(fields + sentence), body_at)
}
