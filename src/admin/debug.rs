//! `/debug/config` and `/debug/cache`: settings in effect and contents of the name cache.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use tokio::sync::Semaphore;

use super::actions::{FAILED, globs_of, query_values};
use super::context::ServerContext;
use super::respond::{self, error};
use crate::config::{shown, table};
use crate::lifecycle::reload::ConfigInEffect;
use crate::sys::own_thread::run_on_own_thread;

/// Lists every value in effect, its source, and changes that need a restart. As text with `?format=text`.
pub(super) async fn config(server: Arc<ServerContext>, request: HttpRequest) -> HttpResponse {
    let current = server.reloader.current.load_full();
    let ConfigInEffect { origins, limits, postponed, view } = &*current;
    let values = shown(&view.config, origins, limits);
    match query_values(&request, "format").last().as_deref() {
        None | Some("json") => {
            respond::json(StatusCode::OK, &json!({ "needs_restart": postponed, "values": values }))
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
pub(super) async fn cache(server: Arc<ServerContext>, request: HttpRequest) -> HttpResponse {
    let globs = match globs_of(&request) {
        Ok(globs) => globs,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
    };
    let limit = match query_values(&request, "limit").last().map(|limit| limit.parse()) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
        Some(_) => {
            return error(StatusCode::BAD_REQUEST, &format!("Invalid limit. Accepted: 1 to {LIMIT_MAX}."));
        }
    };
    let (files, turn) = (server.warmup.files(), LISTING.acquire().await);
    let listed = run_on_own_thread(move || (files.list_names(globs.as_ref(), limit), turn)).await;
    match listed {
        Some((listed, _turn)) => respond::json(StatusCode::OK, &listed),
        None => error(StatusCode::INTERNAL_SERVER_ERROR, FAILED),
    }
}

/// A listing reads all names, so one request at a time is enough.
static LISTING: Semaphore = Semaphore::const_new(1);

/// Default limit of names.
const LIMIT: usize = 100;

const LIMIT_MAX: usize = 10_000;
