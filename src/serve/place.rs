//! Where a request leads: to a file, or to what stands for one.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};

use crate::config::{Dotfiles, TrailingSlash};
use crate::error::Refused;
use crate::files::{Asset, Lookup, Name};
use crate::http::authority::is_valid_host;
use crate::http::query::Wants;
use crate::http::redirects::Redirect;
use crate::http::target::{ParsedTarget, SitePath};
use crate::reply::{moved, redirect};
use crate::rules::Policy;
use crate::serve::asked::takes_page;
use crate::serve::shortcut::Shortcut;
use crate::serve::{Manners, Site};

/// A file that a request leads to.
pub(crate) struct Place {
    pub(crate) asset: Arc<Asset>,
    pub(crate) name: Arc<Name>,
    /// The caches ought to hear of this use.
    pub(crate) is_due_for_touch: bool,
}

/// Why a request leads to no file.
pub(crate) enum Stop {
    /// Something else answers.
    Response { response: Box<HttpResponse>, policy: Arc<Policy> },
    /// Nothing does. Without a policy that of the whole site holds.
    Refused { refused: Refused, policy: Option<Arc<Policy>>, varies: bool },
    /// A page that is not what was asked for.
    Page { asset: Arc<Asset>, status: StatusCode, policy: Arc<Policy> },
}

impl Stop {
    pub(crate) fn refused(refused: Refused) -> Self {
        Self::Refused { refused, policy: None, varies: false }
    }

    fn at(name: &Name, refused: Refused) -> Self {
        Self::Refused { refused, policy: Some(Arc::clone(&name.policy)), varies: false }
    }
}

impl Site {
    /// The file that the request names: by the worker's own short cut, else by the shared cache or the disk.
    pub(crate) async fn find(&self, request: &HttpRequest, wants: Option<&Wants<'_>>) -> Result<Place, Stop> {
        check_form(request)?; // Before the short cut, which knows paths alone.
        let raw = request.uri().path().as_bytes();
        let now_ms = self.files.now_ms();
        let known = self.shortcuts.borrow().get(raw).filter(|_| self.shortcuts_hold(wants));
        if let Some(Shortcut { name, wants_directory }) = known
            && let Some(lookup) = self.files.recall(&name, now_ms)
        {
            let is_due_for_touch = name.is_due_for_touch(now_ms);
            if let Lookup::File(asset) = lookup {
                return Ok(Place { asset, name, is_due_for_touch });
            }
            if is_due_for_touch {
                Box::pin(self.files.touch(&name, None)).await;
            }
            return self.instead(request, wants, name, lookup, wants_directory).await;
        }
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        Box::pin(self.look_up(request, wants, target)).await
    }

    /// Whether a path alone decides what it leads to.
    fn shortcuts_hold(&self, wants: Option<&Wants<'_>>) -> bool {
        let manners = &self.manners;
        wants.is_none_or(|wants| wants.archive.is_none())
            && !manners.redirects.has_forced()
            && manners.trailing_slash == TrailingSlash::Add
    }

    async fn look_up(
        &self,
        request: &HttpRequest,
        wants: Option<&Wants<'_>>,
        target: ParsedTarget<'_>,
    ) -> Result<Place, Stop> {
        if self.is_hidden(&target.path) {
            return Err(Stop::refused(Refused::NotFound));
        }
        if self.manners.redirects.has_forced() {
            self.redirected(request, &target, true).await?;
        }
        let is_archive = wants.is_some_and(|wants| wants.archive.is_some());
        if target.wants_directory && (is_archive || !self.manners.slash_is_usual(&target.path)) {
            return self.directory(request, wants, target).await;
        }
        let wants_directory = target.wants_directory;
        let path = if wants_directory { target.path.index(&self.manners.index) } else { target.path };
        let found = self.files.find(&path).await;
        let shortcut = Shortcut { name: Arc::clone(&found.name), wants_directory };
        self.shortcuts.borrow_mut().put(request.uri().path().as_bytes(), shortcut);
        match found.lookup {
            Lookup::File(asset) => Ok(self.place(asset, found.name)),
            lookup => self.instead(request, wants, found.name, lookup, wants_directory).await,
        }
    }

    /// What a name leads to that is no file.
    async fn instead(
        &self,
        request: &HttpRequest,
        wants: Option<&Wants<'_>>,
        name: Arc<Name>,
        lookup: Lookup,
        wants_directory: bool,
    ) -> Result<Place, Stop> {
        match lookup {
            Lookup::Forbidden => return Err(Stop::at(&name, Refused::Forbidden)),
            Lookup::Busy => return Err(Stop::at(&name, Refused::Busy)),
            Lookup::Failed => return Err(Stop::at(&name, Refused::Failed)),
            Lookup::Missing if !wants_directory && !self.may_be_elsewhere(&name) => {
                return Err(Stop::at(&name, Refused::NotFound));
            }
            Lookup::File(asset) => return Ok(self.place(asset, name)),
            Lookup::Missing | Lookup::Directory => {}
        }
        let raw = request.uri().path().as_bytes();
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        let is_directory = matches!(lookup, Lookup::Directory);
        match self.manners.trailing_slash {
            TrailingSlash::Add if is_directory && !wants_directory => Err(Stop::Response {
                response: moved(&name.policy, &target.path.to_location(query_of(request))).into(),
                policy: Arc::clone(&name.policy),
            }),
            _ if is_directory || wants_directory => Box::pin(self.directory(request, wants, target)).await,
            _ => Box::pin(self.missing(request, &target, &name.policy)).await,
        }
    }

