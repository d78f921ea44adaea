//! The request headers that matter to a file, those of several lines joined to one list (RFC 9110 §5.3).

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::http::accept;
use crate::http::decide::RequestFacts;
use crate::http::digest::{Algorithm, DigestPreference};
use crate::http::encoding::AcceptEncoding;
use crate::http::precondition::Preconditions;

/// The headers that decide which bytes are sent, and how many.
#[derive(Default)]
pub(crate) struct RequestHeaders<'a> {
    range: Option<Cow<'a, [u8]>>,
    if_match: Option<Cow<'a, [u8]>>,
    if_unmodified_since: Option<Cow<'a, [u8]>>,
    if_none_match: Option<Cow<'a, [u8]>>,
    if_modified_since: Option<Cow<'a, [u8]>>,
    if_range: Option<Cow<'a, [u8]>>,
    /// `None` without `Accept-Encoding`: the file is sent as it is.
    pub(crate) encodings: Option<AcceptEncoding>,
    /// The digest that the client wants.
    pub(crate) digest: Option<Algorithm>,
}

impl<'a> RequestHeaders<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        if headers.len() <= 1 && (headers.is_empty() || headers.contains_key(header::HOST)) {
            return Self::default();
        }
        let encodings = joined(headers, &header::ACCEPT_ENCODING);
        Self {
            range: joined(headers, &header::RANGE),
            if_match: joined(headers, &header::IF_MATCH),
            if_unmodified_since: joined(headers, &header::IF_UNMODIFIED_SINCE),
            if_none_match: joined(headers, &header::IF_NONE_MATCH),
            if_modified_since: joined(headers, &header::IF_MODIFIED_SINCE),
            if_range: joined(headers, &header::IF_RANGE),
            encodings: encodings.map(|field| AcceptEncoding::parse(Some(&field))),
            digest: wanted_digest(headers),
        }
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
        RequestFacts {
            head_only,
            range: self.range.as_deref(),
            preconditions: Preconditions {
                if_match: self.if_match.as_deref(),
                if_unmodified_since: self.if_unmodified_since.as_deref(),
                if_none_match: self.if_none_match.as_deref(),
                if_modified_since: self.if_modified_since.as_deref(),
                if_range: self.if_range.as_deref(),
            },
        }
    }
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
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name);
    let first = lines.next()?.as_bytes();
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = [first, second.as_bytes()].join(&b", "[..]);
    for line in lines {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    Some(Cow::Owned(all))
}

/// Reads `Want-Repr-Digest`, else `Want-Content-Digest` (RFC 9530 §4).
fn wanted_digest(headers: &HeaderMap) -> Option<Algorithm> {
    let wanted = |name| DigestPreference::parse(&joined(headers, &name)?).best();
    wanted(WANT_REPR_DIGEST).or_else(|| wanted(WANT_CONTENT_DIGEST))
}

const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
