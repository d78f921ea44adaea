//! One worker: the App, and the state that its connections share.

use std::rc::Rc;

use crate::files::Files;
use crate::limits::client_limits::Limits;
use crate::net::{ConnectionSettings, WorkerContext};
use crate::telemetry::metrics::registry::Metrics;

/// The App as a service `S`, and the state that the connections of one worker share. Lives on the worker's thread.
pub struct Worker<S> {
    pub(super) app: S,
    /// The state that the connections share.
    pub(crate) context: Rc<WorkerContext>,
}

impl<S> Worker<S> {
    /// Creates a worker that calls `app`, sends from `files` and counts in `metrics`. Call it on an actix `System` or
    /// arbiter.
    pub fn new(
        app: S,
        files: Files,
        settings: ConnectionSettings,
        limits: Limits,
        metrics: &Metrics,
    ) -> Rc<Self> {
        Rc::new(Self { app, context: WorkerContext::new(files, settings, limits, metrics) })
    }
}
