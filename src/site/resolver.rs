//! Resolves a request path to a file, or to an early response.

use std::cell::Cell;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::uri::Authority;

use crate::config::{Dotfiles, TrailingSlash};
use crate::files::policy::PathPolicy;
use crate::files::{FoundFile, Lookup, Name};
use crate::http::canned_response::{BAD_TARGET, BUSY, FAILED, NOT_FOUND, UNREADABLE};
use crate::http::error::HttpError;
use crate::http::redirects::{REDIRECTS_FILE, Redirect};
use crate::http::target::{ParsedTarget, SitePath, is_valid_origin};
use crate::site::access::{admit, is_public};
use crate::site::directory;
use crate::site::path_cache::CachedPath;
use crate::site::request_facts::{SiteRequest, takes_page};
use crate::site::resolution::{CachedResolution, EarlyResponse, Resolution, Resolved};
use crate::site::settings::{Site, SiteSettings};
use crate::telemetry::access_log::record::CacheResult;
use crate::telemetry::metrics::kind::PathLookup;

impl Site {
    /// True if the path cache knows that no access rule closes the path.
    pub(crate) fn is_known_public(&self, request: &HttpRequest) -> bool {
        let known = self.path_cache.borrow().get(request.uri().path().as_bytes());
        known.is_some_and(|(known, _)| known.is_public)
    }

    /// Looks the path up in the path cache; `None` unless the entry is still trusted. Never waits. Sets `cached` on a hit.
    pub(crate) fn find_cached(
        &self,
        request: &HttpRequest,
        is_archive: bool,
        cached: &Cell<Option<CacheResult>>,
    ) -> Option<CachedResolution> {
        if !has_valid_form(request) {
            return None; // The path cache knows only paths.
        }
        let raw = request.uri().path().as_bytes();
        let SiteSettings { files, logs_requests, .. } = &self.settings;
        let now_ms = files.now_ms();
        let (path, slot) = self.path_cache.borrow().get(raw).filter(|_| self.path_decides(is_archive))?;
        let was_trusted = !logs_requests || files.is_trusted(&path.name, now_ms);
        let lookup = files.recall(&path.name, now_ms)?;
        cached.set(Some(if was_trusted { CacheResult::Hit } else { CacheResult::Revalidated }));
        let is_due_for_touch = path.name.is_due_for_touch(now_ms);
        Some(CachedResolution { path, lookup, is_due_for_touch, slot })
    }

    /// Counts a response that is made of what the path cache knew.
    pub(crate) fn count_hit(&self, cached: &CachedResolution) {
        self.path_cache.borrow().count_use(cached.slot, cached.is_due_for_touch);
        let found = match &cached.lookup {
            Lookup::File(asset) if asset.is_on_heap() => PathLookup::Heap,
            Lookup::File(asset) if asset.mapping().is_some() => PathLookup::Mapped,
            Lookup::File(_) => PathLookup::Unmapped,
            _ => PathLookup::NoFile,
        };
        self.metrics.counts.path_lookups[found as usize].add(1);
    }

    /// Resolves the path of a request: by the path cache, else by the shared cache or the disk. Sets `cached` to how it was
    /// found.
    pub(crate) async fn resolve(&self, request: &SiteRequest<'_>) -> Resolution {
        if let Some(hit) = self.find_cached(request.http, request.options.archive.is_some(), request.cached) {
            self.count_hit(&hit);
            let CachedResolution { path, lookup, is_due_for_touch, .. } = hit;
            if !path.is_public {
                admit(&self.settings, request.http, &path.name.path).await?;
            }
            if let Lookup::File(asset) = lookup {
                return Ok(Resolved { asset, name: path.name, fallback: None });
            }
            if is_due_for_touch {
                self.settings.files.touch(&path.name, None).await;
            }
            return self.resolve_other(request, &path, &lookup).await;
        }
        if !has_valid_form(request.http) {
            return Err(self.error(request.http, &BAD_TARGET));
        }
        self.metrics.counts.path_lookups[PathLookup::Miss as usize].add(1);
        let target = self.parse_target(request)?;
        self.look_up(request, target).await
    }

    /// True if the path alone decides what it resolves to.
    fn path_decides(&self, is_archive: bool) -> bool {
        let SiteSettings { redirects, config, .. } = &self.settings;
        !is_archive && !redirects.has_forced() && config.site.trailing_slash == TrailingSlash::Add
    }

