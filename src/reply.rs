//! An answer becomes a response.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use bytes::Bytes;

use crate::error::Refused;
use crate::files::Asset;
use crate::files::handle_pool::Handle;
use crate::http::decide::Answer;
use crate::http::multipart::{Boundary, Multipart};
use crate::http::range::ByteRange;
use crate::wire::ready::Ready;
use crate::wire::segments::{Segment, Segments, Window};

/// Where a response's bytes come from.
pub(crate) struct Source<'a> {
    pub(crate) asset: &'a Arc<Asset>,
    /// For what does not lie on the heap.
    pub(crate) handle: Option<Arc<Handle>>,
    /// From this length on a window leaves by `sendfile`.
    pub(crate) sendfile_from: u64,
}

/// The response that `answer` stands for, from `source`.
pub(crate) fn reply(answer: Answer, source: &Source<'_>, is_head: bool) -> HttpResponse {
    let asset = source.asset;
    match answer {
        Answer::Whole => whole(source, is_head),
        Answer::Part(range) => part(range, source),
        Answer::Parts(ranges) => parts(&ranges, source),
        Answer::NotModified => {
            Ready::head(StatusCode::NOT_MODIFIED, asset.fields.without_type(), Bytes::from_static(b"\r\n"))
        }
        Answer::PreconditionFailed => Refused::PreconditionFailed.respond(is_head),
        Answer::NotSatisfiable => Refused::NotSatisfiable(asset.length()).respond(is_head),
    }
}

/// The redirect from a directory to the same with its trailing slash.
pub(crate) fn moved(location: String) -> HttpResponse {
    HttpResponse::MovedPermanently().insert_header((header::LOCATION, location)).finish()
}

/// What every target allows.
pub(crate) fn options() -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::ALLOW, crate::http::method::ALLOW)).finish()
}

fn whole(source: &Source<'_>, is_head: bool) -> HttpResponse {
    let asset = source.asset;
    if is_head || asset.length() == 0 {
        return Ready::head(StatusCode::OK, asset.fields.head(), Bytes::new());
    }
    if let Some((block, body_at)) = asset.heap_whole() {
        return Ready::inline(StatusCode::OK, block, body_at);
    }
    let mut segments = Segments::default();
    segments.push(source.segment(0..asset.length()));
    Ready::segments(StatusCode::OK, asset.fields.head(), Bytes::new(), segments)
}

fn part(range: ByteRange, source: &Source<'_>) -> HttpResponse {
    let asset = source.asset;
    let mut tail = Vec::with_capacity(128);
    tail.extend_from_slice(b"content-range: ");
    range.content_range(asset.length()).write_to(&mut tail);
    tail.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n", range.len()).as_bytes());
    let mut segments = Segments::default();
    segments.push(source.segment(range.start()..range.end()));
    Ready::segments(StatusCode::PARTIAL_CONTENT, asset.fields.without_length(), tail.into(), segments)
}

fn parts(ranges: &[ByteRange], source: &Source<'_>) -> HttpResponse {
    let asset = source.asset;
    let media_type = asset.fields.media_type().as_bytes();
    let framed = Multipart { ranges, media_type, total: asset.length(), boundary: Boundary::new(random()) };
    let mut tail = b"content-type: ".to_vec();
    tail.extend_from_slice(&framed.content_type());
    tail.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n", framed.content_length()).as_bytes());
    let mut segments = Segments::default();
    for (head, range) in framed.parts() {
        segments.push(Bytes::from(head).into());
        segments.push(source.segment(range.start()..range.end()));
    }
    segments.push(Bytes::from(framed.closing()).into());
    Ready::segments(StatusCode::PARTIAL_CONTENT, asset.fields.without_type(), tail.into(), segments)
}

impl Source<'_> {
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

/// A number that no file can hold because nobody could have known it: the process's random keys over a count.
fn random() -> u128 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static KEYS: [RandomState; 2] = [RandomState::new(), RandomState::new()];
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    KEYS.with(|[one, other]| u128::from(one.hash_one(count)) << 64 | u128::from(other.hash_one(count)))
}
