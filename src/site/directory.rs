//! Listings and archives as responses.

use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use crate::config::TrailingSlash;
use crate::config::policy::rules::PathPolicy;
use crate::http::baseline_headers::BASELINE_LINES;
use crate::http::disposition;
use crate::http::query::{ListingFormat, QueryOptions};
use crate::http::target::ParsedTarget;
use crate::site::access::read_permission;
use crate::site::archive::writer::ArchiveFormat;
use crate::site::error::HttpError;
use crate::site::listing::page::ListingPage;
use crate::site::listing::sort::Sorting;
use crate::site::listing::style::content_security_policy;
use crate::site::reply::{add_lines, paced};
use crate::site::request_facts::prefers_json;
use crate::site::resolution::EarlyResponse;
use crate::site::settings::SiteSettings;

/// Makes the archive of a directory, in the format of this name.
pub(crate) async fn archive(
    settings: &SiteSettings,
    request: &HttpRequest,
    target: &ParsedTarget<'_>,
    format: &[u8],
    policy: &Arc<PathPolicy>,
) -> EarlyResponse {
    let Some(format) = ArchiveFormat::ALL.into_iter().find(|known| known.word().as_bytes() == format) else {
        return EarlyResponse::error(policy, HttpError::UnknownArchive);
    };
    let path = target.path.clone().into_owned();
    let client = settings.limits.limited_client(request.peer_addr());
    let may_read = read_permission(settings, request);
    match settings.directories.archive(path, format, may_read, client).await {
        Ok(body) => {
            let mut response = respond(policy, format.media_type(), policy.vary(false), body);
            let value = HeaderValue::from_str(&disposition::attachment(&format.file_name(&target.path)));
            set(&mut response, header::CONTENT_DISPOSITION, value.ok());
            EarlyResponse::response(policy, response)
        }
        Err(error) => EarlyResponse::error(policy, error),
    }
}

/// Makes the listing of a directory.
pub(crate) async fn list(
    settings: &SiteSettings,
    request: &HttpRequest,
    options: &QueryOptions<'_>,
    target: &ParsedTarget<'_>,
    policy: &Arc<PathPolicy>,
) -> EarlyResponse {
    let by_accept =
        || if prefers_json(request.headers()) { ListingFormat::Json } else { ListingFormat::Html };
    let format = options.format.unwrap_or_else(by_accept);
    let files = settings.files.clone();
    let page = ListingPage {
        path: target.path.clone().into_owned(),
        has_slash: target.wants_directory || settings.config.site.trailing_slash == TrailingSlash::Add,
        format,
        sorting: Sorting::of(options),
        has_archives: settings.config.directories.archive.is_on(),
        etag_of: Arc::new(move |version| files.known_etag(version)),
    };
    let may_read = read_permission(settings, request);
    let client = settings.limits.limited_client(request.peer_addr());
    match settings.directories.list(page, may_read, client).await {
        Ok(body) => {
            let vary = Some(policy.vary_with_accept(false));
            let mut response = respond(policy, format.media_type(), vary, body);
            if format == ListingFormat::Html {
                let value = HeaderValue::from_str(content_security_policy());
                set(&mut response, header::CONTENT_SECURITY_POLICY, value.ok());
            }
            EarlyResponse::response(policy, response)
        }
        Err(error) => EarlyResponse::error(policy, error),
    }
}

/// Makes a response that caches revalidate: it changes with every file.
fn respond(
    policy: &PathPolicy,
    media_type: &'static str,
    vary: Option<&'static str>,
    body: BoxBody,
) -> HttpResponse {
    let mut response = HttpResponse::with_body(StatusCode::OK, body);
    response.extensions_mut().insert(paced(policy));
    add_lines(&mut response, &policy.lines);
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
