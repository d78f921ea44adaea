//! `/debug/config` and `/debug/cache`: what is in effect, and what is remembered.

use std::future::Future;
use std::sync::Arc;

use actix_web::http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::admin::actions::{OperatorActions, globs_of, refuse, tell};
use crate::config::{shown, table};
use crate::files::inventory::CacheInventory;
use crate::http::form_encoding;
use crate::lifecycle::reload::ConfigInEffect;
use crate::sys::own_thread::run_on_own_thread;

/// Adds the routes to an App.
pub(super) fn configure(operators: &OperatorActions, app: &mut ServiceConfig) {
    get(app, "/debug/config", operators.clone(), async |operators, request| config(&operators, &request));
    let turn = Arc::new(Semaphore::new(1));
    get(app, "/debug/cache", operators.clone(), move |operators, request| {
        let turn = Arc::clone(&turn);
        async move { cache(&operators, &request, turn).await }
    });
}

/// Every value in effect, where it comes from, and what waits for a restart; as text where `?format=text` says so.
fn config(operators: &OperatorActions, request: &HttpRequest) -> HttpResponse {
    let ConfigInEffect { config, origins, limits, postponed, .. } = operators.reloader.current();
    let values = shown(&config, &origins, &limits);
    match last(request, b"format").as_deref() {
        None | Some("json") => tell(StatusCode::OK, &json!({ "values": values, "needs_restart": postponed })),
        Some("text") => {
            let waiting = postponed
                .iter()
                .map(|knob| format!("\n{} = {} ({}) waits for a restart", knob.key, knob.value, knob.origin));
            HttpResponse::Ok()
                .insert_header((CACHE_CONTROL, "no-store"))
                .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .content_type("text/plain; charset=utf-8")
                .body(table(&values) + &waiting.collect::<String>())
        }
        Some(_) => refuse(StatusCode::BAD_REQUEST, "The format is json or text."),
    }
}

/// What is remembered of names, those used last first: of those that `?glob=` matches, at most `?limit=`.
async fn cache(operators: &OperatorActions, request: &HttpRequest, turn: Arc<Semaphore>) -> HttpResponse {
    let globs = match globs_of(request) {
        Ok(globs) => globs,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    let limit = match last(request, b"limit").map(|limit| limit.parse()) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
        Some(_) => {
            return refuse(StatusCode::BAD_REQUEST, &format!("The limit is a count from 1 to {LIMIT_MAX}."));
        }
    };
    // Every name is looked at: one after the other is enough.
    let Ok(turn) = turn.acquire_owned().await else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, FAILED);
    };
    let files = operators.warmth.files();
    let remembered =
        run_on_own_thread(move || (CacheInventory::of(&files).list(globs.as_ref(), limit), turn)).await;
    match remembered {
        Some((remembered, _turn)) => tell(StatusCode::OK, &remembered),
        None => refuse(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
    }
}

/// The last value that a query has for `name`.
fn last(request: &HttpRequest, name: &[u8]) -> Option<String> {
    let (_, value) =
        form_encoding::pairs(request.query_string().as_bytes()).filter(|(known, _)| *known == name).last()?;
    Some(String::from_utf8_lossy(&form_encoding::decode(value)).into_owned())
}

/// Adds a route that is only read.
fn get<F, A>(app: &mut ServiceConfig, path: &str, operators: OperatorActions, read: F)
where
    F: Fn(Arc<OperatorActions>, HttpRequest) -> A + Clone + 'static,
    A: Future<Output = HttpResponse> + 'static,
{
    let operators = Arc::new(operators);
    app.service(web::resource(path).to(move |request: HttpRequest| {
        let (read, operators) = (read.clone(), Arc::clone(&operators));
        async move {
            if ![Method::GET, Method::HEAD].contains(request.method()) {
                return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish();
            }
            read(operators, request).await
        }
    }));
}

const FAILED: &str = "It could not be done. The log says why.";

/// Names that are shown unless the query says otherwise.
const LIMIT: usize = 100;

const LIMIT_MAX: usize = 10_000;
