//! The request headers that matter to a file, those of several lines joined to one list (RFC 9110 §5.3).

use std::borrow::Cow;
use std::cell::Cell;

use actix_web::HttpRequest;
use actix_web::http::Method;
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
    range: List<'a>,
    if_match: List<'a>,
    if_unmodified_since: List<'a>,
    if_none_match: List<'a>,
    if_modified_since: List<'a>,
    if_range: List<'a>,
    /// `None` without `Accept-Encoding`: the file is sent as it is.
    pub(crate) encodings: Option<AcceptEncoding>,
    /// The digest that the client wants: `Want-Repr-Digest`, else `Want-Content-Digest` (RFC 9530 §4).
    pub(crate) digest: Option<Algorithm>,
}

/// A header's lines as one list.
type List<'a> = Option<Cow<'a, [u8]>>;

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
    /// Passes over the lines once: each look-up by name would hash it.
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut read = Self::default();
        let (mut accept_encoding, mut want_repr_digest, mut want_content_digest) = (None, None, None);
        for (name, line) in headers {
            let list = match name.as_str() {
                "range" => &mut read.range,
                "if-match" => &mut read.if_match,
                "if-unmodified-since" => &mut read.if_unmodified_since,
                "if-none-match" => &mut read.if_none_match,
                "if-modified-since" => &mut read.if_modified_since,
                "if-range" => &mut read.if_range,
                "accept-encoding" => &mut accept_encoding,
                "want-repr-digest" => &mut want_repr_digest,
                "want-content-digest" => &mut want_content_digest,
                _ => continue,
            };
            append(list, line.as_bytes());
        }
        read.encodings = accept_encoding.map(|list| AcceptEncoding::parse(Some(&list)));
        let best = |list: List<'_>| DigestPreference::parse(&list?).best();
        read.digest = best(want_repr_digest).or_else(|| best(want_content_digest));
        read
    }

    pub(crate) fn has_range(&self) -> bool {
        self.range.is_some()
    }

    /// True if the client accepts no file as it is.
    pub(crate) fn refuses_identity(&self) -> bool {
        self.encodings.is_some_and(|encodings| encodings.refuses_identity())
    }

    /// Returns what [`decide`](crate::http::decide::decide) has to know of the request.
    pub(crate) fn facts(&self, head_only: bool) -> RequestFacts<'_> {
        let preconditions = Preconditions {
            if_match: self.if_match.as_deref(),
            if_unmodified_since: self.if_unmodified_since.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            if_modified_since: self.if_modified_since.as_deref(),
            if_range: self.if_range.as_deref(),
        };
        RequestFacts { head_only, range: self.range.as_deref(), preconditions }
    }
}

/// True if the response has no content because of the method.
pub(crate) fn is_head(request: &HttpRequest) -> bool {
    *request.method() == Method::HEAD
}

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
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> List<'a> {
    let mut list = None;
    headers.get_all(name).for_each(|line| append(&mut list, line.as_bytes()));
    list
}

fn append<'a>(list: &mut List<'a>, line: &'a [u8]) {
    match list {
        None => *list = Some(Cow::Borrowed(line)),
        Some(list) => {
            let list = list.to_mut();
            list.extend_from_slice(b", ");
            list.extend_from_slice(line);
        }
    }
}
