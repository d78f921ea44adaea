//! The request headers that matter to a file, those of several lines joined to one list (RFC 9110 §5.3).

use std::borrow::Cow;
use std::cell::Cell;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::http::accept;
use crate::http::decide::RequestFacts;
use crate::http::digest::{Algorithm, DigestPreference};
use crate::http::encoding::AcceptEncoding;
use crate::http::precondition::Preconditions;
use crate::http::query::QueryOptions;
use crate::telemetry::access_log::record::CacheResult;

/// A GET or HEAD of the site.
pub(crate) struct SiteRequest<'a> {
    pub(crate) http: &'a HttpRequest,
    pub(crate) is_head: bool,
    pub(crate) headers: RequestHeaders<'a>,
    pub(crate) options: QueryOptions<'a>,
    /// Set to how the file was found.
    pub(crate) cached: &'a Cell<Option<CacheResult>>,
}

/// The headers that decide which bytes are sent, and how many.
#[derive(Default)]
pub(crate) struct RequestHeaders<'a> {
    /// Range and the preconditions, in the order of [`SELECTING`].
    selecting: [Option<Cow<'a, [u8]>>; 6],
    /// `None` without `Accept-Encoding`: the file is sent as it is.
    pub(crate) encodings: Option<AcceptEncoding>,
    /// The digest that the client wants.
    pub(crate) digest: Option<Algorithm>,
}

impl<'a> SiteRequest<'a> {
    pub(crate) fn new(http: &'a HttpRequest, is_head: bool, cached: &'a Cell<Option<CacheResult>>) -> Self {
        let options = QueryOptions::parse(http.uri().query().unwrap_or_default().as_bytes());
        Self { http, is_head, headers: RequestHeaders::of(http.headers()), options, cached }
    }

    pub(crate) fn raw_path(&self) -> &'a [u8] {
        self.http.uri().path().as_bytes()
    }

    pub(crate) fn query(&self) -> Option<&'a [u8]> {
        self.http.uri().query().map(str::as_bytes)
    }
}

impl<'a> RequestHeaders<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        if headers.len() <= 1 && (headers.is_empty() || headers.contains_key(header::HOST)) {
            return Self::default();
        }
        let encodings = joined(headers, &header::ACCEPT_ENCODING);
        Self {
            selecting: SELECTING.map(|name| joined(headers, &name)),
            encodings: encodings.map(|field| AcceptEncoding::parse(Some(&field))),
            digest: wanted_digest(headers),
        }
    }

    pub(crate) fn has_range(&self) -> bool {
        self.selecting[0].is_some()
    }

    /// True if the client accepts no file as it is.
    pub(crate) fn refuses_identity(&self) -> bool {
        self.encodings.is_some_and(|encodings| encodings.refuses_identity())
    }

    /// Returns what [`decide`](crate::http::decide::decide) has to know of the request.
    pub(crate) fn facts(&self, head_only: bool) -> RequestFacts<'_> {
        let [range, if_match, if_unmodified_since, if_none_match, if_modified_since, if_range] =
            self.selecting.each_ref().map(Option::as_deref);
        let preconditions =
            Preconditions { if_match, if_unmodified_since, if_none_match, if_modified_since, if_range };
        RequestFacts { head_only, range, preconditions }
    }
}

const SELECTING: [HeaderName; 6] = [
    header::RANGE,
    header::IF_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
];

/// True if the client prefers JSON to HTML.
pub(crate) fn prefers_json(headers: &HeaderMap) -> bool {
    accept::prefers_json(joined(headers, &header::ACCEPT).as_deref())
}

/// True if the client accepts HTML: for a name with an extension, only if it names HTML.
pub(crate) fn takes_page(headers: &HeaderMap, has_extension: bool) -> bool {
    let field = joined(headers, &header::ACCEPT);
    if has_extension { accept::names_html(field.as_deref()) } else { accept::accepts_html(field.as_deref()) }
}

/// Returns all lines of a header as one list.
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name);
    let mut all = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        all.to_mut().extend_from_slice(b", ");
        all.to_mut().extend_from_slice(line.as_bytes());
    }
    Some(all)
}

/// Reads `Want-Repr-Digest`, else `Want-Content-Digest` (RFC 9530 §4).
fn wanted_digest(headers: &HeaderMap) -> Option<Algorithm> {
    let wanted = |name| DigestPreference::parse(&joined(headers, &name)?).best();
    wanted(WANT_REPR_DIGEST).or_else(|| wanted(WANT_CONTENT_DIGEST))
}

const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
