//! `/livez`, `/readyz` and `/healthz`: tiny, never cached, answered whatever became of the root.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::files::Files;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::progress::WarmupProgress;

/// What health is judged by.
#[derive(Clone)]
pub struct Health {
    lifecycle: Lifecycle,
    files: Files,
    progress: Arc<WarmupProgress>,
}

impl Health {
    /// The health of a server in `lifecycle` that serves `files`.
    pub fn new(lifecycle: Lifecycle, files: Files) -> Self {
        Self { lifecycle, files, progress: Arc::default() }
    }

    /// The same, and it tells how far a warming is.
    pub(crate) fn telling(self, progress: &Arc<WarmupProgress>) -> Self {
        Self { progress: Arc::clone(progress), ..self }
    }

    /// Adds the routes to an App.
    pub fn configure(&self, app: &mut ServiceConfig) {
        app.service(
            web::resource("/livez").to(|request: HttpRequest| async move { answer(&request, Verdict::OK) }),
        );
        for path in ["/readyz", "/healthz"] {
            let health = self.clone();
            app.service(web::resource(path).to(move |request: HttpRequest| {
                let verdict = health.readiness();
                async move { answer(&request, verdict) }
            }));
        }
    }

    fn readiness(&self) -> Verdict {
        let unavailable = |sentence: &'static str| Verdict {
            status: StatusCode::SERVICE_UNAVAILABLE,
            sentence: sentence.into(),
        };
        match self.lifecycle.phase() {
            Phase::Starting => unavailable("Starting.\n"),
            Phase::Warming => {
                let counts = self.progress.counts();
                let sentence = format!("Warming: {} of {} files.\n", counts.done, counts.of).into();
                Verdict { status: StatusCode::SERVICE_UNAVAILABLE, sentence }
            }
            Phase::Draining | Phase::Closing | Phase::Ended => unavailable("Draining.\n"),
            Phase::Ready if self.lifecycle.is_drained() => unavailable("Drained by an operator.\n"),
            // Who retires answers for the successor.
            Phase::Ready | Phase::Retiring if !self.files.root_is_sound() => {
                unavailable("The document root can't be read.\n")
            }
            Phase::Ready | Phase::Retiring => Verdict::OK,
        }
    }
}

#[derive(Clone)]
struct Verdict {
    status: StatusCode,
    sentence: Cow<'static, str>,
}

impl Verdict {
    const OK: Self = Self { status: StatusCode::OK, sentence: Cow::Borrowed("ok\n") };
}

fn answer(request: &HttpRequest, verdict: Verdict) -> HttpResponse {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish();
    }
    HttpResponse::build(verdict.status)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("text/plain; charset=utf-8")
        .body(verdict.sentence)
}
