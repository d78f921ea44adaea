//! One request, step by step.
//!
//! | room        | what it knows                                              |
//! |-------------|------------------------------------------------------------|
//! | `access`    | who may have a path, before it is looked up                |
//! | `asked`     | which fields of a request count                            |
//! | `place`     | where a request leads: a file, or what stands for one      |
//! | `shortcut`  | the same for paths that were asked for before              |
//! | `directory` | listings and archives                                      |
//! | `integrity` | checksums that go with a response, or before it            |
//! | `cors`      | what pages of other origins may do                         |
//! | `pages`     | the site's own pages for what went wrong                   |

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use crate::auth::access::Authenticator;
use crate::config::policy::rules::{PathPolicy, Rules};
use crate::config::{Config, CredentialFiles, Dotfiles, ResolvedLimits, TrailingSlash, Verify};
use crate::files::cache::NoHandle;
use crate::files::handle_pool::Handle;
use crate::files::load::VariantError;
use crate::files::{Asset, Files, Lookup};
use crate::http::decide::{Answer, Representation, decide};
use crate::http::digest::Algorithm;
use crate::http::encoding::{Encoding, EncodingChoice};
use crate::http::method::Method;
use crate::http::query::QueryOptions;
use crate::http::redirects::Redirects;
use crate::http::target::SitePath;
use crate::http::transport_info::TransportInfo;
use crate::limits::client_limits::{AdmissionOutcome, Limits};
use crate::net::prerendered::PrerenderedResponse;
use crate::net::request_log::RequestLogOptions;
use crate::site::cors::{add_cors, preflight};
use crate::site::directory_jobs::{DirectoryJobs, DirectorySettings};
use crate::site::error::HttpError;
use crate::site::error_pages::ErrorPages;
use crate::site::https_policy::{HttpsPolicy, Rejection};
use crate::site::path_cache::PathCache;
use crate::site::reply::{Checksums, ReplyBody, add_lines, download, moved, options, page, redirect, reply};
use crate::site::request_facts::RequestHeaders;
use crate::site::resolver::{EarlyResponse, Resolved};
use crate::telemetry::access_log::record::CacheResult;
use crate::telemetry::metrics::lookups::WorkerLookups;

/// The site as one worker serves it.
pub struct Site {
    pub(crate) files: Files,
    pub(crate) manners: SiteSettings,
    pub(crate) shortcuts: RefCell<PathCache>,
    pages: ErrorPages,
    pub(super) lookups: Arc<WorkerLookups>,
}

/// What may be served, and as what.
#[derive(Clone)]
pub struct SiteSettings {
    /// Whether names with a leading dot are served.
    pub dotfiles: Dotfiles,
    /// The name that stands for its directory.
    pub index: String,
    /// What the slash at the end of a path means.
    pub trailing_slash: TrailingSlash,
    /// From this length on a body leaves by `sendfile`.
    pub sendfile_from: u64,
    /// What is said of which part of the site.
    pub rules: Arc<Rules>,
    /// Where names lead that are no files.
    pub redirects: Arc<Redirects>,
    /// Who is turned away before anything is looked up.
    pub gate: HttpsPolicy,
    /// Whether some path is not for all.
    pub(crate) has_access_rules: bool,
    /// Who may have those.
    pub access: Authenticator,
    /// Who may have how much.
    pub guard: Limits,
    /// Listings and archives.
    pub directories: DirectoryJobs,
    /// Whether a directory that is listed may be had as an archive.
    pub offers_archives: bool,
    /// Whether files with a checksum beside them are checked before they are served.
    pub verifies: bool,
    /// How long a request waits for a checksum.
    pub digest_wait: Duration,
    /// Whether it is noted how files were found.
    pub notes: bool,
}

