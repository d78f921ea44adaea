//! Where a request leads: to a file, or to what stands for one.

use std::cell::Cell;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::uri::Authority;
use actix_web::{HttpRequest, HttpResponse};

use crate::config::policy::rules::PathPolicy;
use crate::config::{Dotfiles, TrailingSlash};
use crate::files::{Asset, Lookup, Name};
use crate::http::cache_control;
use crate::http::query::QueryOptions;
use crate::http::redirects::{REDIRECTS_FILE, Redirect};
use crate::http::target::{ParsedTarget, SitePath, is_valid_origin};
use crate::site::error::HttpError;
use crate::site::handler::{Site, SiteSettings};
use crate::site::path_cache::CachedPath;
use crate::site::reply::{moved, redirect};
use crate::site::request_facts::takes_page;
use crate::telemetry::access_log::record::CacheResult;
use crate::telemetry::metrics::lookups::PathCacheHit;

/// A file that a request leads to.
pub(crate) struct Resolved {
    pub(crate) asset: Arc<Asset>,
    pub(crate) name: Arc<Name>,
    /// The caches ought to hear of this use.
    pub(crate) is_due_for_touch: bool,
    /// The file answers for another name than its own.
    pub(crate) stands_in: Option<Fallback>,
}

/// What a response says differently because its file was asked for by another name.
pub(crate) struct Fallback {
    /// Only whoever takes pages gets it.
    by_accept: bool,
    /// The name that was asked for does not say that its bytes hold still, whatever the file's own says.
    is_revalidated: bool,
}

impl Fallback {
    fn new(by_accept: bool, asked: &SitePath<'_>, asset: &Asset) -> Self {
        let guess = |name| cache_control::default_for(name, asset.headers().media_type());
        let is_guessed = asset.policy.cache_control().is_none();
        let is_overdone = guess(asset.path.file_name()) == cache_control::IMMUTABLE
            && guess(asked.file_name()) != cache_control::IMMUTABLE;
        Self { by_accept, is_revalidated: is_guessed && is_overdone }
    }

    /// Says it in the response that was made of `asset`.
    pub(crate) fn tell(&self, asset: &Asset, response: &mut HttpResponse) {
        let fields = response.headers_mut();
        if self.by_accept {
            let vary = asset.policy.vary_with_accept(asset.variants.is_some());
            fields.insert(header::VARY, HeaderValue::from_static(vary));
        }
        if self.is_revalidated {
            let value = HeaderValue::from_static(cache_control::REVALIDATE);
            fields.insert(header::CACHE_CONTROL, value);
        }
    }
}

/// What a short cut leads to.
pub(crate) struct CachedResolution {
    pub(crate) name: Arc<Name>,
    pub(crate) lookup: Lookup,
    pub(crate) wants_directory: bool,
    /// It is for everybody.
    pub(crate) is_public: bool,
    /// The caches ought to hear of this use.
    pub(crate) is_due_for_touch: bool,
    /// In the table of short cuts.
    place: usize,
}

/// Why a request leads to no file.
pub(crate) enum EarlyResponse {
    /// Something else answers.
    Response { response: Box<HttpResponse>, policy: Arc<PathPolicy> },
    /// Nothing does. Without a policy that of the whole site holds.
    Refused { refused: HttpError, policy: Option<Arc<PathPolicy>>, varies: bool },
    /// A page that is not what was asked for.
    Page { asset: Arc<Asset>, status: StatusCode, policy: Arc<PathPolicy> },
}

impl EarlyResponse {
    pub(crate) fn refused(refused: HttpError) -> Self {
        Self::Refused { refused, policy: None, varies: false }
    }

    fn at(name: &Name, refused: HttpError) -> Self {
        Self::Refused { refused, policy: Some(Arc::clone(name.policy())), varies: false }
    }
}

