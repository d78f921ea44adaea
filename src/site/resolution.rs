//! What a request path resolves to: a file, a known name, or an early response.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};

use crate::files::policy::PathPolicy;
use crate::files::{Asset, Lookup, Name};
use crate::http::cache_control;
use crate::http::error::HttpError;
use crate::http::target::SitePath;
use crate::site::cors::mark_cors;
use crate::site::path_cache::CachedPath;
use crate::site::reply::redirect;

/// A file that a request path resolves to.
pub(crate) struct Resolved {
    pub(crate) asset: Arc<Asset>,
    pub(crate) name: Arc<Name>,
    /// Set if the file answers for a path other than its own.
    pub(crate) fallback: Option<Fallback>,
}

pub(crate) type Resolution = Result<Resolved, EarlyResponse>;

/// How a response differs because its file answers for another path.
pub(crate) struct Fallback {
    /// Only clients that accept HTML get the file.
    by_accept: bool,
    /// The file's own name makes it immutable, the requested name does not.
    is_revalidated: bool,
}

impl Resolved {
    /// A file that answers for the `requested` path, to clients that accept HTML alone if `by_accept`.
    pub(crate) fn fallback(
        asset: Arc<Asset>,
        name: Arc<Name>,
        by_accept: bool,
        requested: &SitePath<'_>,
    ) -> Self {
        let guess = |name| cache_control::default_for(name, asset.headers.media_type());
        let is_revalidated = asset.policy.cache_control().is_none()
            && guess(asset.path.file_name()) == cache_control::IMMUTABLE
            && guess(requested.file_name()) != cache_control::IMMUTABLE;
        Self { asset, name, fallback: Some(Fallback { by_accept, is_revalidated }) }
    }
}

impl Fallback {
    /// Corrects the headers of the response that was made of `asset`.
    pub(crate) fn correct_headers(&self, asset: &Asset, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        if self.by_accept {
            let vary = asset.policy.vary_with_accept(asset.variants.is_some());
            headers.insert(header::VARY, HeaderValue::from_static(vary));
        }
        if self.is_revalidated {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control::REVALIDATE));
        }
    }
}

/// A path found in the worker's path cache, with the file that it names.
pub(crate) struct CachedResolution {
    pub(crate) path: CachedPath,
    pub(crate) lookup: Lookup,
    /// The caches have to learn of this use.
    pub(crate) is_due_for_touch: bool,
    /// Index in the path cache.
    pub(crate) slot: usize,
}

/// A response that is made without the requested file.
pub(crate) enum EarlyResponse {
    /// A redirect, a listing or an archive.
    Response(Box<HttpResponse>),
    /// An error under the policy of a path; `varies` if the file was available in several encodings.
    Error { error: HttpError, policy: Arc<PathPolicy>, varies: bool },
    /// Another file, sent with this status.
    Page(Arc<Asset>, StatusCode),
}

impl EarlyResponse {
    /// An error under `policy`.
    pub(crate) fn error(policy: &Arc<PathPolicy>, error: impl Into<HttpError>) -> Self {
        Self::Error { error: error.into(), policy: Arc::clone(policy), varies: false }
    }

    /// The outcome of making a response under `policy`.
    pub(crate) fn of(policy: &Arc<PathPolicy>, made: Result<HttpResponse, HttpError>) -> Self {
        made.map_or_else(|error| Self::error(policy, error), |response| Self::response(policy, response))
    }

    /// A redirect under `policy`.
    pub(crate) fn redirect(policy: &Arc<PathPolicy>, status: StatusCode, location: &str) -> Self {
        Self::response(policy, redirect(status, policy, location))
    }

    /// A response under `policy`.
    pub(crate) fn response(policy: &Arc<PathPolicy>, mut response: HttpResponse) -> Self {
        mark_cors(policy, &mut response);
        Self::Response(response.into())
    }
}
