//! What operators may do to a running server: `POST /drain`, `/ready`, `/purge?glob=…`, `/reload`.
//!
//! Operators are told causes, unlike clients: what is wrong with a configuration, why a glob is none.

use std::future::Future;
use std::sync::Arc;

use actix_web::http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::json;

use crate::config::PathGlobs;
use crate::files::inventory::CacheInventory;
use crate::http::form_encoding;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::reload::{ReloadError, Reloader};
use crate::lifecycle::warmup::warmer::Warmup;
use crate::sys::own_thread::run_on_own_thread;
use crate::sys::service_manager;

/// What there is to operate. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OperatorActions {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) reloader: Reloader,
    /// It knows which files are served now.
    pub(crate) warmth: Warmup,
}

impl OperatorActions {
    /// Adds the routes to an App.
    pub(crate) fn configure(&self, app: &mut ServiceConfig) {
        let all = || Arc::new(self.clone());
        post(app, "/drain", all(), async |all, _| all.drain(true));
        post(app, "/ready", all(), async |all, _| all.drain(false));
        post(app, "/purge", all(), async |all, request| all.purge(&request).await);
        post(app, "/reload", all(), async |all, _| all.reload().await);
    }

    /// Has load balancers go elsewhere, or come back. Traffic is served all the same.
    fn drain(&self, is_drained: bool) -> HttpResponse {
        let phase = self.lifecycle.phase();
        if phase >= Phase::Draining {
            return refuse(StatusCode::CONFLICT, "The server is stopping.");
        }
        let is_news = self.lifecycle.set_drained(is_drained);
        if is_news {
            let (told, status) = match is_drained {
                true => ("readiness is denied until an operator says otherwise", "Drained by an operator"),
                false => ("an operator lets load balancers come back", "Serving"),
            };
            log::info!("{told}");
            service_manager::status(status);
        }
        tell(StatusCode::OK, &json!({ "is_drained": is_drained, "has_changed": is_news }))
    }

    /// Forgets what the caches have of the names that globs match.
    async fn purge(&self, request: &HttpRequest) -> HttpResponse {
        let globs = match globs_of(request) {
            Ok(Some(globs)) => globs,
            Ok(None) => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "A glob is missing. Accepted: one or more, as in /purge?glob=/assets/**&glob=*.css, or glob=** for all \
                     there is.",
                );
            }
            Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
        };
        let (files, wanted) = (self.warmth.files(), globs.clone());
        let found = run_on_own_thread(move || CacheInventory::of(&files).purge_request(&wanted)).await;
        let Some(found) = found else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "It could not be done. The log says why.");
        };
        let purged = CacheInventory::of(&self.warmth.files()).purge(found).await;
        log::info!("purged {globs}: {} names, {} files", purged.names, purged.files);
        tell(StatusCode::OK, &purged)
    }

    /// Reads the configuration again, as SIGHUP does.
    async fn reload(&self) -> HttpResponse {
        match self.lifecycle.phase() {
            Phase::Starting | Phase::Warming => {
                return refuse(StatusCode::CONFLICT, "The server is starting.");
            }
            Phase::Ready => {}
            _ => return refuse(StatusCode::CONFLICT, "The server is stopping."),
        }
        match self.reloader.reload().await {
            Ok(reloaded) => tell(StatusCode::OK, &reloaded),
            Err(ReloadError::Invalid(errors)) => {
                let errors: Vec<String> = errors.as_slice().iter().map(ToString::to_string).collect();
                let sentence = "Nothing has changed: the configuration is wrong.";
                tell(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "error": sentence, "errors": errors }))
            }
            Err(ReloadError::Incomplete(failures)) => {
                let errors: Vec<String> = failures.iter().map(ToString::to_string).collect();
                let sentence = "The new configuration is not in effect on every worker.";
                tell(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": sentence, "errors": errors }))
            }
        }
    }
}

/// The globs of a query; none where it has none.
///
/// # Errors
/// Why one is no glob, as a sentence.
pub(super) fn globs_of(request: &HttpRequest) -> Result<Option<PathGlobs>, String> {
    let query = request.query_string().as_bytes();
    let globs: Vec<String> = form_encoding::pairs(query)
        .filter(|(name, _)| *name == b"glob")
        .map(|(_, value)| String::from_utf8_lossy(&form_encoding::decode(value)).into_owned())
        .collect();
    if globs.is_empty() {
        return Ok(None);
    }
    PathGlobs::new(globs).map(Some).map_err(|refusal| format!("The list of globs {refusal}."))
}

/// A JSON answer that nobody keeps.
pub(super) fn tell(status: StatusCode, what: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .json(what)
}

/// A refusal that says why.
pub(super) fn refuse(status: StatusCode, sentence: &str) -> HttpResponse {
    tell(status, &json!({ "error": sentence }))
}

/// Adds a route that takes POST and nothing else.
fn post<F, A>(app: &mut ServiceConfig, path: &str, all: Arc<OperatorActions>, act: F)
where
    F: Fn(Arc<OperatorActions>, HttpRequest) -> A + Clone + 'static,
    A: Future<Output = HttpResponse> + 'static,
{
    app.service(web::resource(path).to(move |request: HttpRequest| {
        let (act, all) = (act.clone(), Arc::clone(&all));
        async move {
            if request.method() != Method::POST {
                return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "POST")).finish();
            }
            act(all, request).await
        }
    }));
}