impl Site {
    /// What the worker's own short cut knows of the path, if that may still be trusted. Never waits. `cached` is set to how it is
    /// known.
    pub(crate) fn recall(
        &self,
        request: &HttpRequest,
        wants: Option<&QueryOptions<'_>>,
        cached: &Cell<Option<CacheResult>>,
    ) -> Option<CachedResolution> {
        check_form(request).ok()?; // Before the short cut, which knows paths alone.
        let raw = request.uri().path().as_bytes();
        let now_ms = self.files.now_ms();
        let (CachedPath { name, wants_directory, is_public }, place) =
            self.shortcuts.borrow().get(raw).filter(|_| self.shortcuts_hold(wants))?;
        let was_trusted = !self.manners.notes || self.files.is_trusted(&name, now_ms);
        let lookup = self.files.recall(&name, now_ms)?;
        cached.set(Some(if was_trusted { CacheResult::Hit } else { CacheResult::Revalidated }));
        let is_due_for_touch = name.is_due_for_touch(now_ms);
        Some(CachedResolution { name, lookup, wants_directory, is_public, is_due_for_touch, place })
    }

    /// What was recalled is what is answered with.
    pub(crate) fn note_use(&self, recalled: &CachedResolution) {
        self.shortcuts.borrow().used(recalled.place, recalled.is_due_for_touch);
        self.count_hit(&recalled.lookup);
    }

    /// Counts what the short cut led to that a response is made of.
    fn count_hit(&self, lookup: &Lookup) {
        self.lookups.hit(match lookup {
            Lookup::File(asset) if asset.is_on_heap() => PathCacheHit::Heap,
            Lookup::File(asset) if asset.mapping().is_some() => PathCacheHit::Mapped,
            Lookup::File(_) => PathCacheHit::Unmapped,
            _ => PathCacheHit::Nothing,
        });
    }

    /// The file that the request names: by the worker's own short cut, else by the shared cache or the disk.
    /// `cached` is set to how it was found.
    pub(crate) async fn find(
        &self,
        request: &HttpRequest,
        wants: Option<&QueryOptions<'_>>,
        cached: &Cell<Option<CacheResult>>,
    ) -> Result<Resolved, EarlyResponse> {
        if let Some(recalled) = self.recall(request, wants, cached) {
            self.note_use(&recalled);
            let CachedResolution { name, lookup, wants_directory, is_public, is_due_for_touch, .. } =
                recalled;
            if !is_public {
                self.admit(request, &name.path).await?;
            }
            if let Lookup::File(asset) = lookup {
                return Ok(Resolved { asset, name, is_due_for_touch, stands_in: None });
            }
            if is_due_for_touch {
                self.files.touch(&name, None).await;
            }
            self.refuse_nothing(&name, &lookup, wants_directory)?;
            return self.instead(request, wants, name, lookup, wants_directory).await;
        }
        check_form(request)?;
        self.lookups.miss();
        let raw = request.uri().path().as_bytes();
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        self.look_up(request, wants, target, cached).await
    }

    /// Whether a path alone decides what it leads to.
    fn shortcuts_hold(&self, wants: Option<&QueryOptions<'_>>) -> bool {
        let manners = &self.manners;
        wants.is_none_or(|wants| wants.archive.is_none())
            && !manners.redirects.has_forced()
            && manners.trailing_slash == TrailingSlash::Add
    }

    async fn look_up(
        &self,
        request: &HttpRequest,
        wants: Option<&QueryOptions<'_>>,
        target: ParsedTarget<'_>,
        cached: &Cell<Option<CacheResult>>,
    ) -> Result<Resolved, EarlyResponse> {
        if self.is_hidden(&target.path) {
            return Err(EarlyResponse::refused(HttpError::NotFound));
        }
        if self.manners.redirects.has_forced()
            && let Some(place) = self.redirected(request, &target, true).await?
        {
            return Ok(place);
        }
        let is_archive = wants.is_some_and(|wants| wants.archive.is_some());
        if target.wants_directory && (is_archive || !self.manners.slash_is_usual(&target.path)) {
            return self.directory(request, wants, target).await;
        }
        let wants_directory = target.wants_directory;
        let is_public = self.is_public(&target.path);
        let path = if wants_directory { target.path.index(&self.manners.index) } else { target.path };
        let is_public = is_public && self.is_public(&path);
        self.admit(request, &path).await?;
        let found = self.files.find(&path).await;
        found.name.add_uses(1);
        cached.set(Some(match found.lookup {
            Lookup::Busy | Lookup::Failed => CacheResult::Fault,
            _ if found.is_known => CacheResult::Hit,
            _ => CacheResult::Miss,
        }));
        let shortcut = CachedPath { name: Arc::clone(&found.name), wants_directory, is_public };
        self.shortcuts.borrow_mut().put(request.uri().path().as_bytes(), shortcut);
        match found.lookup {
            Lookup::File(asset) => Ok(self.place(asset, found.name)),
            lookup => {
                self.refuse_nothing(&found.name, &lookup, wants_directory)?;
                self.instead(request, wants, found.name, lookup, wants_directory).await
            }
        }
    }

