//! Responses with a fixed sentence: the one table of all that clients read when they get no file.

use super::baseline_headers::text_lines;

/// A status with its sentence and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannedResponse {
    /// The status code (RFC 9110 §15).
    pub status: u16,
    /// The content: one line of plain text with its line feed.
    pub sentence: &'static str,
    /// Header lines of this response besides the baseline, each with its CRLF.
    pub headers: &'static str,
}

impl CannedResponse {
    /// Returns all header lines and the empty line. `Content-Length` is that of the sentence, for HEAD too.
    pub fn header_lines(&self) -> String {
        format!("{}{}", self.headers, text_lines(self.sentence.len()))
    }

    /// Returns the whole HTTP/1.1 message for a connection that closes, with `reason` in its status line; without content
    /// if `is_head`.
    pub fn message(&self, reason: &str, is_head: bool) -> String {
        let sentence = if is_head { "" } else { self.sentence };
        format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\n{}{sentence}", self.status, self.header_lines())
    }
}

/// Makes a constant of each row: a name, a status, a sentence without its line feed, header lines.
macro_rules! table {
    ($($name:ident: $status:literal, $sentence:literal, $headers:literal;)*) => {$(
        #[doc = concat!($status, ": ", $sentence)]
        pub const $name: CannedResponse =
            CannedResponse { status: $status, sentence: concat!($sentence, "\n"), headers: $headers };
    )*};
}

table! {
    // The site answers a request. `HttpError` adds headers whose values differ from request to request.
    BAD_TARGET: 400, "The request target is malformed.", "";
    BAD_QUERY: 400, "The query was rejected.", "";
    UNKNOWN_HOST: 400, "Unknown host.", "";
    UNKNOWN_DIGEST: 400, "Unknown digest algorithm: sha-256 and sha-512 are supported.", "";
    UNKNOWN_ARCHIVE: 400, "Unknown archive format: tar, tar.zst and zip are supported.", "";
    UNAUTHORIZED: 401, "Authentication required.", "";
    ACCESS_DENIED: 403, "Access denied.", "";
    SIGNED_URL_REQUIRED: 403, "A signed URL is required.", "";
    SIGNED_URL_INVALID: 403, "The signed URL is not valid.", "";
    SIGNED_URL_EXPIRED: 403, "The signed URL has expired.", "";
    UNREADABLE: 403, "The file is not readable.", "";
    TOO_LARGE: 403, "The directory is too large for an archive.", "";
    NOT_FOUND: 404, "Not found.", "";
    METHOD_NOT_ALLOWED: 405, "Method not allowed.", "allow: GET, HEAD, OPTIONS\r\n";
    NOT_ACCEPTABLE: 406, "No acceptable encoding is available.", "";
    PRECONDITION_FAILED: 412, "The file does not match the precondition.", "";
    RANGE_NOT_SATISFIABLE: 416, "No range lies within the file.", "accept-ranges: bytes\r\n";
    TOO_MANY_REQUESTS: 429, "Too many requests. Please slow down.", "";
    TOO_MANY_ATTEMPTS: 429, "Too many failed attempts. Please wait.", "";
    FAILED: 500, "Something failed.", "";
    METHOD_UNKNOWN: 501, "Unknown method.", "";
    BUSY: 503, "Busy. Please try again.", "retry-after: 1\r\n";
    // A connection rejects a request head or itself.
    BAD_REQUEST: 400, "The request is malformed.", "";
    BARE_LINE_FEED: 400, "A line of the request does not end in CRLF.", "";
    HOST_MISSING: 400, "The request has no Host.", "";
    HOST_TWICE: 400, "The request has more than one Host.", "";
    HOST_INVALID: 400, "The request's Host is malformed.", "";
    LENGTH_INVALID: 400, "The request's Content-Length is malformed.", "";
    LENGTH_AMBIGUOUS: 400, "The request's length is ambiguous.", "";
    PLAIN_HTTP: 400, "This port speaks TLS. Please use https.", "";
    REQUEST_TIMEOUT: 408, "The request took too long to arrive.", "";
    TARGET_TOO_LONG: 414, "The request target is too long.", "";
    EXPECTATION_FAILED: 417, "The request's expectation can't be met.", "";
    TOO_MANY_CONNECTIONS: 429, "Too many connections. Please close some of them.", "retry-after: 1\r\n";
    HEADERS_TOO_LARGE: 431, "The request's headers are too large.", "";
    TOO_MANY_HEADERS: 431, "The request has too many headers.", "";
    TRANSFER_CODING_UNKNOWN: 501, "The request's transfer coding is not supported.", "";
    VERSION_NOT_SUPPORTED: 505, "This version of HTTP is not supported.", "";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::ALLOW;

    #[test]
    fn a_message_is_whole_and_counts_its_sentence() {
        assert_eq!(
            BUSY.message("Service Unavailable", false),
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
             content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\
             content-length: 24\r\n\r\nBusy. Please try again.\n"
        );
        let head = PLAIN_HTTP.message("Bad Request", true);
        assert!(head.ends_with("content-length: 40\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_405_allows_what_the_other_responses_do() {
        assert_eq!(METHOD_NOT_ALLOWED.headers, format!("allow: {ALLOW}\r\n"));
    }
}