    async fn look_up(&self, request: &SiteRequest<'_>, target: ParsedTarget<'_>) -> Resolution {
        let settings = &self.settings;
        if hides(settings.config.site.dotfiles, &target.path) {
            return Err(self.error(request.http, &NOT_FOUND));
        }
        if settings.redirects.has_forced()
            && let Some(resolved) = self.apply_redirects(request, &target, true).await?
        {
            return Ok(resolved);
        }
        let wants_directory = target.wants_directory;
        let has_index = target.path.is_root() || settings.config.site.trailing_slash == TrailingSlash::Add;
        if wants_directory && (request.options.archive.is_some() || !has_index) {
            return self.resolve_directory(request, target).await;
        }
        let is_target_public = is_public(settings, &target.path);
        let path = if wants_directory { settings.index_of(&target.path) } else { target.path };
        let is_public = is_target_public && is_public(settings, &path);
        admit(settings, request.http, &path).await?;
        let FoundFile { name, lookup, is_known } = settings.files.find(&path).await;
        name.add_uses(1);
        request.cached.set(Some(match lookup {
            Lookup::Busy | Lookup::Failed => CacheResult::Fault,
            _ if is_known => CacheResult::Hit,
            _ => CacheResult::Miss,
        }));
        let path = CachedPath { name, wants_directory, is_public };
        self.path_cache.borrow_mut().put(request.raw_path(), path.clone());
        match lookup {
            Lookup::File(asset) => Ok(Resolved { asset, name: path.name, fallback: None }),
            lookup => self.resolve_other(request, &path, &lookup).await,
        }
    }

    /// Rejects a path that resolves to no file and for which nothing else can answer.
    pub(crate) fn check_absent(&self, path: &CachedPath, lookup: &Lookup) -> Result<(), EarlyResponse> {
        let policy = &path.name.policy;
        let has_fallback = || policy.spa.is_some() || !self.settings.redirects.is_empty();
        match lookup {
            Lookup::Missing if !path.wants_directory && !has_fallback() => {
                Err(EarlyResponse::error(policy, &NOT_FOUND))
            }
            _ => check_readable(&path.name, lookup),
        }
    }

    /// Finds what answers for a path that resolves to no file.
    async fn resolve_other(
        &self,
        request: &SiteRequest<'_>,
        path: &CachedPath,
        lookup: &Lookup,
    ) -> Resolution {
        self.check_absent(path, lookup)?;
        let (target, policy) = (self.parse_target(request)?, &path.name.policy);
        let is_directory = matches!(lookup, Lookup::Directory);
        match self.settings.config.site.trailing_slash {
            TrailingSlash::Add if is_directory && !path.wants_directory => {
                let location = target.path.to_location(request.query());
                Err(EarlyResponse::redirect(policy, StatusCode::MOVED_PERMANENTLY, &location))
            }
            _ if is_directory || path.wants_directory => self.resolve_directory(request, target).await,
            _ => self.resolve_missing(request, &target, policy).await,
        }
    }

    /// Finds what answers for the directory at a path, if there is one: its index, its listing, its archive.
    async fn resolve_directory(&self, request: &SiteRequest<'_>, target: ParsedTarget<'_>) -> Resolution {
        let settings = &self.settings;
        let found = settings.files.find(&target.path).await;
        let policy = Arc::clone(&found.name.policy);
        let is_stray = target.wants_directory && !target.path.is_root();
        check_readable(&found.name, &found.lookup)?;
        match (found.lookup, settings.config.site.trailing_slash) {
            (Lookup::File(_) | Lookup::Directory, TrailingSlash::Remove) if is_stray => {
                let location = target.path.to_file_location(request.query());
                return Err(EarlyResponse::redirect(&policy, StatusCode::MOVED_PERMANENTLY, &location));
            }
            (Lookup::File(asset), TrailingSlash::Ignore) => {
                return Ok(Resolved { asset, name: found.name, fallback: None });
            }
            (Lookup::Directory, _) => {}
            _ => return self.resolve_missing(request, &target, &policy).await,
        }
        if let Some(format) = request.options.archive.as_deref().filter(|_| policy.listing()) {
            if !settings.config.directories.archive.is_on() {
                return Err(EarlyResponse::error(&policy, &NOT_FOUND));
            }
            let archive = directory::archive(settings, request.http, &target, format, &policy).await;
            return Err(EarlyResponse::of(&policy, archive));
        }
        let index = self.find_admitted(request, &settings.index_of(&target.path)).await?;
        check_readable(&index.name, &index.lookup)?;
        if let Lookup::File(asset) = index.lookup {
            return Ok(Resolved { asset, name: index.name, fallback: None });
        }
        if !policy.listing() {
            return self.resolve_missing(request, &target, &policy).await;
        }
        let listing = directory::list(settings, request, &target, &policy).await;
        Err(EarlyResponse::of(&policy, listing))
    }