    /// Refuses what a name leads to where nothing can stand for it.
    pub(crate) fn refuse_nothing(
        &self,
        name: &Name,
        lookup: &Lookup,
        wants_directory: bool,
    ) -> Result<(), EarlyResponse> {
        refuse_unknown(name, lookup)?;
        match lookup {
            Lookup::Forbidden => Err(EarlyResponse::at(name, HttpError::Forbidden)),
            Lookup::Missing if !wants_directory && !self.may_be_elsewhere(name) => {
                Err(EarlyResponse::at(name, HttpError::NotFound))
            }
            _ => Ok(()),
        }
    }

    /// What stands for a name that leads to no file.
    async fn instead(
        &self,
        request: &HttpRequest,
        wants: Option<&QueryOptions<'_>>,
        name: Arc<Name>,
        lookup: Lookup,
        wants_directory: bool,
    ) -> Result<Resolved, EarlyResponse> {
        let raw = request.uri().path().as_bytes();
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        let is_directory = matches!(lookup, Lookup::Directory);
        match self.manners.trailing_slash {
            TrailingSlash::Add if is_directory && !wants_directory => Err(EarlyResponse::Response {
                response: moved(name.policy(), &target.path.to_location(query_of(request))).into(),
                policy: Arc::clone(name.policy()),
            }),
            _ if is_directory || wants_directory => self.directory(request, wants, target).await,
            _ => self.missing(request, &target, name.policy()).await,
        }
    }

    /// What stands for the directory at a path, if one is there: its index, its listing, its archive.
    async fn directory(
        &self,
        request: &HttpRequest,
        wants: Option<&QueryOptions<'_>>,
        target: ParsedTarget<'_>,
    ) -> Result<Resolved, EarlyResponse> {
        let found = self.files.find(&target.path).await;
        let policy = Arc::clone(found.name.policy());
        let slashless = || target.path.to_file_location(query_of(request));
        let is_stray = target.wants_directory && !target.path.is_root();
        self.refuse_nothing(&found.name, &found.lookup, true)?;
        match (found.lookup, self.manners.trailing_slash) {
            (Lookup::File(_) | Lookup::Directory, TrailingSlash::Remove) if is_stray => {
                return Err(EarlyResponse::Response {
                    response: moved(&policy, &slashless()).into(),
                    policy,
                });
            }
            (Lookup::File(asset), TrailingSlash::Ignore) => {
                return Ok(self.place(asset, found.name));
            }
            (Lookup::Directory, _) => {}
            _ => return self.missing(request, &target, &policy).await,
        }
        let archive = wants.and_then(|wants| wants.archive.as_deref());
        if let Some(word) = archive.filter(|_| policy.listing()) {
            if !self.manners.offers_archives {
                return Err(EarlyResponse::at(&found.name, HttpError::NotFound));
            }
            return Err(self.archive(request, &target, word, &policy).await);
        }
        let index = target.path.index(&self.manners.index);
        self.admit(request, &index).await?;
        let index = self.files.find(&index).await;
        self.refuse_nothing(&index.name, &index.lookup, true)?;
        if let Lookup::File(asset) = index.lookup {
            return Ok(self.place(asset, index.name));
        }
        if !policy.listing() {
            return self.missing(request, &target, &policy).await;
        }
        Err(self.list(request, wants.unwrap_or(&QueryOptions::default()), &target, &policy).await)
    }

    /// What stands for a name that is nowhere.
    async fn missing(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        policy: &Arc<PathPolicy>,
    ) -> Result<Resolved, EarlyResponse> {
        if let Some(place) = self.redirected(request, target, false).await? {
            return Ok(place);
        }
        let has_extension = target.path.file_name().contains(&b'.');
        if let Some(fallback) = policy.spa()
            && takes_page(request.headers(), has_extension)
        {
            self.admit(request, fallback).await?;
            let found = self.files.find(fallback).await;
            refuse_unknown(&found.name, &found.lookup)?;
            if let Lookup::File(asset) = found.lookup {
                return Ok(self.stand_in(asset, found.name, true, &target.path));
            }
        }
        let policy = Some(Arc::clone(policy));
        Err(EarlyResponse::Refused { refused: HttpError::NotFound, policy, varies: false })
    }