impl SiteSettings {
    /// What `config` and `limits` say, for `files` under `rules`, with `redirects` and as `guard` allows.
    ///
    /// # Errors
    /// Where threads can't be started.
    pub fn of(
        config: &Config,
        limits: &ResolvedLimits,
        files: &Files,
        rules: Arc<Rules>,
        redirects: Arc<Redirects>,
        guard: &Limits,
        access: Authenticator,
    ) -> io::Result<Self> {
        Ok(Self {
            dotfiles: config.site.dotfiles,
            index: config.site.index.as_str().to_owned(),
            trailing_slash: config.site.trailing_slash,
            sendfile_from: config.sending.sendfile_from.get(),
            has_access_rules: rules.close_anything(),
            access,
            rules,
            redirects,
            gate: HttpsPolicy::new(config),
            guard: guard.clone(),
            directories: DirectoryJobs::new(files.clone(), DirectorySettings::of(config, limits))?,
            offers_archives: config.directories.archive.is_on(),
            verifies: config.integrity.verify == Verify::Serve,
            digest_wait: config.integrity.digest_wait.get(),
            notes: RequestLogOptions::of(config).is_written,
        })
    }

    /// What `config` and `limits` say now. Threads, places and counts go on.
    #[must_use]
    pub fn changed(
        &self,
        config: &Config,
        limits: &ResolvedLimits,
        files: &Files,
        redirects: Arc<Redirects>,
        access: &CredentialFiles,
    ) -> Self {
        Self {
            dotfiles: config.site.dotfiles,
            index: config.site.index.as_str().to_owned(),
            trailing_slash: config.site.trailing_slash,
            sendfile_from: config.sending.sendfile_from.get(),
            has_access_rules: files.rules().close_anything(),
            access: self.access.changed(config, access),
            rules: Arc::clone(files.rules()),
            redirects,
            gate: self.gate.changed(config),
            guard: self.guard.clone(),
            directories: self.directories.changed(files.clone(), DirectorySettings::of(config, limits)),
            offers_archives: config.directories.archive.is_on(),
            verifies: config.integrity.verify == Verify::Serve,
            digest_wait: config.integrity.digest_wait.get(),
            notes: RequestLogOptions::of(config).is_written,
        }
    }
}

impl Site {
    /// A site of `files`, served with `manners`.
    pub fn new(files: Files, manners: SiteSettings) -> Rc<Self> {
        Self::counting(files, manners, Arc::default())
    }

    /// The same; what its short cuts lead to is counted by `lookups`.
    pub(crate) fn counting(files: Files, manners: SiteSettings, lookups: Arc<WorkerLookups>) -> Rc<Self> {
        let shortcuts = RefCell::new(PathCache::new());
        Rc::new(Self { files, manners, shortcuts, pages: ErrorPages::default(), lookups })
    }

    /// The App's answer to whatever no route has taken.
    pub async fn serve(self: Rc<Self>, request: ServiceRequest) -> Result<ServiceResponse, actix_web::Error> {
        let (request, _payload) = request.into_parts();
        let response = self.respond(&request).await;
        Ok(ServiceResponse::new(request, response))
    }

