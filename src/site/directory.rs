//! Listings and archives as responses.

use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use crate::config::TrailingSlash;
use crate::files::policy::PathPolicy;
use crate::http::baseline_headers::BASELINE_LINES;
use crate::http::cache_control::REVALIDATE;
use crate::http::canned_response::UNKNOWN_ARCHIVE;
use crate::http::disposition;
use crate::http::error::HttpError;
use crate::http::query::ListingFormat;
use crate::http::target::ParsedTarget;
use crate::site::access::read_permission;
use crate::site::archive::writer::ArchiveFormat;
use crate::site::listing::page::ListingPage;
use crate::site::listing::sort::Sorting;
use crate::site::listing::style::content_security_policy;
use crate::site::reply::{add_lines, paced};
use crate::site::request_facts::{SiteRequest, prefers_json};
use crate::site::settings::SiteSettings;

/// Makes the archive of a directory, in the format of this name.
pub(crate) async fn archive(
    settings: &SiteSettings,
    request: &HttpRequest,
    target: &ParsedTarget<'_>,
    format: &[u8],
    policy: &PathPolicy,
) -> Result<HttpResponse, HttpError> {
    let format = ArchiveFormat::named(format).ok_or(&UNKNOWN_ARCHIVE)?;
    let path = target.path.clone().into_owned();
    let client = settings.limits.limited_client(request.peer_addr());
    let may_read = read_permission(settings, request);
    let body = settings.directories.archive(path, format, may_read, client).await?;
    let disposition = disposition::attachment(&format.file_name(&target.path));
    let headers = [
        (header::CONTENT_TYPE, Some(format.media_type())),
        (header::VARY, policy.vary(false)),
        (header::CONTENT_DISPOSITION, Some(&disposition)),
    ];
    Ok(respond(policy, body, headers))
}

/// Makes the listing of a directory.
pub(crate) async fn list(
    settings: &SiteSettings,
    request: &SiteRequest<'_>,
    target: &ParsedTarget<'_>,
    policy: &PathPolicy,
) -> Result<HttpResponse, HttpError> {
    let SiteSettings { files, config, .. } = settings;
    let prefers_json = || prefers_json(request.http.headers());
    let by_accept = || if prefers_json() { ListingFormat::Json } else { ListingFormat::Html };
    let format = request.options.format.unwrap_or_else(by_accept);
    let files = files.clone();
    let page = ListingPage {
        path: target.path.clone().into_owned(),
        has_slash: target.wants_directory || config.site.trailing_slash == TrailingSlash::Add,
        format,
        sorting: Sorting::of(&request.options),
        has_archives: config.directories.archive.is_on(),
        etag_of: Arc::new(move |version| files.known_etag(version)),
    };
    let may_read = read_permission(settings, request.http);
    let client = settings.limits.limited_client(request.http.peer_addr());
    let body = settings.directories.list(page, may_read, client).await?;
    let is_html = format == ListingFormat::Html;
    let headers = [
        (header::CONTENT_TYPE, Some(format.media_type())),
        (header::VARY, Some(policy.vary_with_accept(false))),
        (header::CONTENT_SECURITY_POLICY, is_html.then(content_security_policy)),
    ];
    Ok(respond(policy, body, headers))
}

/// Makes a response that caches revalidate: it changes with every file.
fn respond(policy: &PathPolicy, body: BoxBody, headers: [(HeaderName, Option<&str>); 3]) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, body);
    response.extensions_mut().insert(paced(policy));
    add_lines(&mut response, &policy.lines);
    add_lines(&mut response, BASELINE_LINES);
    let cache_control = (header::CACHE_CONTROL, Some(REVALIDATE));
    for (name, value) in headers.into_iter().chain([cache_control]) {
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
