//! Resolves a request path to a file, or to an early response.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::uri::Authority;

use crate::config::policy::rules::PathPolicy;
use crate::config::{Dotfiles, TrailingSlash};
use crate::files::{Asset, Lookup, Name};
use crate::http::query::QueryOptions;
use crate::http::redirects::{REDIRECTS_FILE, Redirect};
use crate::http::target::{ParsedTarget, SitePath, TargetError, is_valid_origin};
use crate::site::access::{admit, is_public};
use crate::site::directory;
use crate::site::error::HttpError;
use crate::site::path_cache::{CachedPath, PathCache};
use crate::site::reply::{moved, redirect};
use crate::site::request_facts::takes_page;
use crate::site::resolution::{CachedResolution, EarlyResponse, Fallback, Resolved};
use crate::site::settings::SiteContext;
use crate::telemetry::access_log::record::CacheResult;
use crate::telemetry::metrics::lookups::{PathCacheHit, WorkerLookups};

/// Resolves the request paths of one worker.
pub(crate) struct Resolver {
    context: Rc<SiteContext>,
    path_cache: RefCell<PathCache>,
    lookups: Arc<WorkerLookups>,
}

impl Resolver {
    /// Resolves in `context`, with an empty path cache. Hits and misses are counted in `lookups`.
    pub(crate) fn new(context: Rc<SiteContext>, lookups: Arc<WorkerLookups>) -> Self {
        Self { context, path_cache: RefCell::new(PathCache::new()), lookups }
    }

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
        check_form(request).ok()?; // Before the path cache, which knows paths alone.
        let raw = request.uri().path().as_bytes();
        let SiteContext { files, settings } = &*self.context;
        let now_ms = files.now_ms();
        let (CachedPath { name, wants_directory, is_public }, slot) =
            self.path_cache.borrow().get(raw).filter(|_| self.path_decides(is_archive))?;
        let was_trusted = !settings.logs_requests || files.is_trusted(&name, now_ms);
        let lookup = files.recall(&name, now_ms)?;
        cached.set(Some(if was_trusted { CacheResult::Hit } else { CacheResult::Revalidated }));
        let is_due_for_touch = name.is_due_for_touch(now_ms);
        Some(CachedResolution { name, lookup, wants_directory, is_public, is_due_for_touch, slot })
    }

    /// Counts a response that is made of what the path cache knew.
    pub(crate) fn count_hit(&self, cached: &CachedResolution) {
        self.path_cache.borrow().count_use(cached.slot, cached.is_due_for_touch);
        self.lookups.hit(match &cached.lookup {
            Lookup::File(asset) if asset.is_on_heap() => PathCacheHit::Heap,
            Lookup::File(asset) if asset.mapping().is_some() => PathCacheHit::Mapped,
            Lookup::File(_) => PathCacheHit::Unmapped,
            _ => PathCacheHit::Nothing,
        });
    }

    /// Resolves the path of a request: by the path cache, else by the shared cache or the disk. Sets `cached` to how it was
    /// found.
    pub(crate) async fn resolve(
        &self,
        request: &HttpRequest,
        options: &QueryOptions<'_>,
        cached: &Cell<Option<CacheResult>>,
    ) -> Result<Resolved, EarlyResponse> {
        if let Some(hit) = self.find_cached(request, options.archive.is_some(), cached) {
            self.count_hit(&hit);
            let CachedResolution { name, lookup, wants_directory, is_public, is_due_for_touch, .. } = hit;
            if !is_public {
                admit(&self.context, request, &name.path).await?;
            }
            if let Lookup::File(asset) = lookup {
                return Ok(Resolved { asset, name, is_due_for_touch, fallback: None });
            }
            if is_due_for_touch {
                self.context.files.touch(&name, None).await;
            }
            self.check_absent(&name, &lookup, wants_directory)?;
            return self.resolve_other(request, options, &name, &lookup, wants_directory).await;
        }
        check_form(request)?;
        self.lookups.miss();
        let raw = request.uri().path().as_bytes();
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        self.look_up(request, options, target, cached).await
    }

    /// True if the path alone decides what it resolves to.
    fn path_decides(&self, is_archive: bool) -> bool {
        let settings = &self.context.settings;
        !is_archive && !settings.redirects.has_forced() && settings.site.trailing_slash == TrailingSlash::Add
    }

    async fn look_up(
        &self,
        request: &HttpRequest,
        options: &QueryOptions<'_>,
        target: ParsedTarget<'_>,
        cached: &Cell<Option<CacheResult>>,
    ) -> Result<Resolved, EarlyResponse> {
        let SiteContext { files, settings } = &*self.context;
        if self.is_hidden(&target.path) {
            return Err(EarlyResponse::error(HttpError::NotFound));
        }
        if settings.redirects.has_forced()
            && let Some(resolved) = self.apply_redirects(request, &target, true).await?
        {
            return Ok(resolved);
        }
        if target.wants_directory && (options.archive.is_some() || !settings.allows_slash(&target.path)) {
            return self.resolve_directory(request, options, target).await;
        }
        let wants_directory = target.wants_directory;
        let is_target_public = is_public(settings, &target.path);
        let path = if wants_directory { settings.index_of(&target.path) } else { target.path };
        let is_public = is_target_public && is_public(settings, &path);
        admit(&self.context, request, &path).await?;
        let found = files.find(&path).await;
        found.name.add_uses(1);
        cached.set(Some(match found.lookup {
            Lookup::Busy | Lookup::Failed => CacheResult::Fault,
            _ if found.is_known => CacheResult::Hit,
            _ => CacheResult::Miss,
        }));
        let entry = CachedPath { name: Arc::clone(&found.name), wants_directory, is_public };
        self.path_cache.borrow_mut().put(request.uri().path().as_bytes(), entry);
        match found.lookup {
            Lookup::File(asset) => Ok(self.resolved(asset, found.name)),
            lookup => {
                self.check_absent(&found.name, &lookup, wants_directory)?;
                self.resolve_other(request, options, &found.name, &lookup, wants_directory).await
            }
        }
    }

    /// Rejects a name that resolves to no file and for which nothing else can answer.
    pub(crate) fn check_absent(
        &self,
        name: &Name,
        lookup: &Lookup,
        wants_directory: bool,
    ) -> Result<(), EarlyResponse> {
        check_known(name, lookup)?;
        match lookup {
            Lookup::Forbidden => Err(EarlyResponse::error_under(&name.policy, HttpError::Forbidden)),
            Lookup::Missing if !wants_directory && !self.has_fallback(name) => {
                Err(EarlyResponse::error_under(&name.policy, HttpError::NotFound))
            }
            _ => Ok(()),
        }
    }

    /// Finds what answers for a name that resolves to no file.
    async fn resolve_other(
        &self,
        request: &HttpRequest,
        options: &QueryOptions<'_>,
        name: &Name,
        lookup: &Lookup,
        wants_directory: bool,
    ) -> Result<Resolved, EarlyResponse> {
        let raw = request.uri().path().as_bytes();
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        let is_directory = matches!(lookup, Lookup::Directory);
        match self.context.settings.site.trailing_slash {
            TrailingSlash::Add if is_directory && !wants_directory => {
                let location = target.path.to_location(query_of(request));
                Err(EarlyResponse::response(&name.policy, moved(&name.policy, &location)))
            }
            _ if is_directory || wants_directory => self.resolve_directory(request, options, target).await,
            _ => self.resolve_missing(request, &target, &name.policy).await,
        }
    }

    /// Finds what answers for the directory at a path, if there is one: its index, its listing, its archive.
    async fn resolve_directory(
        &self,
        request: &HttpRequest,
        options: &QueryOptions<'_>,
        target: ParsedTarget<'_>,
    ) -> Result<Resolved, EarlyResponse> {
        let SiteContext { files, settings } = &*self.context;
        let found = files.find(&target.path).await;
        let policy = Arc::clone(&found.name.policy);
        let is_stray = target.wants_directory && !target.path.is_root();
        self.check_absent(&found.name, &found.lookup, true)?;
        match (found.lookup, settings.site.trailing_slash) {
            (Lookup::File(_) | Lookup::Directory, TrailingSlash::Remove) if is_stray => {
                let location = target.path.to_file_location(query_of(request));
                return Err(EarlyResponse::response(&policy, moved(&policy, &location)));
            }
            (Lookup::File(asset), TrailingSlash::Ignore) => return Ok(self.resolved(asset, found.name)),
            (Lookup::Directory, _) => {}
            _ => return self.resolve_missing(request, &target, &policy).await,
        }
        if let Some(format) = options.archive.as_deref().filter(|_| policy.listing()) {
            if !settings.offers_archives {
                return Err(EarlyResponse::error_under(&policy, HttpError::NotFound));
            }
            return Err(directory::archive(&self.context, request, &target, format, &policy).await);
        }
        let index = settings.index_of(&target.path);
        admit(&self.context, request, &index).await?;
        let index = files.find(&index).await;
        self.check_absent(&index.name, &index.lookup, true)?;
        if let Lookup::File(asset) = index.lookup {
            return Ok(self.resolved(asset, index.name));
        }
        if !policy.listing() {
            return self.resolve_missing(request, &target, &policy).await;
        }
        Err(directory::list(&self.context, request, options, &target, &policy).await)
    }

    /// Finds what answers for a missing name: a redirect, the single-page fallback, or 404.
    async fn resolve_missing(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        policy: &Arc<PathPolicy>,
    ) -> Result<Resolved, EarlyResponse> {
        if let Some(resolved) = self.apply_redirects(request, target, false).await? {
            return Ok(resolved);
        }
        let has_extension = target.path.file_name().contains(&b'.');
        if let Some(fallback) = &policy.spa
            && takes_page(request.headers(), has_extension)
        {
            admit(&self.context, request, fallback).await?;
            let found = self.context.files.find(fallback).await;
            check_known(&found.name, &found.lookup)?;
            if let Lookup::File(asset) = found.lookup {
                return Ok(self.fallback(asset, found.name, true, &target.path));
            }
        }
        Err(EarlyResponse::error_under(policy, HttpError::NotFound))
    }

    /// Applies the redirects and rewrites of the site; `None` if none matches.
    async fn apply_redirects(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        forced_only: bool,
    ) -> Result<Option<Resolved>, EarlyResponse> {
        let SiteContext { files, settings } = &*self.context;
        let path = [b"/", target.path.as_bytes()].concat();
        let (rewritten, status) = match settings.redirects.find(&path, query_of(request), forced_only) {
            None => return Ok(None),
            Some(Redirect::To { status, location }) => {
                let policy = settings.rules.policy(&target.path);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
                return Err(EarlyResponse::response(&policy, redirect(status, &policy, &location)));
            }
            Some(Redirect::Rewrite { path, status }) => (path, status),
        };
        if self.is_hidden(&rewritten) {
            return Ok(None);
        }
        admit(&self.context, request, &rewritten).await?;
        let mut found = files.find(&rewritten).await;
        if matches!(found.lookup, Lookup::Directory) {
            let index = settings.index_of(&rewritten);
            admit(&self.context, request, &index).await?;
            found = files.find(&index).await;
        }
        check_known(&found.name, &found.lookup)?;
        match (found.lookup, StatusCode::from_u16(status)) {
            (Lookup::File(asset), Ok(StatusCode::OK)) => {
                Ok(Some(self.fallback(asset, found.name, false, &target.path)))
            }
            (Lookup::File(asset), Ok(status)) => {
                Err(EarlyResponse::Page { policy: Arc::clone(&asset.policy), asset, status })
            }
            _ => Ok(None),
        }
    }

    fn fallback(
        &self,
        asset: Arc<Asset>,
        name: Arc<Name>,
        by_accept: bool,
        requested: &SitePath<'_>,
    ) -> Resolved {
        let fallback = Some(Fallback::new(by_accept, requested, &asset));
        Resolved { fallback, ..self.resolved(asset, name) }
    }

    fn resolved(&self, asset: Arc<Asset>, name: Arc<Name>) -> Resolved {
        let is_due_for_touch = name.is_due_for_touch(self.context.files.now_ms());
        Resolved { asset, name, is_due_for_touch, fallback: None }
    }

    /// True if something else may answer for a name that is missing.
    fn has_fallback(&self, name: &Name) -> bool {
        name.policy.spa.is_some() || !self.context.settings.redirects.is_empty()
    }

    fn is_hidden(&self, path: &SitePath<'_>) -> bool {
        hides(self.context.settings.site.dotfiles, path)
    }
}

