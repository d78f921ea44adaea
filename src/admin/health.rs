//! `/livez`, `/readyz` and `/healthz`: health checks, also answered while the document root is unreadable.

use std::borrow::Cow;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::ServiceConfig;
use parking_lot::Mutex;

use super::respond::{Allow, route, text};
use crate::files::Files;
use crate::lifecycle::phase::{Lifecycle, Phase};
use crate::lifecycle::warmup::progress::WarmupCounts;

/// State that the health checks read: the phase, the files, and the progress of the warm-up.
#[derive(Clone)]
pub struct Health {
    lifecycle: Lifecycle,
    files: Files,
    progress: Arc<Mutex<WarmupCounts>>,
}

impl Health {
    /// Creates the health checks of a server in `lifecycle` that serves `files`, with the progress of its warm-up.
    pub(crate) fn new(lifecycle: Lifecycle, files: Files, progress: Arc<Mutex<WarmupCounts>>) -> Self {
        Self { lifecycle, files, progress }
    }

    /// Adds the routes to an App.
    pub fn configure(&self, app: &mut ServiceConfig) {
        route(app, "/livez", Allow::GetHead, &(), |(), _| ready(text(StatusCode::OK, OK)));
        for path in ["/readyz", "/healthz"] {
            route(app, path, Allow::GetHead, self, |health, _| ready(health.readiness()));
        }
    }

    fn readiness(&self) -> HttpResponse {
        let reason: Cow<'_, str> = match self.lifecycle.phase() {
            Phase::Starting => "Starting.\n".into(),
            Phase::Warming => {
                let counts = *self.progress.lock();
                format!("Warming: {} of {} files.\n", counts.done, counts.of).into()
            }
            Phase::Draining | Phase::Closing | Phase::Ended => "Draining.\n".into(),
            Phase::Ready if self.lifecycle.is_drained.load(Ordering::Relaxed) => {
                "Drained by an operator.\n".into()
            }
            // A retiring server answers for its successor.
            Phase::Ready | Phase::Retiring if !self.files.shared.root_monitor.is_sound() => {
                "The document root can't be read.\n".into()
            }
            Phase::Ready | Phase::Retiring => return text(StatusCode::OK, OK),
        };
        text(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

const OK: &str = "ok\n";
