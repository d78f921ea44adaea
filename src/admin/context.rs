//! The parts of the server that the admin listener shows and operates, and that workers start with.

use std::sync::Arc;
use std::time::Instant;

use super::authorize::AdminAuth;
use super::health::Health;
use super::slots::AdminSlots;
use crate::lifecycle::{Lifecycle, Reloader, Warmup};
use crate::net::tls::config::Tls;
use crate::site::settings::SiteSettings;
use crate::telemetry::metrics::registry::Metrics;

/// The parts of the server that the admin listener shows and operates, and that workers start with.
pub(crate) struct ServerContext {
    pub(crate) started: Instant,
    /// The listeners were taken over from a predecessor.
    pub(crate) is_successor: bool,
    pub(crate) auth: AdminAuth,
    pub(crate) health: Health,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) site: SiteSettings,
    pub(crate) metrics: Metrics,
    /// `None` without TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Knows which files are served now.
    pub(crate) warmup: Warmup,
    pub(crate) reloader: Arc<Reloader>,
    /// Slots for connections to the admin listener. Half of them may receive events for a dashboard; the others stay free for
    /// requests, above all health checks.
    pub(crate) connections: AdminSlots,
    pub(crate) subscribers: AdminSlots,
}