    async fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let gate = &self.manners.gate;
        let method = Method::classify(request.method().as_str().as_bytes());
        let is_head = method == Method::Head;
        let admission = self.manners.guard.admit(request);
        let refusal = admission.as_ref().and_then(|admission| admission.outcome.as_ref().err());
        let cached = Cell::new(None);
        let turned = if refusal.is_some() { None } else { gate.turns(request) };
        let answer = match (turned, method) {
            _ if let Some(refusal) = refusal => {
                Err(EarlyResponse::refused(HttpError::TooManyRequests(refusal.retry_after)))
            }
            (Some(turned), _) => Ok(self.turned(turned, request, method)),
            (None, Method::Get | Method::Head) => match self.answer_at_once(request, is_head, &cached) {
                Some(answer) => answer,
                None => Box::pin(self.answer(request, is_head, &cached)).await,
            },
            (None, Method::Options) => Ok(self.options(request)),
            (None, Method::NotAllowed) => Err(EarlyResponse::refused(HttpError::MethodNotAllowed)),
            (None, Method::NotImplemented) => Err(EarlyResponse::refused(HttpError::NotImplemented)),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(stop) => match self.refused_at_once(stop, request, is_head) {
                Ok(response) => response,
                Err(stop) => Box::pin(self.stopped(stop, request, is_head)).await,
            },
        };
        for line in [gate.transport_security(request), gate.vary(request)].into_iter().flatten() {
            add_lines(&mut response, line);
        }
        if let Some(cached) = cached.get().filter(|_| self.manners.notes) {
            PrerenderedResponse::set_cache_result(&mut response, cached);
        }
        if let Some(admission) = admission {
            accompany(*admission, &mut response);
        }
        if self.manners.has_access_rules {
            self.seal(request, &mut response);
        }
        response
    }

    /// The usual case, in which nothing waits: a name that is known, a form that is in memory or open. A plain function, since
    /// whatever an async one never does makes it slower all the same.
    fn answer_at_once(
        &self,
        request: &HttpRequest,
        is_head: bool,
        cached: &Cell<Option<CacheResult>>,
    ) -> Option<Result<HttpResponse, EarlyResponse>> {
        if self.manners.verifies || request.uri().query().is_some() {
            return None;
        }
        let known =
            self.recall(request, None, cached).filter(|known| known.is_public && !known.is_due_for_touch)?;
        let Lookup::File(asset) = &known.lookup else {
            let stop = self.refuse_nothing(&known.name, &known.lookup, known.wants_directory).err()?;
            self.note_use(&known);
            return Some(Err(stop));
        };
        let fields = RequestHeaders::of(request.headers());
        let coded;
        let form = match self.choose(asset, &fields).ok()? {
            None if asset.etag.is_weak() => return None,
            None => asset,
            Some(coding) => {
                coded = asset.variants.as_ref()?.cached(coding).filter(|form| form.is_settled())?;
                &coded
            }
        };
        let answer = answer_for(asset, form, &fields, is_head); // 3 how much of them (pure)
        let handle = if form.is_on_heap() {
            None
        } else if needs_body(&answer, is_head) {
            Some(self.files.open_handle(form).filter(|handle| handle.is_version(&form.version))?)
        } else {
            self.files.is_current(form).then_some(None)?
        };
        let checksums = self.known_checksums(form, &fields)?;
        let mut response = self.reply_with(answer, form, handle, checksums, is_head).ok()?;
        add_cors(&asset.policy, request.headers(), &mut response);
        self.note_use(&known);
        Some(Ok(response))
    }

    async fn answer(
        &self,
        request: &HttpRequest,
        is_head: bool,
        cached: &Cell<Option<CacheResult>>,
    ) -> Result<HttpResponse, EarlyResponse> {
        if self.manners.has_access_rules {
            self.admit_target(request).await?;
        }
        let fields = RequestHeaders::of(request.headers());
        let wants = request.uri().query().map(|query| QueryOptions::parse(query.as_bytes()));
        for _ in 0..CHANGED_TRIES {
            let place = self.find(request, wants.as_ref(), cached).await?; // 1 where
            self.admit(request, &place.name.path).await?;
            match self.send(&place, request, &fields, wants.as_ref(), is_head).await {
                Ok(mut response) => {
                    add_cors(&place.asset.policy, request.headers(), &mut response);
                    return Ok(response);
                }
                // The file changed after its name was checked: its new version is looked up.
                Err(SendFailure::Changed) => self.files.invalidate(&place.name),
                Err(SendFailure::Refused(refused)) => {
                    let varies = place.asset.variants.is_some();
                    return Err(EarlyResponse::Refused {
                        refused,
                        policy: Some(place.asset.policy.clone()),
                        varies,
                    });
                }
            }
        }
        Err(EarlyResponse::refused(HttpError::Busy))
    }

    async fn send(
        &self,
        place: &Resolved,
        request: &HttpRequest,
        fields: &RequestHeaders<'_>,
        wants: Option<&QueryOptions<'_>>,
        is_head: bool,
    ) -> Result<HttpResponse, SendFailure> {
        let asset = &place.asset;
        if self.manners.verifies {
            self.verify(asset).await?;
        }
        if let Some(name) = wants.and_then(|wants| wants.digest.as_deref()) {
            return self.checksum_file(asset, name, is_head).await;
        }
        let form = self.form(asset, fields).await?; // 2 which bytes
        if place.is_due_for_touch {
            self.files.touch(&place.name, Some(&form)).await;
        }
        if form.etag.is_weak() {
            self.files.background().start_digest(&form, Algorithm::Sha256);
        }
        let checksums = self.checksums(&form, fields, is_head).await;
        let answer = answer_for(asset, &form, fields, is_head); // 3 how much of them (pure)
        let handle = if needs_body(&answer, is_head) {
            self.handle(&form, request).await?
        } else if form.is_on_heap() || self.files.is_current(&form) {
            None
        } else {
            return Err(SendFailure::Changed);
        };
        let mut response = self.reply_with(answer, &form, handle, checksums, is_head)?;
        if let Some(stand_in) = &place.stands_in {
            stand_in.tell(asset, &mut response);
        }
        if let Some(name) = wants.and_then(|wants| wants.download.as_deref()) {
            download(&mut response, if name.is_empty() { asset.path.file_name() } else { name });
        }
        Ok(response)
    }

    fn reply_with(
        &self,
        answer: Answer,
        form: &Arc<Asset>,
        handle: Option<Arc<Handle>>,
        checksums: Checksums,
        is_head: bool,
    ) -> Result<HttpResponse, HttpError> {
        let source = ReplyBody { asset: form, handle, sendfile_from: self.manners.sendfile_from, checksums };
        reply(answer, &source, is_head) // 4 status, headers, body
    }

    /// The coding that the client likes best of those that are to be had now; none is the file as it is.
    fn choose(&self, asset: &Arc<Asset>, fields: &RequestHeaders<'_>) -> Result<Option<Encoding>, HttpError> {
        let Some(codings) = &fields.codings else { return Ok(None) };
        let Some(forms) = &asset.variants else {
            return if codings.refuses_identity() { Err(HttpError::NotAcceptable) } else { Ok(None) };
        };
        let choice = codings.choose(forms.available());
        // What was begun in one form is best gone on with in that form: ranges begin none, unless there is no other.
        let may_begin = !fields.has_range() || codings.refuses_identity();
        let wanted = codings.best(forms.possible()).filter(|_| may_begin);
        if let Some(wanted) = wanted
            && choice != EncodingChoice::Encoded(wanted)
            && !matches!(choice, EncodingChoice::Encoded(coding) if forms.with_sidecars().has(coding))
        {
            self.files.background().start_encoding(asset, wanted);
        }
        match choice {
            EncodingChoice::Identity => Ok(None),
            EncodingChoice::Encoded(coding) => Ok(Some(coding)),
            EncodingChoice::NotAcceptable if wanted.is_some() => Err(HttpError::Busy),
            EncodingChoice::NotAcceptable => Err(HttpError::NotAcceptable),
        }
    }

    /// The file in that coding.
    async fn form(&self, asset: &Arc<Asset>, fields: &RequestHeaders<'_>) -> Result<Arc<Asset>, SendFailure> {
        for _ in Encoding::ALL {
            let Some(coding) = self.choose(asset, fields)? else { return Ok(Arc::clone(asset)) };
            match self.files.variant(asset, coding).await {
                // From now on the sidecar counts as absent: there is one coding less to choose from.
                Err(VariantError::Failed) => {}
                // No handle is to be had for a sidecar: the file as it is may be in memory.
                Err(VariantError::Busy) if !fields.refuses_identity() => break,
                form => return Ok(form?),
            }
        }
        Ok(Arc::clone(asset))
    }

    /// A handle for what does not lie on the heap, once it is sure that the file is still the version that was decided on. Whoever
    /// copies must have one: from a mapping nobody but the kernel may read.
    async fn handle(
        &self,
        asset: &Arc<Asset>,
        request: &HttpRequest,
    ) -> Result<Option<Arc<Handle>>, NoHandle> {
        if asset.is_on_heap() {
            return Ok(None);
        }
        let handle = match self.files.open_handle(asset) {
            Some(handle) => Some(handle),
            None => self.files.handle(asset).await?,
        };
        match handle {
            Some(handle) if !handle.is_version(&asset.version) => Err(NoHandle::Changed),
            None if is_copied(request) => Err(NoHandle::Exhausted),
            handle => Ok(handle),
        }
    }

    /// What every target allows, and what a browser asks before it lets a page of another origin do something.
    fn options(&self, request: &HttpRequest) -> HttpResponse {
        let policy = self.policy_of(request);
        preflight(&policy, request.headers()).unwrap_or_else(|| {
            let mut response = options(&policy);
            add_cors(&policy, request.headers(), &mut response);
            response
        })
    }

    /// The response of the gate.
    fn turned(&self, turned: Rejection, request: &HttpRequest, method: Method) -> HttpResponse {
        let policy = self.policy_of(request);
        if let Ok(target) = SitePath::parse(request.uri().path().as_bytes()) {
            self.note_private(request, &target.path);
        }
        let is_head = method == Method::Head;
        let mut response = match turned {
            Rejection::ToHttps(location) if is_head || method == Method::Get => moved(&policy, &location),
            // Clients turn what is no GET into one at a 301.
            Rejection::ToHttps(location) => redirect(StatusCode::PERMANENT_REDIRECT, &policy, &location),
            Rejection::UnknownHost => HttpError::UnknownHost.respond(is_head, &policy, false),
            Rejection::BadQuery => HttpError::BadQuery.respond(is_head, &policy, false),
        };
        add_cors(&policy, request.headers(), &mut response);
        response
    }

    /// What holds for the path of a request, whatever is there.
    fn policy_of(&self, request: &HttpRequest) -> Arc<PathPolicy> {
        match SitePath::parse(request.uri().path().as_bytes()) {
            Ok(target) => self.manners.rules.policy(&target.path),
            Err(_) => self.manners.rules.site_wide(),
        }
    }

    /// The plain response to a request that found no file, where the site is known to have no page for it.
    fn refused_at_once(
        &self,
        stop: EarlyResponse,
        request: &HttpRequest,
        is_head: bool,
    ) -> Result<HttpResponse, EarlyResponse> {
        match stop {
            EarlyResponse::Refused { refused, policy: Some(policy), varies }
                if self.pages.is_absent(&self.files, refused.status()) =>
            {
                let mut response = refused.respond(is_head, &policy, varies);
                add_cors(&policy, request.headers(), &mut response);
                Ok(response)
            }
            stop => Err(stop),
        }
    }

    /// The response to a request that found no file.
    async fn stopped(&self, stop: EarlyResponse, request: &HttpRequest, is_head: bool) -> HttpResponse {
        let (mut response, policy) = match stop {
            EarlyResponse::Response { response, policy } => (*response, policy),
            EarlyResponse::Refused { refused, policy, varies } => {
                let policy = policy.unwrap_or_else(|| self.policy_of(request));
                let page = self.page(refused, &policy, request, is_head).await;
                (page.unwrap_or_else(|| refused.respond(is_head, &policy, varies)), policy)
            }
            EarlyResponse::Page { asset, status, policy } => {
                let page = self.page_of(&asset, status, &policy, request, is_head).await;
                let plain = || HttpError::NotFound.respond(is_head, &policy, false);
                (page.unwrap_or_else(plain), policy)
            }
        };
        add_cors(&policy, request.headers(), &mut response);
        response
    }

    /// The site's own page for what went wrong.
    async fn page(
        &self,
        refused: HttpError,
        policy: &PathPolicy,
        request: &HttpRequest,
        is_head: bool,
    ) -> Option<HttpResponse> {
        let asset = self.pages.page(&self.files, refused.status()).await?;
        if !self.may_show(request, &asset.path) {
            return None;
        }
        let mut response = self.page_of(&asset, refused.status(), policy, request, is_head).await?;
        if refused == HttpError::Busy {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        Some(response)
    }

    async fn page_of(
        &self,
        asset: &Arc<Asset>,
        status: StatusCode,
        policy: &PathPolicy,
        request: &HttpRequest,
        is_head: bool,
    ) -> Option<HttpResponse> {
        if self.manners.verifies && self.verify(asset).await.is_err() {
            return None;
        }
        let fields = RequestHeaders::of(request.headers());
        let form = self.form(asset, &fields).await.unwrap_or_else(|_| Arc::clone(asset));
        let handle = if is_head { None } else { self.handle(&form, request).await.ok()? };
        let sendfile_from = self.manners.sendfile_from;
        let source = ReplyBody { asset: &form, handle, sendfile_from, checksums: Vec::new() };
        Some(page(status, policy, asset.variants.is_some(), &source, is_head))
    }
}

