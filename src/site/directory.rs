//! Listings and archives as responses.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};

use crate::config::TrailingSlash;
use crate::config::policy::rules::PathPolicy;
use crate::files::Files;
use crate::http::baseline_headers::BASELINE_LINES;
use crate::http::disposition;
use crate::http::query::{ListingFormat, QueryOptions};
use crate::http::target::ParsedTarget;
use crate::site::archive::writer::ArchiveFormat;
use crate::site::directory_jobs::{ListingRequest, NoDirectory};
use crate::site::error::HttpError;
use crate::site::handler::Site;
use crate::site::listing::page::EtagOf;
use crate::site::listing::sort::Sorting;
use crate::site::listing::style::content_security_policy;
use crate::site::reply::{add_lines, paced};
use crate::site::request_facts::prefers_json;
use crate::site::resolver::EarlyResponse;

impl Site {
    /// The directory as an archive.
    pub(super) async fn archive(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        word: &[u8],
        policy: &Arc<PathPolicy>,
    ) -> EarlyResponse {
        let Some(format) = ArchiveFormat::ALL.into_iter().find(|format| format.word().as_bytes() == word)
        else {
            return refused(HttpError::UnknownArchive, policy);
        };
        let path = target.path.clone().into_owned();
        let client = self.manners.guard.limited_client(request.peer_addr());
        match self.manners.directories.archive(path, format, self.may_read(request), client).await {
            Ok(body) => {
                let mut response = respond(policy, format.media_type(), policy.vary(false), body);
                let value = HeaderValue::from_str(&disposition::attachment(&format.file_name(&target.path)));
                set(&mut response, header::CONTENT_DISPOSITION, value.ok());
                EarlyResponse::Response { response: response.into(), policy: Arc::clone(policy) }
            }
            Err(why) => refused(why.into(), policy),
        }
    }

    /// The directory as a list of its entries.
    pub(super) async fn list(
        &self,
        request: &HttpRequest,
        wants: &QueryOptions<'_>,
        target: &ParsedTarget<'_>,
        policy: &Arc<PathPolicy>,
    ) -> EarlyResponse {
        let by_accept =
            || if prefers_json(request.headers()) { ListingFormat::Json } else { ListingFormat::Html };
        let format = wants.format.unwrap_or_else(by_accept);
        let wanted = ListingRequest {
            path: target.path.clone().into_owned(),
            has_slash: target.wants_directory || self.manners.trailing_slash == TrailingSlash::Add,
            format,
            sorting: Sorting::of(wants),
            has_archives: self.manners.offers_archives,
            etag_of: etag_of(self.files.clone()),
            may_read: self.may_read(request),
        };
        let client = self.manners.guard.limited_client(request.peer_addr());
        match self.manners.directories.list(wanted, client).await {
            Ok(body) => {
                let mut response =
                    respond(policy, format.media_type(), Some(policy.vary_with_accept(false)), body);
                if format == ListingFormat::Html {
                    let value = HeaderValue::from_str(content_security_policy());
                    set(&mut response, header::CONTENT_SECURITY_POLICY, value.ok());
                }
                EarlyResponse::Response { response: response.into(), policy: Arc::clone(policy) }
            }
            Err(why) => refused(why.into(), policy),
        }
    }
}

fn etag_of(files: Files) -> EtagOf {
    Arc::new(move |_, version| files.background().known_etag(version))
}

fn refused(refused: HttpError, policy: &Arc<PathPolicy>) -> EarlyResponse {
    EarlyResponse::Refused { refused, policy: Some(Arc::clone(policy)), varies: false }
}

/// What is made for the request is not kept: it changes with every file.
fn respond(
    policy: &PathPolicy,
    media_type: &'static str,
    vary: Option<&'static str>,
    body: BoxBody,
) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, body);
    response.extensions_mut().insert(paced(policy));
    add_lines(&mut response, policy.lines());
    add_lines(&mut response, BASELINE_LINES);
    set(&mut response, header::VARY, vary.map(HeaderValue::from_static));
    set(&mut response, header::CACHE_CONTROL, Some(HeaderValue::from_static("no-cache")));
    set(&mut response, header::CONTENT_TYPE, Some(HeaderValue::from_static(media_type)));
    response
}

fn set(response: &mut HttpResponse, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        response.headers_mut().insert(name, value);
    }
}

impl From<NoDirectory> for HttpError {
    fn from(why: NoDirectory) -> Self {
        match why {
            NoDirectory::Missing => Self::NotFound,
            NoDirectory::Forbidden => Self::Forbidden,
            NoDirectory::TooLarge => Self::TooLarge,
            NoDirectory::Busy => Self::Busy,
            NoDirectory::Failed => Self::Failed,
        }
    }
}
