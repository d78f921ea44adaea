//! `/debug/config` and `/debug/cache`: settings in effect and contents of the name cache.

use std::future::ready;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use tokio::sync::Semaphore;

use super::actions::{FAILED, OperatorActions, globs_of};
use super::respond::{self, Allow, error, route};
use crate::config::{shown, table};
use crate::http::form_encoding;
use crate::lifecycle::reload::ConfigInEffect;
use crate::sys::own_thread::run_on_own_thread;

/// Adds the routes to an App.
pub(super) fn configure(actions: &OperatorActions, app: &mut ServiceConfig) {
    let (reader, actions) = (actions.clone(), actions.clone());
    route(app, "/debug/config", Allow::GetHead, move |request| ready(config(&reader, &request)));
    let turn = Arc::new(Semaphore::new(1));
    route(app, "/debug/cache", Allow::GetHead, move |request| {
        cache(actions.clone(), request, Arc::clone(&turn))
    });
}

/// Lists every value in effect, its source, and changes that need a restart. As text with `?format=text`.
fn config(actions: &OperatorActions, request: &HttpRequest) -> HttpResponse {
    let current = actions.reloader.current.load_full();
    let ConfigInEffect { origins, limits, postponed, view } = &*current;
    let values = shown(&view.config, origins, limits);
    match last(request, b"format").as_deref() {
        None | Some("json") => {
            respond::json(StatusCode::OK, &json!({ "values": values, "needs_restart": postponed }))
        }
        Some("text") => {
            let postponed = postponed.iter().map(|setting| {
                format!("\n{} = {} ({}) needs a restart", setting.key, setting.value, setting.origin)
            });
            respond::text(StatusCode::OK, table(&values) + &postponed.collect::<String>())
        }
        Some(_) => error(StatusCode::BAD_REQUEST, "Unknown format. Accepted: json, text."),
    }
}

/// Lists entries of the name cache, the most recently used first. `?glob=` selects names, `?limit=` bounds their number.
async fn cache(actions: OperatorActions, request: HttpRequest, turn: Arc<Semaphore>) -> HttpResponse {
    let globs = match globs_of(&request) {
        Ok(globs) => globs,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
    };
    let limit = match last(&request, b"limit").map(|limit| limit.parse()) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
        Some(_) => {
            return error(StatusCode::BAD_REQUEST, &format!("Invalid limit. Accepted: 1 to {LIMIT_MAX}."));
        }
    };
    // Reads all names, so one request at a time is enough.
    let Ok(turn) = turn.acquire_owned().await else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, FAILED);
    };
    let files = actions.warmup.files();
    let remembered = run_on_own_thread(move || (files.list_names(globs.as_ref(), limit), turn)).await;
    match remembered {
        Some((remembered, _turn)) => respond::json(StatusCode::OK, &remembered),
        None => error(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
    }
}

/// Returns the last value of `name` in the query.
fn last(request: &HttpRequest, name: &[u8]) -> Option<String> {
    let (_, value) =
        form_encoding::pairs(request.query_string().as_bytes()).filter(|(known, _)| *known == name).last()?;
    Some(String::from_utf8_lossy(&form_encoding::decode(value)).into_owned())
}

/// Default limit of names.
const LIMIT: usize = 100;

const LIMIT_MAX: usize = 10_000;
