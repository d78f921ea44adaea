//! Settings of the site that a reload can replace, and the site as one worker serves it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpRequest;

use crate::auth::access::Authenticator;
use crate::config::{Config, LoadedConfig, Verify};
use crate::files::policy::PathPolicy;
use crate::files::{Files, Name};
use crate::http::redirects::Redirects;
use crate::http::target::SitePath;
use crate::limits::client_limits::Limits;
use crate::net::request_log;
use crate::site::directory_jobs::DirectoryJobs;
use crate::site::https_policy::HttpsPolicy;
use crate::site::path_cache::PathCache;
use crate::telemetry::metrics::worker::WorkerMetrics;

/// Per-site settings that a reload can replace. Built once from `Config`; immutable; cheap to clone.
///
/// Decision: docs/decisions/013-reload-as-one-value.md.
#[derive(Clone)]
pub struct SiteSettings {
    /// The files with their rules.
    pub files: Files,
    /// The configuration in effect.
    pub config: Arc<Config>,
    /// The redirects and rewrites of the site.
    pub redirects: Arc<Redirects>,
    /// True if a rule closes some path.
    pub(crate) has_access_rules: bool,
    /// True if the access log gets a line for each request.
    pub(crate) logs_requests: bool,
    /// Redirects to https, the query filter and Strict-Transport-Security.
    pub https_policy: HttpsPolicy,
    /// Decides who may open closed paths.
    pub authenticator: Authenticator,
    /// Request rates, concurrency and client addresses.
    pub limits: Limits,
    /// Listings and archives.
    pub directories: DirectoryJobs,
}

/// The site as one worker serves it. A reload makes another one.
pub struct Site {
    pub(crate) settings: SiteSettings,
    pub(super) path_cache: RefCell<PathCache>,
    /// Names of `404.html`, `403.html` and `50x.html`, once they have been looked up.
    pub(super) error_pages: RefCell<[Option<Arc<Name>>; 3]>,
    /// Counts hits and misses of the path cache.
    pub(super) metrics: Arc<WorkerMetrics>,
}

impl SiteSettings {
    /// Builds the settings for `files`, with `limits` on clients; `has_tls` if a listener is for TLS.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new(loaded: &LoadedConfig, files: Files, limits: &Limits, has_tls: bool) -> io::Result<Self> {
        let config = Arc::new(loaded.config.clone());
        Ok(Self {
            redirects: Arc::clone(&loaded.redirects),
            has_access_rules: files.loader.rules.restrict_access(),
            logs_requests: request_log::is_written(&config.logging),
            https_policy: HttpsPolicy::new(&config, has_tls),
            authenticator: Authenticator::new(&config, &loaded.access)?,
            limits: limits.clone(),
            directories: DirectoryJobs::new(files.clone(), &config, loaded.limits.directories)?,
            files,
            config,
        })
    }

    /// Builds the settings for another `config`, with the redirects and credentials of `loaded`. Threads, slots and counts are kept.
    #[must_use]
    pub fn reconfigured(&self, config: Arc<Config>, loaded: &LoadedConfig, files: Files) -> Self {
        Self {
            redirects: Arc::clone(&loaded.redirects),
            has_access_rules: files.loader.rules.restrict_access(),
            logs_requests: request_log::is_written(&config.logging),
            https_policy: self.https_policy.reconfigured(&config),
            authenticator: self.authenticator.reconfigured(&config, &loaded.access),
            limits: self.limits.clone(),
            directories: self.directories.reconfigured(files.clone(), &config),
            files,
            config,
        }
    }

    /// True if files with a checksum file are verified before they are sent.
    pub(crate) fn verifies(&self) -> bool {
        self.config.integrity.verify == Verify::Serve
    }

    /// Bodies of at least this many bytes are sent by `sendfile`.
    pub(crate) fn sendfile_from(&self) -> u64 {
        self.config.sending.sendfile_from.get()
    }

    /// Returns the path of a directory's index file.
    pub(crate) fn index_of(&self, directory: &SitePath<'_>) -> SitePath<'static> {
        directory.index(self.config.site.index.as_str())
    }

    /// Returns the policy of the path that a request names, whether or not there is a file.
    pub(crate) fn policy_of(&self, request: &HttpRequest) -> Arc<PathPolicy> {
        match SitePath::parse(request.uri().path().as_bytes()) {
            Ok(target) => self.files.loader.rules.policy(&target.path),
            Err(_) => self.files.loader.rules.site_wide(),
        }
    }
}

impl Site {
    /// Serves by `settings`; hits and misses of the path cache are counted in `metrics`.
    pub fn new(settings: SiteSettings, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let path_cache = RefCell::new(PathCache::new());
        Rc::new(Self { settings, path_cache, error_pages: RefCell::default(), metrics })
    }
}