/// True if a path is answered 404 whatever is there: a dotfile, or the file of redirects.
pub(crate) fn hides(dotfiles: Dotfiles, path: &SitePath<'_>) -> bool {
    (dotfiles == Dotfiles::Deny && path.is_hidden()) || path.as_bytes() == REDIRECTS_FILE.as_bytes()
}

/// Rejects a name whose lookup failed.
fn check_known(name: &Name, lookup: &Lookup) -> Result<(), EarlyResponse> {
    match lookup {
        Lookup::Busy => Err(EarlyResponse::error_under(&name.policy, HttpError::Busy)),
        Lookup::Failed => Err(EarlyResponse::error_under(&name.policy, HttpError::Failed)),
        _ => Ok(()),
    }
}

/// Accepts targets in origin form, and in absolute form with a valid host (RFC 9112 §3.2).
fn check_form(request: &HttpRequest) -> Result<(), EarlyResponse> {
    let uri = request.uri();
    match is_valid_origin(uri.scheme_str(), uri.authority().map(Authority::as_str)) {
        true => Ok(()),
        false => Err(EarlyResponse::error(HttpError::BadTarget)),
    }
}

fn bad_target(raw: &[u8], why: TargetError) -> EarlyResponse {
    log::debug!("target {}: {why:?}", raw.escape_ascii());
    EarlyResponse::error(HttpError::BadTarget)
}

fn query_of(request: &HttpRequest) -> Option<&[u8]> {
    request.uri().query().map(str::as_bytes)
}
