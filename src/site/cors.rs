//! What pages of other origins may do (the CORS protocol of the Fetch standard).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use bytes::Bytes;

use crate::config::policy::rules::PathPolicy;
use crate::http::cors::{CorsAnswer, CorsRequest, decide};
use crate::net::prerendered::PrerenderedResponse;
use crate::site::reply::add_lines;
use crate::site::request_facts::joined;

/// Adds the CORS headers that depend on the origin. Those that are the same for all origins are prerendered.
pub(crate) fn add_cors(policy: &PathPolicy, headers: &HeaderMap, response: &mut HttpResponse) {
    let Some(cors) = policy.cors().filter(|_| policy.varies_by_origin()) else { return };
    // Several lines are none that a browser sends: together they match nothing.
    let origin = joined(headers, &header::ORIGIN);
    let answer = decide(cors, origin.as_deref(), CorsRequest::Simple);
    if !answer.headers.is_empty() {
        add_lines(response, &lines(&answer));
    }
}

/// The answer to what a browser asks before it lets a page do something; none where it asks nothing, or nobody may.
pub(crate) fn preflight(policy: &PathPolicy, headers: &HeaderMap) -> Option<HttpResponse> {
    let cors = policy.cors()?;
    let origin = joined(headers, &header::ORIGIN)?;
    headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let asked = joined(headers, &header::ACCESS_CONTROL_REQUEST_HEADERS);
    let answer = decide(cors, Some(&origin), CorsRequest::Preflight { requested: asked.as_deref() });
    let mut block = policy.lines_without_cors().as_bytes().to_vec();
    block.extend_from_slice(lines(&answer).as_bytes());
    if let Some(vary) = answer.vary {
        block.extend_from_slice(format!("vary: {vary}\r\n").as_bytes());
    }
    block.extend_from_slice(b"\r\n");
    Some(PrerenderedResponse::head(StatusCode::NO_CONTENT, block.into(), Bytes::new()))
}

fn lines(answer: &CorsAnswer<'_>) -> String {
    let line = |(name, value): &(&str, _)| format!("{}: {value}\r\n", name.to_ascii_lowercase());
    answer.headers.iter().map(line).collect()
}
