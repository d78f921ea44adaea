//! Routes and responses that the parts of the admin listener share.

use std::future::Future;

use actix_web::http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use serde_json::json;

use crate::http::baseline_headers::{TEXT, baseline_headers};

/// Methods that a route accepts. Others are answered with 405.
#[derive(Clone, Copy)]
pub(super) enum Allow {
    Get,
    GetHead,
    Post,
}

/// Adds a route to an App. `respond` gets a clone of `context`.
pub(super) fn route<C, F, A>(app: &mut ServiceConfig, path: &str, allow: Allow, context: &C, respond: F)
where
    C: Clone + 'static,
    F: Fn(C, HttpRequest) -> A + Clone + 'static,
    A: Future<Output = HttpResponse> + 'static,
{
    let context = context.clone();
    let (methods, header): (&[Method], _) = match allow {
        Allow::Get => (&[Method::GET], "GET"),
        Allow::GetHead => (&[Method::GET, Method::HEAD], "GET, HEAD"),
        Allow::Post => (&[Method::POST], "POST"),
    };
    app.service(web::resource(path).to(move |request: HttpRequest| {
        let is_allowed = methods.contains(request.method());
        let response = is_allowed.then(|| respond(context.clone(), request));
        async move {
            match response {
                Some(response) => response.await,
                None => HttpResponse::MethodNotAllowed().insert_header((ALLOW, header)).finish(),
            }
        }
    }));
}

/// Starts a response that no cache may store.
pub(super) fn uncached(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((CACHE_CONTROL, "no-store"));
    for header in baseline_headers() {
        response.insert_header(header);
    }
    response
}

pub(super) fn text(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    uncached(status).content_type(TEXT).body(text.into())
}

/// An error with `Retry-After`, in seconds.
pub(super) fn retry_later(status: StatusCode, sentence: &str, seconds: u64) -> HttpResponse {
    let mut response = text(status, sentence);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    uncached(status).json(value)
}

/// An error as JSON: `{"error": …}`.
pub(super) fn error(status: StatusCode, sentence: &str) -> HttpResponse {
    json(status, &json!({ "error": sentence }))
}
