//! Actions of operators on a running server: `POST /drain`, `/ready`, `/purge?glob=…`, `/reload`.
//!
//! Operators see causes, unlike clients: what is wrong with a configuration or with a glob.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::context::ServerContext;
use super::respond::{self, error};
use crate::http::form_encoding;
use crate::http::path_glob::PathGlobs;
use crate::lifecycle::phase::Phase;
use crate::lifecycle::reload::ReloadError;
use crate::sys::own_thread::run_on_own_thread;
use crate::sys::service_manager;

/// Makes readiness fail, so that load balancers stop sending traffic, or lets it pass again. Traffic is still served.
pub(super) fn set_drained(server: &ServerContext, is_drained: bool) -> HttpResponse {
    let phase = server.lifecycle.phase();
    if phase >= Phase::Draining {
        return error(StatusCode::CONFLICT, "The server is stopping.");
    }
    let has_changed = server.lifecycle.is_drained.swap(is_drained, Ordering::Relaxed) != is_drained;
    if has_changed {
        let (message, status) = match is_drained {
            true => ("drained by an operator: readiness fails", "Drained by an operator"),
            false => ("readiness restored by an operator", "Serving"),
        };
        log::info!("{message}");
        service_manager::status(status);
    }
    respond::json(StatusCode::OK, &json!({ "has_changed": has_changed, "is_drained": is_drained }))
}

/// Removes cache entries whose names match the globs.
pub(super) async fn purge(server: Arc<ServerContext>, request: HttpRequest) -> HttpResponse {
    let globs = match globs_of(&request) {
        Ok(Some(globs)) => globs,
        Ok(None) => {
            return error(
                StatusCode::BAD_REQUEST,
                "A glob is missing. Accepted: one or more, as in /purge?glob=/assets/**&glob=*.css, or glob=** for \
                 everything.",
            );
        }
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
    };
    let (files, wanted) = (server.warmup.files(), globs.clone());
    let Some(purging) = run_on_own_thread(move || files.purge(&wanted)).await else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, FAILED);
    };
    let purged = purging.await;
    log::info!("purged {globs}: {} names, {} files", purged.names, purged.files);
    respond::json(StatusCode::OK, &purged)
}

/// Reads the configuration again, as SIGHUP does.
pub(super) async fn reload(server: Arc<ServerContext>, _: HttpRequest) -> HttpResponse {
    match server.lifecycle.phase() {
        Phase::Starting | Phase::Warming => return error(StatusCode::CONFLICT, "The server is starting."),
        Phase::Ready => {}
        _ => return error(StatusCode::CONFLICT, "The server is stopping."),
    }
    let error = match server.reloader.reload().await {
        Ok(reloaded) => return respond::json(StatusCode::OK, &reloaded),
        Err(error) => error,
    };
    let (status, sentence) = match error {
        ReloadError::Invalid(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "Nothing has changed: the configuration is wrong.")
        }
        ReloadError::Unread(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "Nothing has changed: the configuration could not be read.")
        }
        ReloadError::Incomplete(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "The new configuration is not in effect on every worker.")
        }
    };
    respond::json(status, &json!({ "error": sentence, "errors": error.lines() }))
}

/// Reads the globs of a query. `None` if it has none.
///
/// # Errors
/// Why a glob is invalid, as a sentence.
pub(super) fn globs_of(request: &HttpRequest) -> Result<Option<PathGlobs>, String> {
    let globs: Vec<String> = query_values(request, "glob").collect();
    if globs.is_empty() {
        return Ok(None);
    }
    PathGlobs::new(globs).map(Some).map_err(|reason| format!("The list of globs {reason}."))
}

/// Returns the values of `name` in the query, in their order.
pub(super) fn query_values(request: &HttpRequest, name: &str) -> impl Iterator<Item = String> {
    form_encoding::pairs(request.query_string().as_bytes())
        .filter(move |(known, _)| *known == name.as_bytes())
        .map(|(_, value)| String::from_utf8_lossy(&form_encoding::decode(value)).into_owned())
}

/// Error for a task that panicked.
pub(super) const FAILED: &str = "Internal error. See the log.";