    /// What stands for the directory at a path, if one is there: its index, its listing, its archive.
    async fn directory(
        &self,
        request: &HttpRequest,
        wants: Option<&Wants<'_>>,
        target: ParsedTarget<'_>,
    ) -> Result<Place, Stop> {
        let found = self.files.find(&target.path).await;
        let policy = Arc::clone(&found.name.policy);
        let slashless = || target.path.to_file_location(query_of(request));
        let is_stray = target.wants_directory && !target.path.is_root();
        match (found.lookup, self.manners.trailing_slash) {
            (Lookup::File(_) | Lookup::Directory, TrailingSlash::Remove) if is_stray => {
                return Err(Stop::Response { response: moved(&policy, &slashless()).into(), policy });
            }
            (Lookup::File(asset), TrailingSlash::Ignore) => {
                return Ok(self.place(asset, found.name));
            }
            (Lookup::Directory, _) => {}
            (Lookup::Busy, _) => return Err(Stop::at(&found.name, Refused::Busy)),
            (Lookup::Failed, _) => return Err(Stop::at(&found.name, Refused::Failed)),
            (Lookup::File(_) | Lookup::Missing | Lookup::Forbidden, _) => {
                return self.missing(request, &target, &policy).await;
            }
        }
        let archive = wants.and_then(|wants| wants.archive.as_deref());
        if let Some(word) = archive.filter(|_| policy.listing() && self.manners.offers_archives) {
            return Err(self.archive(&target, word, &policy).await);
        }
        let index = self.files.find(&target.path.index(&self.manners.index)).await;
        match index.lookup {
            Lookup::File(asset) => {
                return Ok(self.place(asset, index.name));
            }
            Lookup::Forbidden => return Err(Stop::at(&index.name, Refused::Forbidden)),
            Lookup::Busy => return Err(Stop::at(&index.name, Refused::Busy)),
            Lookup::Failed => return Err(Stop::at(&index.name, Refused::Failed)),
            Lookup::Missing | Lookup::Directory => {}
        }
        if !policy.listing() {
            return self.missing(request, &target, &policy).await;
        }
        Err(self.list(request, wants.unwrap_or(&Wants::default()), &target, &policy).await)
    }

    /// What stands for a name that is nowhere.
    async fn missing(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        policy: &Arc<Policy>,
    ) -> Result<Place, Stop> {
        if let Some(place) = self.redirected(request, target, false).await? {
            return Ok(place);
        }
        let has_extension = target.path.file_name().contains(&b'.');
        if let Some(fallback) = policy.spa()
            && takes_page(request.headers(), has_extension)
        {
            let found = self.files.find(fallback).await;
            if let Lookup::File(asset) = found.lookup {
                return Ok(self.place(asset, found.name));
            }
        }
        let policy = Some(Arc::clone(policy));
        Err(Stop::Refused { refused: Refused::NotFound, policy, varies: false })
    }

    /// What the site's redirects say of a path; none where they say nothing.
    async fn redirected(
        &self,
        request: &HttpRequest,
        target: &ParsedTarget<'_>,
        forced_only: bool,
    ) -> Result<Option<Place>, Stop> {
        let path = [b"/", target.path.as_bytes()].concat();
        let found = self.manners.redirects.find(&path, query_of(request), forced_only);
        let (rewritten, status) = match found {
            None => return Ok(None),
            Some(Redirect::To { status, location }) => {
                let policy = self.manners.rules.policy(&target.path);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
                let response = redirect(status, &policy, &location).into();
                return Err(Stop::Response { response, policy });
            }
            Some(Redirect::Rewrite { path, status }) => (path, status),
        };
        let mut found = self.files.find(&rewritten).await;
        if matches!(found.lookup, Lookup::Directory) {
            found = self.files.find(&rewritten.index(&self.manners.index)).await;
        }
        match (found.lookup, StatusCode::from_u16(status)) {
            (Lookup::File(asset), Ok(StatusCode::OK)) => Ok(Some(self.place(asset, found.name))),
            (Lookup::File(asset), Ok(status)) => {
                Err(Stop::Page { policy: Arc::clone(&asset.policy), asset, status })
            }
            _ => Ok(None),
        }
    }

    fn place(&self, asset: Arc<Asset>, name: Arc<Name>) -> Place {
        let is_due_for_touch = name.is_due_for_touch(self.files.now_ms());
        Place { asset, name, is_due_for_touch }
    }

    /// Whether a name that is missing may lead somewhere all the same.
    fn may_be_elsewhere(&self, name: &Name) -> bool {
        name.policy.spa().is_some() || !self.manners.redirects.is_empty()
    }

    fn is_hidden(&self, path: &SitePath<'_>) -> bool {
        (self.manners.dotfiles == Dotfiles::Deny && path.is_hidden()) || path.as_bytes() == REDIRECTS
    }
}

impl Manners {
    /// Whether a slash at the end of this path is as it should be.
    fn slash_is_usual(&self, path: &SitePath<'_>) -> bool {
        self.trailing_slash == TrailingSlash::Add || path.is_root()
    }
}

/// RFC 9112 §3.2: a file is asked for in origin form, or in absolute form with a host that could be one.
fn check_form(request: &HttpRequest) -> Result<(), Stop> {
    let uri = request.uri();
    let is_http = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    let host_is_valid = uri.authority().is_none_or(|host| is_valid_host(host.as_str().as_bytes()));
    if is_http && host_is_valid { Ok(()) } else { Err(Stop::refused(Refused::BadTarget)) }
}

fn bad_target(raw: &[u8], why: crate::http::target::BadTarget) -> Stop {
    log::debug!("target {}: {why:?}", raw.escape_ascii());
    Stop::refused(Refused::BadTarget)
}

fn query_of(request: &HttpRequest) -> Option<&[u8]> {
    request.uri().query().map(str::as_bytes)
}

/// The site's list of redirects is for the server alone.
const REDIRECTS: &[u8] = b"_redirects";
