//! A response whose head was rendered beforehand. It travels through the App in the response's extensions.
//!
//! Its headers are not in the response's header map: they were rendered once, when the file was opened, and are sent as
//! they are. Headers that a middleware puts into the map are sent too and replace rendered ones of the same name. If a
//! middleware changes the status or the body, the rendered headers that describe the body (`Content-Length`,
//! `Content-Type`, `Content-Encoding`, `ETag`, digests and the like) are left out.

use std::rc::Rc;
use std::sync::Arc;

use actix_http::Response;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use bytes::Bytes;

use crate::config::RuleRates;
use crate::net::{Segments, body_of};
use crate::telemetry::access_log::record::CacheResult;

/// Rendered headers, and the body behind them.
///
/// Decision: docs/decisions/002-prerendered-heads.md.
pub struct PrerenderedResponse {
    pub(super) status: StatusCode,
    /// Header lines of this response alone, sent before the others.
    pub(super) extra_headers: Box<[u8]>,
    /// Header lines; from `body_at` on, a body that lies behind them in one piece.
    pub(super) block: Bytes,
    pub(super) body_at: usize,
    /// More header lines and the empty line, unless `block` has it.
    pub(super) tail: Bytes,
    pub(super) body: PrerenderedBody,
    /// `Some` if the response counts towards the bandwidth limits.
    pub(super) paced: Option<PacedResponse>,
    /// How the file was found, if that is logged.
    pub(super) cache_result: Option<CacheResult>,
}

/// The body of a [`PrerenderedResponse`], and how it is recognised.
pub(super) enum PrerenderedBody {
    None,
    /// The end of `block`. A response whose body is the same memory is unchanged.
    Inline,
    /// Shared with the body that the App sees. A response that still has it, at its length, is unchanged.
    Segments(Rc<Segments>),
}

impl PrerenderedResponse {
    /// A response without a body. `block` and `tail` together end in the empty line.
    pub fn head(status: StatusCode, block: Bytes, tail: Bytes) -> HttpResponse {
        Self { tail, ..Self::of(status, block) }.into_response(BoxBody::new(()))
    }

    /// A response whose body follows its headers in `block`, from `body_at` on.
    pub(crate) fn inline(
        status: StatusCode,
        block: Bytes,
        body_at: usize,
        paced: Option<PacedResponse>,
    ) -> HttpResponse {
        let content = block.slice(body_at..);
        let body = PrerenderedBody::Inline;
        Self { body_at, body, paced, ..Self::of(status, block) }.into_response(BoxBody::new(content))
    }

    /// A response whose body is `segments`.
    pub(crate) fn segments(
        status: StatusCode,
        block: Bytes,
        tail: Bytes,
        segments: Segments,
        paced: PacedResponse,
    ) -> HttpResponse {
        let shared = Rc::new(segments);
        let body = PrerenderedBody::Segments(Rc::clone(&shared));
        Self { tail, body, paced: Some(paced), ..Self::of(status, block) }
            .into_response(BoxBody::new(body_of(shared)))
    }

    /// Headers alone, without the tail.
    fn of(status: StatusCode, block: Bytes) -> Self {
        Self {
            status,
            extra_headers: Box::default(),
            body_at: block.len(),
            block,
            tail: Bytes::new(),
            body: PrerenderedBody::None,
            paced: None,
            cache_result: None,
        }
    }

    fn into_response(self, body: BoxBody) -> HttpResponse {
        let mut response = HttpResponse::with_body(self.status, body);
        response.extensions_mut().insert(self);
        response
    }

    /// Puts header lines in front of the rendered ones. Their names are not among those, or their lines make up one
    /// list. Returns false if the response is not prerendered.
    pub fn add_headers(response: &mut HttpResponse, lines: &[u8]) -> bool {
        let mut extensions = response.extensions_mut();
        let Some(prerendered) = extensions.get_mut::<Self>() else { return false };
        prerendered.extra_headers = [&*prerendered.extra_headers, lines].concat().into();
        true
    }

    /// Records how the file of a prerendered response was found.
    pub(crate) fn set_cache_result(response: &mut HttpResponse, result: CacheResult) {
        if let Some(prerendered) = response.extensions_mut().get_mut::<Self>() {
            prerendered.cache_result = Some(result);
        }
    }

    /// The rendered header lines, without their line ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let rendered = self.block.get(..self.body_at).unwrap_or_default();
        [&*self.extra_headers, rendered, &*self.tail].into_iter().flat_map(lines_of)
    }

    /// The value of a rendered header, by its name in lower case. `None` if there is no such header, or the response is
    /// not prerendered.
    pub(crate) fn header_of(response: &HttpResponse, name: &str) -> Option<String> {
        let extensions = response.extensions();
        extensions.get::<Self>()?.lines().find_map(|line| {
            let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b": ")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    /// Returns true if `status` and `body` are still those that this response was made with.
    pub(super) fn is_unchanged(&self, status: StatusCode, body: &BoxBody, bytes: Option<&Bytes>) -> bool {
        status == self.status
            && match &self.body {
                PrerenderedBody::None => {
                    bytes.is_none_or(Bytes::is_empty)
                        && matches!(body.size(), BodySize::None | BodySize::Sized(0))
                }
                PrerenderedBody::Inline => bytes.is_some_and(|bytes| {
                    let own = &self.block[self.body_at..];
                    bytes.len() == own.len() && (own.is_empty() || std::ptr::eq(bytes.as_ptr(), own.as_ptr()))
                }),
                PrerenderedBody::Segments(segments) => {
                    Rc::strong_count(segments) == 2 && body.size() == BodySize::Sized(segments.length)
                }
            }
    }
}

/// The lines in `lines`, without their line ends and without the empty one.
fn lines_of(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let next = move || {
        let (line, after) = lines.split_at(memchr::memchr(b'\r', lines)?);
        lines = after.get(2..).unwrap_or_default();
        Some(line)
    };
    std::iter::from_fn(next).filter(|line| !line.is_empty())
}

/// Marks a response that counts towards the bandwidth limits, with the rates of its rules.
#[derive(Clone)]
pub(crate) struct PacedResponse(pub(crate) Option<Arc<RuleRates>>);

impl PacedResponse {
    /// The mark of `response`. `None` if it is neither counted nor held back.
    pub(super) fn of<B>(response: &Response<B>) -> Option<Self> {
        let extensions = response.extensions();
        match extensions.get::<PrerenderedResponse>() {
            Some(prerendered) => prerendered.paced.clone(),
            None => extensions.get::<Self>().cloned(),
        }
    }
}
