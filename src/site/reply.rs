//! Makes responses of answers: status, headers, body.

use std::ops::Range;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::files::Asset;
use crate::files::digests::Digest;
use crate::files::handle_pool::Handle;
use crate::files::policy::PathPolicy;
use crate::http::baseline_headers::{BASELINE_LINES, text_lines};
use crate::http::cache_control::REVALIDATE;
use crate::http::canned_response::PRECONDITION_FAILED;
use crate::http::decide::Answer;
use crate::http::digest::{Algorithm, header_value};
use crate::http::disposition;
use crate::http::error::HttpError;
use crate::http::method::ALLOW;
use crate::http::multipart::{Boundary, Multipart};
use crate::http::range::ByteRange;
use crate::net::prerendered::{PacedResponse, PrerenderedResponse};
use crate::net::segments::{Segment, Segments, Window};
use crate::site::error::text_response;
use crate::sys::random::random_u128;

/// The body of a response, and the checksums that are sent with it.
pub(crate) struct ReplyBody<'a> {
    pub(crate) asset: &'a Arc<Asset>,
    /// For bytes that are not on the heap.
    pub(crate) handle: Option<Arc<Handle>>,
    /// From this length in bytes on a window is sent by `sendfile`.
    pub(crate) sendfile_from: u64,
    /// Checksums of the representation.
    pub(crate) checksums: Checksums,
}

/// Checksums of a representation that are sent with it.
pub(crate) type Checksums = Vec<(Algorithm, Digest)>;

/// Makes the response of `answer` from `source`.
///
/// # Errors
/// 412 and 416, by the client's own preconditions and ranges.
pub(crate) fn reply(
    answer: Answer,
    source: &ReplyBody<'_>,
    is_head: bool,
) -> Result<HttpResponse, HttpError> {
    let asset = source.asset;
    let is_whole = matches!(answer, Answer::Whole) && !is_head;
    let mut response = match answer {
        Answer::Whole => whole(source, is_head),
        Answer::Part(range) => part(range, source),
        Answer::Parts(ranges) => parts(&ranges, source),
        Answer::NotModified => PrerenderedResponse::head(
            StatusCode::NOT_MODIFIED,
            asset.headers.validators(),
            Bytes::from_static(b"\r\n"),
        ),
        Answer::PreconditionFailed => return Err(HttpError::Fixed(&PRECONDITION_FAILED)),
        Answer::NotSatisfiable => return Err(HttpError::NotSatisfiable(asset.length)),
    };
    if !source.checksums.is_empty() {
        add_lines(&mut response, &integrity(&source.checksums, is_whole));
    }
    Ok(response)
}

/// The site's own page for `status`: its description and its bytes, without what belongs to it as a file.
pub(crate) fn page(
    status: StatusCode,
    policy: &PathPolicy,
    varies: bool,
    source: &ReplyBody<'_>,
    is_head: bool,
) -> HttpResponse {
    let asset = source.asset;
    let mut fields = policy.lines_with(policy.vary_of_error(status, varies));
    fields.extend_from_slice(format!("cache-control: {REVALIDATE}\r\n{BASELINE_LINES}").as_bytes());
    let (fields, tail) = (Bytes::from(fields), asset.headers.description());
    if is_head || asset.length == 0 {
        return PrerenderedResponse::head(status, fields, tail);
    }
    PrerenderedResponse::segments(status, fields, tail, source.all(), paced(policy))
}

/// A redirect.
pub(crate) fn redirect(status: StatusCode, policy: &PathPolicy, location: &str) -> HttpResponse {
    without_content(status, policy, &format!("location: {location}\r\ncontent-length: 0\r\n\r\n"))
}

/// Answers OPTIONS: every target allows the same.
pub(crate) fn options(policy: &PathPolicy) -> HttpResponse {
    without_content(StatusCode::NO_CONTENT, policy, &format!("allow: {ALLOW}\r\n\r\n"))
}

/// Makes a short text for one request.
pub(crate) fn text(policy: &PathPolicy, body: &[u8], is_head: bool) -> HttpResponse {
    let fields = format!("cache-control: {REVALIDATE}\r\n{}", text_lines(body.len()));
    let block = [&lines_of(policy, &fields), body].concat();
    let body_at = block.len() - body.len();
    text_response(StatusCode::OK, block.into(), body_at, is_head)
}

