//! The middleware of the site. `server::app` wraps the site in what is enabled, and says in which order and why.

use actix_service::{Service, boxed};
use actix_web::Error;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};

use crate::http::error::HttpError;
use crate::http::target::SitePath;
use crate::limits::client_limits::AdmissionOutcome;
use crate::site::access::{admit, apply_cache_policy, is_public, keep_private};
use crate::site::cors::{add_cors, mark_cors};
use crate::site::https_policy::Rejection;
use crate::site::reply::{add_lines, redirect};
use crate::site::request_facts::is_head;
use crate::site::settings::Site;

/// What a middleware wraps: the next middleware, or the site.
pub(crate) type Next = boxed::RcService<ServiceRequest, ServiceResponse, Error>;

/// What a middleware returns.
pub(crate) type Outcome = Result<ServiceResponse, Error>;

/// Adds `Strict-Transport-Security` (RFC 6797), and `Vary` if `X-Forwarded-Proto` decides about it.
pub(crate) async fn transport_security(site: &Site, request: ServiceRequest, next: &Next) -> Outcome {
    let mut response = next.call(request).await?;
    let policy = &site.settings.https_policy;
    let lines = [policy.transport_security(response.request()), policy.vary(response.request())];
    for line in lines.into_iter().flatten() {
        add_lines(response.response_mut(), line);
    }
    Ok(response)
}

/// Adds the CORS headers for the origin of the request. The site says by which policy: that of the file which answers.
pub(crate) async fn cors(_: &Site, request: ServiceRequest, next: &Next) -> Outcome {
    let (request, mut response) = next.call(request).await?.into_parts();
    add_cors(request.headers(), &mut response);
    Ok(ServiceResponse::new(request, response))
}

/// Answers 429 to clients over a request limit. Other responses carry their permit, which the connection holds until all is
/// sent.
pub(crate) async fn admission(site: &Site, request: ServiceRequest, next: &Next) -> Outcome {
    let Some(admission) = site.settings.limits.admit(request.request()) else {
        return next.call(request).await;
    };
    let AdmissionOutcome { outcome, lines } = *admission;
    let mut response = match &outcome {
        Ok(_) => next.call(request).await?,
        Err(exceeded) => {
            let policy = site.settings.policy_of(request.request());
            let error = HttpError::TooManyRequests(exceeded.retry_after);
            let mut response = error.respond(is_head(request.request()), &policy, false);
            mark_cors(&policy, &mut response);
            request.into_response(response)
        }
    };
    if !lines.is_empty() {
        add_lines(response.response_mut(), &lines);
    }
    if let Ok(permit) = outcome {
        response.response_mut().extensions_mut().insert(permit);
    }
    Ok(response)
}

/// Redirects plain HTTP to https, and rejects suspicious queries.
pub(crate) async fn https_policy(site: &Site, request: ServiceRequest, next: &Next) -> Outcome {
    let settings = &site.settings;
    let Some(rejection) = settings.https_policy.check(request.request()) else {
        return next.call(request).await;
    };
    let policy = settings.policy_of(request.request());
    let mut response = match rejection {
        Rejection::ToHttps(location) => {
            // At a 301 clients would turn other methods than GET and HEAD into GET.
            let (moved, kept) = (StatusCode::MOVED_PERMANENTLY, StatusCode::PERMANENT_REDIRECT);
            redirect(if is_read(&request) { moved } else { kept }, &policy, &location)
        }
        Rejection::Error(error) => error.respond(is_head(request.request()), &policy, false),
    };
    mark_cors(&policy, &mut response);
    if SitePath::parse(request.path().as_bytes()).is_ok_and(|target| !is_public(settings, &target.path)) {
        keep_private(&mut response);
    }
    Ok(request.into_response(response))
}

/// Checks the requested path by the access rules, and keeps the responses of closed paths out of caches. The resolver checks
/// the paths that answer for it.
pub(crate) async fn authentication(site: &Site, request: ServiceRequest, next: &Next) -> Outcome {
    let is_open = !is_read(&request) || site.is_known_public(request.request());
    let admitted = match SitePath::parse(request.path().as_bytes()) {
        Ok(target) if !is_open => admit(&site.settings, request.request(), &target.path).await,
        // The resolver rejects a malformed path.
        _ => Ok(()),
    };
    let (request, mut response) = match admitted {
        Ok(()) => next.call(request).await?.into_parts(),
        Err(early) => {
            let (request, _payload) = request.into_parts();
            let response = site.early_response(early, &request).await;
            (request, response)
        }
    };
    apply_cache_policy(&request, &mut response);
    Ok(ServiceResponse::new(request, response))
}

fn is_read(request: &ServiceRequest) -> bool {
    [Method::GET, Method::HEAD].contains(request.method())
}
