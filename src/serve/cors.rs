//! What pages of other origins may do (the CORS protocol of the Fetch standard).

use actix_web::HttpResponse;
use actix_web::http::header::HeaderMap;

use crate::rules::Policy;

/// Adds what a response says to the page's origin.
pub(crate) fn add_cors(_policy: &Policy, _headers: &HeaderMap, _response: &mut HttpResponse) {}

/// The answer to what a browser asks before it lets a page do something; none where it asks nothing.
pub(crate) fn preflight(_policy: &Policy, _headers: &HeaderMap) -> Option<HttpResponse> { None }
