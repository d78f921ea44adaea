//! Actions of operators on a running server: `POST /drain`, `/ready`, `/purge?glob=…`, `/reload`.
//!
//! Operators see causes, unlike clients: what is wrong with a configuration or with a glob.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::respond::{self, Allow, error, route};
use crate::config::PathGlobs;
use crate::http::form_encoding;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::reload::{ReloadError, Reloader};
use crate::lifecycle::warmup::warmer::Warmup;
use crate::sys::own_thread::run_on_own_thread;
use crate::sys::service_manager;

/// What operators act on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OperatorActions {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) reloader: Arc<Reloader>,
    /// Knows which files are served now.
    pub(crate) warmup: Warmup,
}

impl OperatorActions {
    /// Adds the routes to an App.
    pub(crate) fn configure(&self, app: &mut ServiceConfig) {
        let actions = Arc::new(self.clone());
        for (path, is_drained) in [("/drain", true), ("/ready", false)] {
            let actions = Arc::clone(&actions);
            route(app, path, Allow::Post, move |_| ready(actions.set_drained(is_drained)));
        }
        let purging = Arc::clone(&actions);
        route(app, "/purge", Allow::Post, move |request| Arc::clone(&purging).purge(request));
        route(app, "/reload", Allow::Post, move |_| Arc::clone(&actions).reload());
    }

    /// Makes readiness fail, so that load balancers stop sending traffic, or lets it pass again. Traffic is still served.
    fn set_drained(&self, is_drained: bool) -> HttpResponse {
        let phase = self.lifecycle.phase();
        if phase >= Phase::Draining {
            return error(StatusCode::CONFLICT, "The server is stopping.");
        }
        let has_changed = self.lifecycle.is_drained.swap(is_drained, Ordering::Relaxed) != is_drained;
        if has_changed {
            let (message, status) = match is_drained {
                true => ("drained by an operator: readiness fails", "Drained by an operator"),
                false => ("readiness restored by an operator", "Serving"),
            };
            log::info!("{message}");
            service_manager::status(status);
        }
        respond::json(StatusCode::OK, &json!({ "is_drained": is_drained, "has_changed": has_changed }))
    }

    /// Removes cache entries whose names match the globs.
    async fn purge(self: Arc<Self>, request: HttpRequest) -> HttpResponse {
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
        let (files, wanted) = (self.warmup.files(), globs.clone());
        let found = run_on_own_thread(move || files.purge_request(&wanted)).await;
        let Some(found) = found else {
            return error(StatusCode::INTERNAL_SERVER_ERROR, FAILED);
        };
        let purged = self.warmup.files().purge(found).await;
        log::info!("purged {globs}: {} names, {} files", purged.names, purged.files);
        respond::json(StatusCode::OK, &purged)
    }

    /// Reads the configuration again, as SIGHUP does.
    async fn reload(self: Arc<Self>) -> HttpResponse {
        match self.lifecycle.phase() {
            Phase::Starting | Phase::Warming => {
                return error(StatusCode::CONFLICT, "The server is starting.");
            }
            Phase::Ready => {}
            _ => return error(StatusCode::CONFLICT, "The server is stopping."),
        }
        match self.reloader.reload().await {
            Ok(reloaded) => respond::json(StatusCode::OK, &reloaded),
            Err(error) => {
                let (status, sentence) = match error {
                    ReloadError::Invalid(_) => {
                        (StatusCode::UNPROCESSABLE_ENTITY, "Nothing has changed: the configuration is wrong.")
                    }
                    ReloadError::Incomplete(_) => (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "The new configuration is not in effect on every worker.",
                    ),
                };
                respond::json(status, &json!({ "error": sentence, "errors": error.lines() }))
            }
        }
    }
}

/// Reads the globs of a query. `None` if it has none.
///
/// # Errors
/// Why a glob is invalid, as a sentence.
pub(super) fn globs_of(request: &HttpRequest) -> Result<Option<PathGlobs>, String> {
    let query = request.query_string().as_bytes();
    let globs: Vec<String> = form_encoding::pairs(query)
        .filter(|(name, _)| *name == b"glob")
        .map(|(_, value)| String::from_utf8_lossy(&form_encoding::decode(value)).into_owned())
        .collect();
    if globs.is_empty() {
        return Ok(None);
    }
    PathGlobs::new(globs).map(Some).map_err(|reason| format!("The list of globs {reason}."))
}

/// Error for a task that panicked.
pub(super) const FAILED: &str = "Internal error. See the log.";