    /// Finds what answers for a missing name: a redirect, the single-page fallback, or 404.
    async fn resolve_missing(
        &self,
        request: &SiteRequest<'_>,
        target: &ParsedTarget<'_>,
        policy: &Arc<PathPolicy>,
    ) -> Resolution {
        if let Some(resolved) = self.apply_redirects(request, target, false).await? {
            return Ok(resolved);
        }
        let has_extension = target.path.file_name().contains(&b'.');
        if let Some(fallback) = &policy.spa
            && takes_page(request.http.headers(), has_extension)
        {
            let found = self.find_admitted(request, fallback).await?;
            if let Lookup::File(asset) = found.lookup {
                return Ok(Resolved::fallback(asset, found.name, true, &target.path));
            }
        }
        Err(EarlyResponse::error(policy, &NOT_FOUND))
    }

    /// Applies the redirects and rewrites of the site; `None` if none matches.
    async fn apply_redirects(
        &self,
        request: &SiteRequest<'_>,
        target: &ParsedTarget<'_>,
        forced_only: bool,
    ) -> Result<Option<Resolved>, EarlyResponse> {
        let settings = &self.settings;
        let path = [b"/", target.path.as_bytes()].concat();
        let (rewritten, status) = match settings.redirects.find(&path, request.query(), forced_only) {
            None => return Ok(None),
            Some(Redirect::To { status, location }) => {
                let policy = settings.files.loader.rules.policy(&target.path);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
                return Err(EarlyResponse::redirect(&policy, status, &location));
            }
            Some(Redirect::Rewrite { path, status }) => (path, status),
        };
        if hides(settings.config.site.dotfiles, &rewritten) {
            return Ok(None);
        }
        let mut found = self.find_admitted(request, &rewritten).await?;
        if matches!(found.lookup, Lookup::Directory) {
            found = self.find_admitted(request, &settings.index_of(&rewritten)).await?;
        }
        match (found.lookup, StatusCode::from_u16(status)) {
            (Lookup::File(asset), Ok(StatusCode::OK)) => {
                Ok(Some(Resolved::fallback(asset, found.name, false, &target.path)))
            }
            (Lookup::File(asset), Ok(status)) => Err(EarlyResponse::Page(asset, status)),
            _ => Ok(None),
        }
    }

    /// Looks a path up that answers for the requested one, if the credentials open it and the lookup does not fail.
    async fn find_admitted(
        &self,
        request: &SiteRequest<'_>,
        path: &SitePath<'_>,
    ) -> Result<FoundFile, EarlyResponse> {
        admit(&self.settings, request.http, path).await?;
        let found = self.settings.files.find(path).await;
        check_known(&found.name, &found.lookup).map(|()| found)
    }

    /// Parses the target of a request.
    fn parse_target<'a>(&self, request: &SiteRequest<'a>) -> Result<ParsedTarget<'a>, EarlyResponse> {
        let raw = request.raw_path();
        SitePath::parse(raw).map_err(|why| {
            log::debug!("target {}: {why:?}", raw.escape_ascii());
            self.error(request.http, &BAD_TARGET)
        })
    }

    /// Makes an error under the policy of the requested path.
    pub(crate) fn error(&self, request: &HttpRequest, error: impl Into<HttpError>) -> EarlyResponse {
        EarlyResponse::error(&self.settings.policy_of(request), error)
    }
}

/// True if a path is answered 404 whatever is there: a dotfile, or the file of redirects.
pub(crate) fn hides(dotfiles: Dotfiles, path: &SitePath<'_>) -> bool {
    (dotfiles == Dotfiles::Deny && path.is_hidden()) || path.as_bytes() == REDIRECTS_FILE.as_bytes()
}

/// Rejects a name that exists and may not be read, or whose lookup failed.
fn check_readable(name: &Name, lookup: &Lookup) -> Result<(), EarlyResponse> {
    match lookup {
        Lookup::Forbidden => Err(EarlyResponse::error(&name.policy, &UNREADABLE)),
        _ => check_known(name, lookup),
    }
}

/// Rejects a name whose lookup failed.
fn check_known(name: &Name, lookup: &Lookup) -> Result<(), EarlyResponse> {
    match lookup {
        Lookup::Busy => Err(EarlyResponse::error(&name.policy, &BUSY)),
        Lookup::Failed => Err(EarlyResponse::error(&name.policy, &FAILED)),
        _ => Ok(()),
    }
}

/// True for targets in origin form, and in absolute form with a valid host (RFC 9112 §3.2).
fn has_valid_form(request: &HttpRequest) -> bool {
    let uri = request.uri();
    is_valid_origin(uri.scheme_str(), uri.authority().map(Authority::as_str))
}
