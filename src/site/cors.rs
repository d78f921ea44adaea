//! What pages of other origins may do (the CORS protocol of the Fetch standard).

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use bytes::Bytes;

use crate::files::policy::PathPolicy;
use crate::http::cors::{CorsAnswer, CorsRequest, decide};
use crate::net::prerendered::PrerenderedResponse;
use crate::site::reply::add_lines;
use crate::site::request_facts::joined;

/// The policy under which a response was made, for the CORS middleware, in the extensions of the response.
struct CorsPolicyOf(Arc<PathPolicy>);

/// Passes the policy on to the CORS middleware, if responses under it differ from origin to origin. What is the same for all
/// origins is among the policy's own header lines.
pub(crate) fn mark_cors(policy: &Arc<PathPolicy>, response: &mut HttpResponse) {
    if policy.varies_by_origin() {
        response.extensions_mut().insert(CorsPolicyOf(Arc::clone(policy)));
    }
}

/// Adds the CORS headers for the origin that `headers` name, by the policy that [`mark_cors`] left in the response.
pub(crate) fn add_cors(headers: &HeaderMap, response: &mut HttpResponse) {
    let Some(CorsPolicyOf(policy)) = response.extensions_mut().remove() else { return };
    let Some(cors) = policy.effects.cors_policy() else { return };
    // No browser sends several lines: together they match nothing.
    let origin = joined(headers, &header::ORIGIN);
    let answer = decide(cors, origin.as_deref(), CorsRequest::Simple);
    if !answer.headers.is_empty() {
        add_lines(response, &lines(&answer));
    }
}

/// Answers a preflight request; `None` if the request is none, or the path has no CORS policy.
pub(crate) fn preflight(policy: &PathPolicy, headers: &HeaderMap) -> Option<HttpResponse> {
    let cors = policy.effects.cors_policy()?;
    let origin = joined(headers, &header::ORIGIN)?;
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let requested = joined(headers, &header::ACCESS_CONTROL_REQUEST_HEADERS);
    let answer = decide(cors, Some(&origin), CorsRequest::Preflight { requested: requested.as_deref() });
    let vary = answer.vary.map_or_else(String::new, |vary| format!("vary: {vary}\r\n"));
    let block = format!("{}{}{vary}\r\n", policy.lines_without_cors(), lines(&answer));
    Some(PrerenderedResponse::head(StatusCode::NO_CONTENT, block.into(), Bytes::new()))
}

fn lines(answer: &CorsAnswer<'_>) -> String {
    let line = |(name, value): &(&str, _)| format!("{}: {value}\r\n", name.to_ascii_lowercase());
    answer.headers.iter().map(line).collect()
}
