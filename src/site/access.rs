//! Access control by path: decided before a path is looked up, by its decoded name alone.
//!
//! Every path whose bytes could be sent is checked: the requested one, and whatever answers for it (an index, a fallback, the target
//! of a rewrite, an error page, an entry of a listing or of an archive). What lies beside a file under its name and a suffix
//! (`x.br`, `x.sha256`) is as private as the file.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use crate::auth::access::{AccessRequest, AuthContext};
use crate::files::directory::ReadPermission;
use crate::http::cache_control;
use crate::http::canned_response::BAD_TARGET;
use crate::http::target::SitePath;
use crate::net::prerendered::PrerenderedResponse;
use crate::site::resolution::EarlyResponse;
use crate::site::settings::SiteSettings;

/// Checks a path before it is looked up.
///
/// Decision: docs/decisions/028-access-control.md.
pub(crate) async fn admit(
    settings: &SiteSettings,
    request: &HttpRequest,
    path: &SitePath<'_>,
) -> Result<(), EarlyResponse> {
    if !settings.has_access_rules {
        return Ok(());
    }
    for policy in settings.files.loader.rules.locks(path) {
        let Some(rule) = policy.access() else { continue };
        with_auth_context(request, |auth| auth.is_private = true);
        if with_auth_context(request, |auth| auth.opens(rule, path)) {
            continue;
        }
        let raw = request.uri().path().as_bytes();
        let Ok(requested) = SitePath::parse(raw) else {
            return Err(EarlyResponse::error(&policy, &BAD_TARGET));
        };
        let limits = &settings.limits;
        let access = AccessRequest { request, limits, requested: &requested.path, path };
        match settings.authenticator.authorize(&access, rule).await {
            Ok(grant) => with_auth_context(request, |auth| auth.grants.push(grant)),
            Err(denied) => {
                with_auth_context(request, |auth| auth.is_denied = true);
                return Err(EarlyResponse::error(&policy, denied));
            }
        }
    }
    Ok(())
}

/// True if no access rule closes the path.
pub(crate) fn is_public(settings: &SiteSettings, path: &SitePath<'_>) -> bool {
    !settings.has_access_rules
        || settings.files.loader.rules.locks(path).all(|policy| policy.access().is_none())
}

/// Returns a function that says which paths the credentials open that the request has presented so far.
pub(crate) fn read_permission(settings: &SiteSettings, request: &HttpRequest) -> ReadPermission {
    if !settings.has_access_rules {
        return Arc::new(|_| true);
    }
    let auth = with_auth_context(request, |auth| auth.clone());
    let rules = Arc::clone(&settings.files.loader.rules);
    Arc::new(move |path| {
        rules.locks(path).all(|policy| policy.access().is_none_or(|rule| auth.opens(rule, path)))
    })
}

/// Keeps the response of a closed path out of caches.
pub(crate) fn apply_cache_policy(request: &HttpRequest, response: &mut HttpResponse) {
    let Some(auth) = request.extensions_mut().remove::<AuthContext>() else { return };
    if auth.is_denied {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    } else if auth.is_private {
        keep_private(response);
    }
}

/// Adds `private` to the response's `Cache-Control`, rendered or not.
pub(crate) fn keep_private(response: &mut HttpResponse) {
    let set = response
        .headers()
        .get(header::CACHE_CONTROL)
        .map(|value| value.to_str().unwrap_or_default().to_owned());
    let current = set.or_else(|| PrerenderedResponse::header_of(response, "cache-control"));
    let value = cache_control::private(current.as_deref());
    if current.as_ref() != Some(&value)
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
}

fn with_auth_context<T>(request: &HttpRequest, look: impl FnOnce(&mut AuthContext) -> T) -> T {
    look(request.extensions_mut().get_or_insert_with(AuthContext::default))
}
