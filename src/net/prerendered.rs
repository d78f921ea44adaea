//! A response whose head was rendered beforehand, as it travels through the App in the response's extensions.
//!
//! Its fields are not in the response's header map: they were rendered once, when the file was opened, and go out as they
//! are. Whatever a middleware puts into the map goes out too, and takes the place of a rendered field of that name. A
//! middleware that changes the status or the body is heeded as well: the rendered fields that describe the body
//! (`PrerenderedBody-Length`, `PrerenderedBody-Type`, `PrerenderedBody-Encoding`, `ETag`, digests and the like) then stay behind.

use std::rc::Rc;
use std::sync::Arc;

use actix_http::Response;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use bytes::Bytes;

use super::segments::{Segments, SegmentsBody};
use crate::config::policy::rules::RuleRates;
use crate::telemetry::access_log::record::CacheResult;

/// Rendered fields, and what follows them.
pub struct PrerenderedResponse {
    pub(super) status: StatusCode,
    /// Field lines of this one response, which go before the others.
    pub(super) lead: Box<[u8]>,
    /// Field lines; then, from `body_at` on, a body that lies behind them in one piece.
    pub(super) block: Bytes,
    pub(super) body_at: usize,
    /// More field lines and the empty line, unless `block` has it.
    pub(super) tail: Bytes,
    pub(super) content: PrerenderedBody,
    /// Whether it counts towards the limits on bandwidth.
    pub(super) paced: Option<PacedResponse>,
    /// How the file was found, where that is noted.
    pub(super) cached: Option<CacheResult>,
}

/// The body of a [`PrerenderedResponse`] response, and by what it is known again.
pub(super) enum PrerenderedBody {
    None,
    /// The end of `block`; a response whose body is these very bytes is unchanged.
    Inline,
    /// Shared with the body that the App sees; a response that still has it, at its length, is unchanged.
    Segments(Rc<Segments>),
}

impl PrerenderedResponse {
    /// A response of fields alone; `block` and `tail` together end in the empty line.
    pub fn head(status: StatusCode, block: Bytes, tail: Bytes) -> HttpResponse {
        let body_at = block.len();
        Self {
            status,
            lead: Box::default(),
            block,
            body_at,
            tail,
            content: PrerenderedBody::None,
            paced: None,
            cached: None,
        }
        .respond(BoxBody::new(()))
    }

    /// A response whose body lies behind its fields, from `body_at` on.
    pub(crate) fn inline(
        status: StatusCode,
        block: Bytes,
        body_at: usize,
        paced: Option<PacedResponse>,
    ) -> HttpResponse {
        let body = block.slice(body_at..);
        let tail = Bytes::new();
        let ready = Self {
            status,
            lead: Box::default(),
            block,
            body_at,
            tail,
            content: PrerenderedBody::Inline,
            paced,
            cached: None,
        };
        ready.respond(BoxBody::new(body))
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
        let body_at = block.len();
        let content = PrerenderedBody::Segments(Rc::clone(&shared));
        Self { status, lead: Box::default(), block, body_at, tail, content, paced: Some(paced), cached: None }
            .respond(BoxBody::new(SegmentsBody::new(shared)))
    }

    /// Puts field lines of its own in front of a response's other lines, of names that those do not have,
    /// or whose lines make one list. False where the response is none of this kind.
    pub fn lead(response: &mut HttpResponse, lines: &[u8]) -> bool {
        let mut extensions = response.extensions_mut();
        let Some(ready) = extensions.get_mut::<Self>() else { return false };
        ready.lead = [&*ready.lead, lines].concat().into();
        true
    }

    /// Notes how the file was found, with a response of this kind.
    pub(crate) fn note_cached(response: &mut HttpResponse, cached: CacheResult) {
        if let Some(ready) = response.extensions_mut().get_mut::<Self>() {
            ready.cached = Some(cached);
        }
    }

    /// Calls `see` with each rendered field line, without its end.
    pub(super) fn each_line(&self, mut see: impl FnMut(&[u8])) {
        let rendered = self.block.get(..self.body_at).unwrap_or_default();
        for lines in [&*self.lead, rendered, &self.tail] {
            let mut rest = lines;
            while let Some(end) = memchr::memchr(b'\r', rest) {
                let (line, after) = rest.split_at(end);
                rest = after.get(2..).unwrap_or_default();
                see(line);
            }
        }
    }

    /// The value of a field, by its name in lower case, as it was rendered; none where there is no such line, or the response is none
    /// of this kind.
    pub(crate) fn field_of(response: &HttpResponse, name: &str) -> Option<String> {
        let extensions = response.extensions();
        let Self { lead, block, body_at, tail, .. } = extensions.get::<Self>()?;
        let head = block.get(..*body_at)?;
        let mut lines =
            [&**lead, head, tail].into_iter().flat_map(|lines| lines.split(|byte| *byte == b'\n'));
        lines.find_map(|line| {
            let (line, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b": ").filter(|_| line == name.as_bytes())?;
            Some(String::from_utf8_lossy(value.trim_ascii_end()).into_owned())
        })
    }

    /// Whether `status` and `body` are still those that this response was made with.
    pub(super) fn is_unchanged(&self, status: StatusCode, body: &BoxBody, bytes: Option<&Bytes>) -> bool {
        status == self.status
            && match &self.content {
                PrerenderedBody::None => {
                    bytes.is_none_or(Bytes::is_empty)
                        && matches!(body.size(), BodySize::None | BodySize::Sized(0))
                }
                PrerenderedBody::Inline => bytes.is_some_and(|bytes| {
                    let own = &self.block[self.body_at..];
                    bytes.len() == own.len() && (own.is_empty() || std::ptr::eq(bytes.as_ptr(), own.as_ptr()))
                }),
                PrerenderedBody::Segments(segments) => {
                    Rc::strong_count(segments) == 2 && body.size() == BodySize::Sized(segments.length())
                }
            }
    }

    fn respond(self, body: BoxBody) -> HttpResponse {
        let mut response = HttpResponse::with_body(self.status, body);
        response.extensions_mut().insert(self);
        response
    }
}

/// That a response counts towards the limits on bandwidth, and what its rules say of them.
#[derive(Clone)]
pub(crate) struct PacedResponse(pub(crate) Option<Arc<RuleRates>>);

impl PacedResponse {
    /// What `response` says; none where it neither counts nor is held back.
    pub(super) fn of<B>(response: &Response<B>) -> Option<Self> {
        let extensions = response.extensions();
        match extensions.get::<PrerenderedResponse>() {
            Some(ready) => ready.paced.clone(),
            None => extensions.get::<Self>().cloned(),
        }
    }
}
