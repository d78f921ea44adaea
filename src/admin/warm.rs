//! `POST /warm?glob=…`: reads the files that globs match into memory, and tells how far it is.
//!
//! Each line of the answer is a JSON object of counts; the last one says `is_over`. A browser must not be able to
//! trigger it, on behalf of whatever page it shows: a header is demanded that no page can send here without being asked
//! first (which is never allowed), and whoever says that a page sent it is refused.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, ORIGIN};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::config::PathGlobs;
use crate::http::form_encoding;
use crate::lifecycle::warmup::protocol::{ADMIN_HEADER, PATH, WarmProgressLine};
use crate::lifecycle::warmup::walk::{Matches, matches};
use crate::lifecycle::warmup::warmer::Warmup;
use crate::sys::own_thread::run_on_own_thread;

/// Adds the route to an App.
pub(crate) fn configure(warmth: &Warmup, app: &mut ServiceConfig) {
    let warmth = warmth.clone();
    app.service(web::resource(PATH).to(move |request: HttpRequest| {
        let answer = answer(&request, &warmth);
        async move { answer }
    }));
}

fn answer(request: &HttpRequest, warmth: &Warmup) -> HttpResponse {
    let refuse = |status, sentence: &'static str| {
        HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(sentence)
    };
    if request.method() != actix_web::http::Method::POST {
        return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "POST")).finish();
    }
    let fields = request.headers();
    let is_from_page = fields.contains_key(ORIGIN) || fields.contains_key("sec-fetch-site");
    if is_from_page || !fields.contains_key(ADMIN_HEADER) {
        return refuse(
            StatusCode::FORBIDDEN,
            "This takes a Pagecast-Admin header, and no page of a browser.\n",
        );
    }
    let globs = form_encoding::pairs(request.query_string().as_bytes())
        .filter(|(name, _)| *name == b"glob")
        .map(|(_, value)| String::from_utf8_lossy(&form_encoding::decode(value)).into_owned())
        .collect();
    let globs = match PathGlobs::new(globs) {
        Ok(globs) => globs,
        Err(reason) => {
            log::debug!("globs to warm: {reason}");
            return refuse(StatusCode::BAD_REQUEST, "A glob is missing, or is none.\n");
        }
    };
    let Some(turn) = warmth.try_acquire() else {
        return refuse(StatusCode::CONFLICT, "Another warming is under way.\n");
    };
    let lines = begin(warmth.clone(), globs, turn);
    let lines = stream::unfold(lines, |mut lines| async move {
        let line = lines.recv().await?;
        let text = serde_json::to_string(&line).unwrap_or_default() + "\n";
        Some((Ok::<_, Infallible>(Bytes::from(text)), lines))
    });
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("application/x-ndjson")
        .streaming(lines)
}

/// Warms on the task's own thread, which only waits; whoever stops listening ends it.
fn begin(warmth: Warmup, globs: PathGlobs, turn: OwnedSemaphorePermit) -> mpsc::Receiver<WarmProgressLine> {
    let (tell, lines) = mpsc::channel(1);
    actix_web::rt::spawn(async move {
        let ended = or_gone(&tell, work(&warmth, globs, turn, &tell)).await;
        if let Some(line) = ended {
            log::info!("warmed: {}", line.counts);
            let _ = tell.send(line).await;
        }
    });
    lines
}

/// What comes of `work`, or none when nobody listens any more.
async fn or_gone<T>(tell: &mpsc::Sender<WarmProgressLine>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        outcome = work => Some(outcome),
        () = tell.closed() => None,
    }
}

async fn work(
    warmth: &Warmup,
    globs: PathGlobs,
    turn: OwnedSemaphorePermit,
    tell: &mpsc::Sender<WarmProgressLine>,
) -> WarmProgressLine {
    let (files, dotfiles, most) = (warmth.files().clone(), warmth.dotfiles(), warmth.max_files);
    // The walk goes on where nobody waits for it any more: no other begins before it is over.
    let walked = run_on_own_thread(move || (matches(&files, &globs, dotfiles, most), turn)).await;
    let Some((Matches { hot, is_truncated, closed }, turn)) = walked else {
        return WarmProgressLine { is_over: true, closed: 1, ..WarmProgressLine::default() };
    };
    let line =
        |is_over| WarmProgressLine { counts: warmth.progress().counts(), is_over, is_truncated, closed };
    let telling = async {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let _ = tell.send(line(false)).await;
        }
    };
    tokio::select! {
        () = warmth.warm(&hot, &turn) => line(true),
        () = telling => line(true),
    }
}

const TELL_EVERY: Duration = Duration::from_millis(500);