    /// What the site's redirects say of a path; none where they say nothing.
    async fn redirected(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        forced_only: bool,
    ) -> Result<Option<Resolved>, EarlyResponse> {
        let path = [b"/", target.path.as_bytes()].concat();
        let found = self.manners.redirects.find(&path, query_of(request), forced_only);
        let (rewritten, status) = match found {
            None => return Ok(None),
            Some(Redirect::To { status, location }) => {
                let policy = self.manners.rules.policy(&target.path);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
                let response = redirect(status, &policy, &location).into();
                return Err(EarlyResponse::Response { response, policy });
            }
            Some(Redirect::Rewrite { path, status }) => (path, status),
        };
        if self.is_hidden(&rewritten) {
            return Ok(None);
        }
        self.admit(request, &rewritten).await?;
        let mut found = self.files.find(&rewritten).await;
        if matches!(found.lookup, Lookup::Directory) {
            let index = rewritten.index(&self.manners.index);
            self.admit(request, &index).await?;
            found = self.files.find(&index).await;
        }
        refuse_unknown(&found.name, &found.lookup)?;
        match (found.lookup, StatusCode::from_u16(status)) {
            (Lookup::File(asset), Ok(StatusCode::OK)) => {
                Ok(Some(self.stand_in(asset, found.name, false, &target.path)))
            }
            (Lookup::File(asset), Ok(status)) => {
                Err(EarlyResponse::Page { policy: Arc::clone(&asset.policy), asset, status })
            }
            _ => Ok(None),
        }
    }

    fn stand_in(
        &self,
        asset: Arc<Asset>,
        name: Arc<Name>,
        by_accept: bool,
        asked: &SitePath<'_>,
    ) -> Resolved {
        let stands_in = Some(Fallback::new(by_accept, asked, &asset));
        Resolved { stands_in, ..self.place(asset, name) }
    }

    fn place(&self, asset: Arc<Asset>, name: Arc<Name>) -> Resolved {
        let is_due_for_touch = name.is_due_for_touch(self.files.now_ms());
        Resolved { asset, name, is_due_for_touch, stands_in: None }
    }

    /// Whether a name that is missing may lead somewhere all the same.
    fn may_be_elsewhere(&self, name: &Name) -> bool {
        name.policy().spa().is_some() || !self.manners.redirects.is_empty()
    }

    fn is_hidden(&self, path: &SitePath<'_>) -> bool {
        hides(self.manners.dotfiles, path)
    }
}

impl SiteSettings {
    /// Whether a slash at the end of this path is as it should be.
    fn slash_is_usual(&self, path: &SitePath<'_>) -> bool {
        self.trailing_slash == TrailingSlash::Add || path.is_root()
    }
}

/// Whether a path is never answered for, whatever stands there.
pub(crate) fn hides(dotfiles: Dotfiles, path: &SitePath<'_>) -> bool {
    (dotfiles == Dotfiles::Deny && path.is_hidden()) || path.as_bytes() == REDIRECTS_FILE.as_bytes()
}

/// Refuses a name of which it could not be found out what it leads to.
fn refuse_unknown(name: &Name, lookup: &Lookup) -> Result<(), EarlyResponse> {
    match lookup {
        Lookup::Busy => Err(EarlyResponse::at(name, HttpError::Busy)),
        Lookup::Failed => Err(EarlyResponse::at(name, HttpError::Failed)),
        _ => Ok(()),
    }
}

/// RFC 9112 §3.2: a file is asked for in origin form, or in absolute form with a host that could be one.
fn check_form(request: &HttpRequest) -> Result<(), EarlyResponse> {
    let uri = request.uri();
    match is_valid_origin(uri.scheme_str(), uri.authority().map(Authority::as_str)) {
        true => Ok(()),
        false => Err(EarlyResponse::refused(HttpError::BadTarget)),
    }
}

fn bad_target(raw: &[u8], why: crate::http::target::TargetError) -> EarlyResponse {
    log::debug!("target {}: {why:?}", raw.escape_ascii());
    EarlyResponse::refused(HttpError::BadTarget)
}

fn query_of(request: &HttpRequest) -> Option<&[u8]> {
    request.uri().query().map(str::as_bytes)
}
