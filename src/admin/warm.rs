//! `POST /warm?glob=…`: reads the files that globs match into memory and reports the progress.
//!
//! Each line of the response is a JSON object of counts; the last one has `is_over`. Pages in a browser must not be able to
//! start it: it requires a header that pages can't send here without a CORS preflight, which is never granted, and rejects
//! requests that say that a page sent them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::ORIGIN;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::actions::globs_of;
use super::context::ServerContext;
use super::respond::{text, uncached};
use crate::http::path_glob::PathGlobs;
use crate::lifecycle::warmup::progress::{ADMIN_HEADER, WarmProgressLine};
use crate::lifecycle::warmup::walk::{Matches, matches};
use crate::lifecycle::warmup::warmer::Warmup;
use crate::sys::own_thread::run_on_own_thread;

pub(super) async fn warm(server: Arc<ServerContext>, request: HttpRequest) -> HttpResponse {
    let headers = request.headers();
    let is_from_page = headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site");
    if is_from_page || !headers.contains_key(ADMIN_HEADER) {
        return text(
            StatusCode::FORBIDDEN,
            "The Pagecast-Admin header is required, and pages in a browser are rejected.\n",
        );
    }
    let globs = match globs_of(&request) {
        Ok(Some(globs)) => globs,
        Ok(None) => return text(StatusCode::BAD_REQUEST, "A glob is missing.\n"),
        Err(reason) => {
            log::debug!("globs to warm: {reason}");
            return text(StatusCode::BAD_REQUEST, "A glob is invalid.\n");
        }
    };
    let Ok(turn) = Arc::clone(&server.warmup.turn).try_lock_owned() else {
        return text(StatusCode::CONFLICT, "Another warm-up is running.\n");
    };
    let lines = stream::unfold(start(server.warmup.clone(), globs, turn), |mut lines| async move {
        let line = lines.recv().await?;
        let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
        Some((Ok::<_, Infallible>(Bytes::from(text)), lines))
    });
    uncached(StatusCode::OK).content_type("application/x-ndjson").streaming(lines)
}

/// Warms in a task of its own and returns the receiver of its progress. Dropping the receiver ends the warm-up.
fn start(warmup: Warmup, globs: PathGlobs, turn: OwnedMutexGuard<()>) -> mpsc::Receiver<WarmProgressLine> {
    let (sender, lines) = mpsc::channel(1);
    actix_web::rt::spawn(async move {
        let last = tokio::select! {
            last = run(&warmup, globs, turn, &sender) => last,
            () = sender.closed() => return,
        };
        log::info!("warmed: {}", last.counts);
        let _ = sender.send(last).await;
    });
    lines
}

/// Warms, reports the progress, and returns the last line.
async fn run(
    warmup: &Warmup,
    globs: PathGlobs,
    turn: OwnedMutexGuard<()>,
    sender: &mpsc::Sender<WarmProgressLine>,
) -> WarmProgressLine {
    let (target, max_files) = (warmup.target.load_full(), warmup.max_files);
    // The walk continues if nobody waits for it any more; its guard keeps another one from starting meanwhile.
    let walked = run_on_own_thread(move || (matches(&target, &globs, max_files), turn)).await;
    let Some((Matches { hot, is_truncated, closed }, turn)) = walked else {
        return WarmProgressLine { is_over: true, closed: 1, ..WarmProgressLine::default() };
    };
    let line = |is_over| WarmProgressLine { counts: *warmup.progress.lock(), is_over, is_truncated, closed };
    let reporting = async {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            let _ = sender.send(line(false)).await;
        }
    };
    tokio::select! {
        () = warmup.warm(&hot, &turn) => line(true),
        () = reporting => line(true),
    }
}

const REPORT_EVERY: Duration = Duration::from_millis(500);