/// Why a file that was found is not sent.
pub(crate) enum SendFailure {
    /// It is not the file that was found any more.
    Changed,
    Refused(HttpError),
}

impl From<HttpError> for SendFailure {
    fn from(refused: HttpError) -> Self {
        Self::Refused(refused)
    }
}

impl From<NoHandle> for SendFailure {
    fn from(why: NoHandle) -> Self {
        match why {
            NoHandle::Changed => Self::Changed,
            NoHandle::Exhausted => Self::Refused(HttpError::Busy),
        }
    }
}

impl From<VariantError> for SendFailure {
    fn from(why: VariantError) -> Self {
        match why {
            VariantError::Changed => Self::Changed,
            VariantError::Busy => Self::Refused(HttpError::Busy),
            VariantError::Failed => Self::Refused(HttpError::Failed),
        }
    }
}

/// What was decided of a request goes with its response: fields to the client, the pass to the connection, which holds it
/// until all is sent.
fn accompany(admission: AdmissionOutcome, response: &mut HttpResponse) {
    if !admission.lines.is_empty() {
        add_lines(response, &admission.lines);
    }
    if let Ok(pass) = admission.outcome {
        response.extensions_mut().insert(pass);
    }
}

fn is_copied(request: &HttpRequest) -> bool {
    request.extensions().get::<TransportInfo>().is_some_and(|carriage| carriage.is_copied)
}

