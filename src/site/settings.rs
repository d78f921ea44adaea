//! Settings of the site that a reload can replace, and what a request is served from.

use std::io;
use std::sync::Arc;

use crate::auth::access::Authenticator;
use crate::config::policy::rules::Rules;
use crate::config::{
    Config, CredentialFiles, IntegrityGroup, LoadedConfig, ResolvedLimits, SendingGroup, SiteGroup,
    TrailingSlash, Verify,
};
use crate::files::Files;
use crate::http::redirects::Redirects;
use crate::http::target::SitePath;
use crate::limits::client_limits::Limits;
use crate::net::request_log;
use crate::site::directory_jobs::{DirectoryJobs, DirectorySettings};
use crate::site::https_policy::HttpsPolicy;

/// Per-site settings that a reload can replace. Built once from `Config`; immutable. Cheap to clone.
#[derive(Clone)]
pub struct SiteSettings {
    /// Dotfiles, index and trailing slashes.
    pub site: Arc<SiteGroup>,
    /// From which length a body is sent by `sendfile`.
    pub sending: Arc<SendingGroup>,
    /// Verification, and how long a request waits for a checksum.
    pub integrity: Arc<IntegrityGroup>,
    /// Headers, access and fallbacks by path.
    pub rules: Arc<Rules>,
    /// The redirects and rewrites of the site.
    pub redirects: Arc<Redirects>,
    /// True if a rule closes some path.
    pub(crate) has_access_rules: bool,
    /// True if a listed directory can be downloaded as an archive.
    pub offers_archives: bool,
    /// True if the access log gets a line for each request.
    pub logs_requests: bool,
    /// What outlives a reload.
    pub services: SiteServices,
}

/// Parts of the site with threads, places or counts, which a reload keeps. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct SiteServices {
    /// Redirects to https, the query filter and Strict-Transport-Security.
    pub https_policy: HttpsPolicy,
    /// Decides who may open closed paths.
    pub authenticator: Authenticator,
    /// Request rates, concurrency and client addresses.
    pub limits: Limits,
    /// Listings and archives.
    pub directories: DirectoryJobs,
}

/// Files that are read with the configuration.
pub struct SiteFiles<'a> {
    /// What `_redirects` in the root says.
    pub redirects: Arc<Redirects>,
    /// Passwords, tokens and keys of signed URLs.
    pub credentials: &'a CredentialFiles,
}

impl<'a> SiteFiles<'a> {
    /// The files that were read with `loaded`.
    pub(crate) fn of(loaded: &'a LoadedConfig) -> Self {
        Self { redirects: Arc::clone(&loaded.redirects), credentials: &loaded.access }
    }
}

/// What the requests of one worker are served from.
pub(crate) struct SiteContext {
    pub(crate) files: Files,
    pub(crate) settings: SiteSettings,
}

impl SiteSettings {
    /// Builds the settings for `files`, with `client_limits`.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn new(
        config: &Config,
        limits: &ResolvedLimits,
        files: &Files,
        client_limits: &Limits,
        read: SiteFiles<'_>,
    ) -> io::Result<Self> {
        let services = SiteServices {
            https_policy: HttpsPolicy::new(config),
            authenticator: Authenticator::new(config, read.credentials)?,
            limits: client_limits.clone(),
            directories: DirectoryJobs::new(files.clone(), DirectorySettings::of(config, limits))?,
        };
        Ok(Self::with(config, files, read.redirects, services))
    }

    /// Builds the settings of another configuration. Threads, places and counts are kept.
    #[must_use]
    pub fn reconfigured(
        &self,
        config: &Config,
        limits: &ResolvedLimits,
        files: &Files,
        read: SiteFiles<'_>,
    ) -> Self {
        let SiteServices { https_policy, authenticator, limits: client_limits, directories } = &self.services;
        let services = SiteServices {
            https_policy: https_policy.reconfigured(config),
            authenticator: authenticator.reconfigured(config, read.credentials),
            limits: client_limits.clone(),
            directories: directories.reconfigured(files.clone(), DirectorySettings::of(config, limits)),
        };
        Self::with(config, files, read.redirects, services)
    }

    fn with(config: &Config, files: &Files, redirects: Arc<Redirects>, services: SiteServices) -> Self {
        Self {
            site: Arc::clone(&config.site),
            sending: Arc::clone(&config.sending),
            integrity: Arc::clone(&config.integrity),
            rules: Arc::clone(&files.loader.rules),
            redirects,
            has_access_rules: files.loader.rules.close_anything(),
            offers_archives: config.directories.archive.is_on(),
            logs_requests: request_log::is_written(&config.logging),
            services,
        }
    }

    /// True if files with a checksum file are verified before they are sent.
    pub(crate) fn verifies(&self) -> bool {
        self.integrity.verify == Verify::Serve
    }

    /// Returns the path of a directory's index file.
    pub(crate) fn index_of(&self, directory: &SitePath<'_>) -> SitePath<'static> {
        directory.index(self.site.index.as_str())
    }

    /// True if a path that ends in a slash needs no redirect to the one without.
    pub(crate) fn allows_slash(&self, path: &SitePath<'_>) -> bool {
        self.site.trailing_slash == TrailingSlash::Add || path.is_root()
    }
}