/// Adds header lines, each with its CRLF, of names that the response does not have yet or that are lists.
pub(crate) fn add_lines(response: &mut HttpResponse, lines: &str) {
    if PrerenderedResponse::add_headers(response, lines.as_bytes()) {
        return;
    }
    for (name, value) in lines.split_terminator("\r\n").filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            response.headers_mut().append(name, value);
        }
    }
}

/// Has the client save the body under `name`.
pub(crate) fn download(response: &mut HttpResponse, name: &[u8]) {
    if response.status().is_success()
        && let Ok(value) = HeaderValue::from_str(&disposition::attachment(name))
    {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
}

fn without_content(status: StatusCode, policy: &PathPolicy, fields: &str) -> HttpResponse {
    PrerenderedResponse::head(status, lines_of(policy, fields).into(), Bytes::new())
}

fn lines_of(policy: &PathPolicy, more: &str) -> Vec<u8> {
    [policy.lines_with(policy.vary(false)), more.into()].concat()
}

/// Makes a response count towards the bandwidth limits.
pub(crate) fn paced(policy: &PathPolicy) -> PacedResponse {
    PacedResponse(policy.rates.clone())
}

/// Repr-Digest, and Content-Digest where the content is the whole representation (RFC 9530 §2, §3).
fn integrity(checksums: &Checksums, is_whole: bool) -> String {
    let values = checksums.iter().map(|(algorithm, digest)| header_value(*algorithm, digest));
    let value = values.collect::<Vec<_>>().join(", ");
    let content = if is_whole { format!("content-digest: {value}\r\n") } else { String::new() };
    format!("repr-digest: {value}\r\n{content}")
}

fn whole(source: &ReplyBody<'_>, is_head: bool) -> HttpResponse {
    let asset = source.asset;
    if is_head || asset.length == 0 {
        return PrerenderedResponse::head(StatusCode::OK, asset.headers.head(), Bytes::new());
    }
    if let Some((block, body_at)) = asset.heap_response() {
        return PrerenderedResponse::inline(StatusCode::OK, block, body_at, Some(paced(&asset.policy)));
    }
    let (head, paced) = (asset.headers.head(), paced(&asset.policy));
    PrerenderedResponse::segments(StatusCode::OK, head, Bytes::new(), source.all(), paced)
}

fn part(range: ByteRange, source: &ReplyBody<'_>) -> HttpResponse {
    let asset = source.asset;
    let mut tail = Vec::with_capacity(128);
    tail.extend_from_slice(b"content-range: ");
    range.push_content_range(asset.length, &mut tail);
    tail.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n", range.len()).as_bytes());
    let mut segments = Segments::default();
    segments.push(source.segment(range.start()..range.end()));
    let (fields, paced) = (asset.headers.without_length(), paced(&asset.policy));
    PrerenderedResponse::segments(StatusCode::PARTIAL_CONTENT, fields, tail.into(), segments, paced)
}

fn parts(ranges: &[ByteRange], source: &ReplyBody<'_>) -> HttpResponse {
    let asset = source.asset;
    let media_type = asset.headers.media_type().as_bytes();
    let framed =
        Multipart { ranges, media_type, total: asset.length, boundary: Boundary::new(random_u128()) };
    let mut tail = b"content-type: ".to_vec();
    tail.extend_from_slice(&framed.content_type());
    tail.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n", framed.content_length()).as_bytes());
    let mut segments = Segments::default();
    for (head, range) in framed.parts() {
        segments.push(Bytes::from(head).into());
        segments.push(source.segment(range.start()..range.end()));
    }
    segments.push(Bytes::from(framed.closing()).into());
    let (fields, paced) = (asset.headers.without_type(), paced(&asset.policy));
    PrerenderedResponse::segments(StatusCode::PARTIAL_CONTENT, fields, tail.into(), segments, paced)
}

impl ReplyBody<'_> {
    /// The whole file as a body.
    fn all(&self) -> Segments {
        let mut segments = Segments::default();
        segments.push(self.segment(0..self.asset.length));
        segments
    }

    fn segment(&self, range: Range<u64>) -> Segment {
        match self.asset.heap_body() {
            Some(bytes) => {
                let at = |offset| usize::try_from(offset).unwrap_or(bytes.len()).min(bytes.len());
                bytes.slice(at(range.start)..at(range.end)).into()
            }
            None => {
                let asset = Arc::clone(self.asset);
                Segment::Window(Window::new(asset, self.handle.clone(), range, self.sendfile_from))
            }
        }
    }
}