/// How much of `form`, an encoding of `asset` or `asset` itself, the client gets.
fn answer_for(asset: &Asset, form: &Asset, fields: &RequestHeaders<'_>, is_head: bool) -> Answer {
    let facts = facts(form);
    let dates_are_strong = facts.dates_are_strong && form.encoding.is_none() && !may_differ(asset, fields);
    decide(&fields.asked(is_head), &Representation { dates_are_strong, ..facts })
}

/// Whether bytes of the file are sent. Other responses open no file, so that none is refused for want of a handle.
fn needs_body(answer: &Answer, is_head: bool) -> bool {
    !is_head && matches!(answer, Answer::Whole | Answer::Part(_) | Answer::Parts(_))
}

fn facts(asset: &Asset) -> Representation<'_> {
    Representation {
        length: asset.length(),
        etag: asset.etag(),
        last_modified: asset.last_modified(),
        dates_are_strong: asset.last_modified().is_some_and(|date| asset.version.is_of(date)),
        media_type: asset.headers().media_type().as_bytes(),
    }
}

/// Whether the same request may be answered in another coding before long: then a date does not tell the bytes.
fn may_differ(asset: &Asset, fields: &RequestHeaders<'_>) -> bool {
    match (&fields.codings, &asset.variants) {
        (Some(codings), Some(forms)) => codings.best(forms.possible()).is_some(),
        _ => false,
    }
}

/// How often a file may change between its look-up and its first byte before the client is asked to come back.
const CHANGED_TRIES: u32 = 4;
