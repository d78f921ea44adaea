//! One request, step by step.
//!
//! | room        | what it knows                                              |
//! |-------------|------------------------------------------------------------|
//! | `asked`     | which fields of a request count                            |
//! | `place`     | where a request leads: a file, or what stands for one      |
//! | `shortcut`  | the same for paths that were asked for before              |
//! | `directory` | listings and archives                                      |
//! | `integrity` | checksums that go with a response, or before it            |
//! | `cors`      | what pages of other origins may do                         |
//! | `pages`     | the site's own pages for what went wrong                   |

mod asked;
mod cors;
mod directory;
mod integrity;
mod pages;
mod place;
mod shortcut;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};

use self::asked::Fields;
use self::cors::{add_cors, preflight};
use self::pages::Pages;
use self::place::{Place, Stop};
use self::shortcut::Shortcuts;
use crate::config::{Config, Dotfiles, TrailingSlash, Verify};
use crate::directories::{Directories, DirectorySettings};
use crate::error::Refused;
use crate::files::cache::NoHandle;
use crate::files::forms::Forms;
use crate::files::handle_pool::Handle;
use crate::files::load::NoForm;
use crate::files::{Asset, Files};
use crate::guard::gate::{Gate, Turned};
use crate::http::decide::{Representation, decide};
use crate::http::digest::Algorithm;
use crate::http::encoding::{AcceptEncoding, Choice};
use crate::http::entity_tag::EntityTag;
use crate::http::method::Method;
use crate::http::query::Wants;
use crate::http::redirects::Redirects;
use crate::http::target::SitePath;
use crate::reply::{Source, add_lines, download, moved, options, page, reply};
use crate::rules::{Policy, Rules};

/// The site as one worker serves it.
pub struct Site {
    pub(crate) files: Files,
    pub(crate) manners: Manners,
    pub(crate) shortcuts: RefCell<Shortcuts>,
    pages: Pages,
}

/// What may be served, and as what.
#[derive(Clone)]
pub struct Manners {
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
    pub gate: Gate,
    /// Listings and archives.
    pub directories: Directories,
    /// Whether a directory that is listed may be had as an archive.
    pub offers_archives: bool,
    /// Whether files with a checksum beside them are checked before they are served.
    pub verifies: bool,
    /// How long a request waits for a checksum.
    pub digest_wait: Duration,
}

impl Manners {
    /// What `config` says, for `files` under `rules` and with `redirects`.
    ///
    /// # Errors
    /// Where threads can't be started.
    pub fn of(
        config: &Config,
        files: &Files,
        rules: Arc<Rules>,
        redirects: Arc<Redirects>,
    ) -> io::Result<Self> {
        Ok(Self {
            dotfiles: config.dotfiles,
            index: config.index.as_str().to_owned(),
            trailing_slash: config.trailing_slash,
            sendfile_from: config.sendfile_from.get(),
            rules,
            redirects,
            gate: Gate::new(config),
            directories: Directories::new(files.clone(), DirectorySettings::of(config))?,
            offers_archives: config.archive.is_on(),
            verifies: config.verify == Verify::Serve,
            digest_wait: config.digest_wait.get(),
        })
    }
}

impl Site {
    /// A site of `files`, served with `manners`.
    pub fn new(files: Files, manners: Manners) -> Rc<Self> {
        Rc::new(Self { files, manners, shortcuts: RefCell::new(Shortcuts::new()), pages: Pages::default() })
    }

    /// The App's answer to whatever no route has taken.
    pub async fn serve(self: Rc<Self>, request: ServiceRequest) -> Result<ServiceResponse, actix_web::Error> {
        let (request, _payload) = request.into_parts();
        let response = self.respond(&request).await;
        Ok(ServiceResponse::new(request, response))
    }

    async fn respond(&self, request: &HttpRequest) -> HttpResponse {
        if let Some(turned) = self.manners.gate.turns(request) {
            return self.turned(turned, request.method() == actix_web::http::Method::HEAD);
        }
        let (is_head, answer) = match Method::classify(request.method().as_str().as_bytes()) {
            Method::Get => (false, self.answer(request, false).await),
            Method::Head => (true, self.answer(request, true).await),
            Method::Options => return self.options(request),
            Method::NotAllowed => (false, Err(Stop::refused(Refused::MethodNotAllowed))),
            Method::NotImplemented => (false, Err(Stop::refused(Refused::NotImplemented))),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(stop) => Box::pin(self.stopped(stop, request, is_head)).await,
        };
        if let Some(line) = self.manners.gate.transport_security(request) {
            add_lines(&mut response, line);
        }
        response
    }

    async fn answer(&self, request: &HttpRequest, is_head: bool) -> Result<HttpResponse, Stop> {
        let fields = Fields::of(request.headers());
        let wants = request.uri().query().map(|query| Wants::parse(query.as_bytes()));
        for _ in 0..CHANGED_TRIES {
            let place = self.find(request, wants.as_ref()).await?; // 1 where
            match self.send(&place, &fields, wants.as_ref(), is_head).await {
                Ok(mut response) => {
                    add_cors(&place.asset.policy, request.headers(), &mut response);
                    return Ok(response);
                }
                // The file changed after its name was checked: its new version is looked up.
                Err(Unsent::Changed) => self.files.distrust(&place.name),
                Err(Unsent::Refused(refused)) => {
                    let varies = place.asset.forms.is_some();
                    return Err(Stop::Refused { refused, policy: Some(place.asset.policy.clone()), varies });
                }
            }
        }
        Err(Stop::refused(Refused::Busy))
    }

    async fn send(
        &self,
        place: &Place,
        fields: &Fields<'_>,
        wants: Option<&Wants<'_>>,
        is_head: bool,
    ) -> Result<HttpResponse, Unsent> {
        if self.manners.verifies {
            self.verify(&place.asset).await?;
        }
        if let Some(wants) = wants
            && let Some(name) = &wants.digest
        {
            return Box::pin(self.checksum_file(&place.asset, name, is_head)).await;
        }
        let form = self.form(&place.asset, fields).await?; // 2 which bytes
        if place.is_due_for_touch {
            Box::pin(self.files.touch(&place.name, Some(&form))).await;
        }
        if form.etag.is_weak() {
            self.files.digest_soon(&form, Algorithm::Sha256);
        }
        let checksums = self.checksums(&form, fields, is_head).await;
        let dates_are_strong = form.coding.is_none() && !may_differ(&place.asset, fields);
        let facts = Representation { dates_are_strong, ..facts(&form) };
        let answer = decide(&fields.asked(is_head), &facts); // 3 how much of them (pure)
        let handle = self.handle(&form).await?;
        let source = Source { asset: &form, handle, sendfile_from: self.manners.sendfile_from, checksums };
        let mut response = reply(answer, &source, is_head)?; // 4 status, headers, body
        if let Some(name) = wants.and_then(|wants| wants.download.as_deref()) {
            download(&mut response, if name.is_empty() { place.asset.path.file_name() } else { name });
        }
        Ok(response)
    }

    /// The file in the coding that the client likes best of those that are to be had now.
    async fn form(&self, asset: &Arc<Asset>, fields: &Fields<'_>) -> Result<Arc<Asset>, Unsent> {
        let Some(codings) = &fields.codings else { return Ok(Arc::clone(asset)) };
        let Some(forms) = &asset.forms else {
            let is_refused = codings.refuses_identity();
            return if is_refused { Err(Refused::NotAcceptable.into()) } else { Ok(Arc::clone(asset)) };
        };
        let begun = fields.begun().and_then(|tag| begun_as(asset, forms, codings, &tag));
        let choice = begun.unwrap_or_else(|| codings.choose(forms.available()));
        // What was begun in one form is best gone on with in that form: ranges begin nothing.
        let wanted = codings.best(forms.possible()).filter(|_| !fields.has_range());
        if let Some(wanted) = wanted
            && choice != Choice::Coded(wanted)
            && !matches!(choice, Choice::Coded(coding) if forms.sidecars().has(coding))
        {
            self.files.compress_soon(asset, wanted);
        }
        match choice {
            Choice::Identity => Ok(Arc::clone(asset)),
            Choice::Coded(coding) => match forms.ready(coding) {
                Some(form) if form.is_settled() => Ok(form),
                _ => match Box::pin(self.files.form(asset, coding)).await {
                    // From now on the sidecar counts as absent: there is one coding less to choose from.
                    Err(NoForm::Failed) => Box::pin(self.form(asset, fields)).await,
                    // No handle is to be had for a sidecar: the file as it is may be in memory.
                    Err(NoForm::Busy) if !codings.refuses_identity() => Ok(Arc::clone(asset)),
                    form => Ok(form?),
                },
            },
            Choice::NotAcceptable if wanted.is_some() => Err(Refused::Busy.into()),
            Choice::NotAcceptable => Err(Refused::NotAcceptable.into()),
        }
    }

    /// A handle for what does not lie on the heap, once it is sure that the file is still the version that was decided on.
    async fn handle(&self, asset: &Arc<Asset>) -> Result<Option<Arc<Handle>>, NoHandle> {
        if asset.is_on_heap() {
            return Ok(None);
        }
        let handle = match self.files.warm_handle(asset) {
            Some(handle) => Some(handle),
            // Boxed, as are the other rare waits: what most requests never do must not make all of them larger.
            None => Box::pin(self.files.handle(asset)).await?,
        };
        match handle {
            Some(handle) if !handle.still_is(&asset.version) => Err(NoHandle::Changed),
            handle => Ok(handle),
        }
    }

    /// What every target allows, and what a browser asks before it lets a page of another origin do something.
    fn options(&self, request: &HttpRequest) -> HttpResponse {
        let target = SitePath::parse(request.uri().path().as_bytes());
        let policy = match &target {
            Ok(target) => self.manners.rules.policy(&target.path),
            Err(_) => self.manners.rules.site_wide(),
        };
        preflight(&policy, request.headers()).unwrap_or_else(|| options(&policy))
    }

    /// The response of the gate: what it says is said over cleartext.
    fn turned(&self, turned: Turned, is_head: bool) -> HttpResponse {
        let policy = self.manners.rules.site_wide();
        match turned {
            Turned::ToHttps(location) => moved(&policy, &location),
            Turned::UnknownHost => Refused::BadTarget.respond(is_head, &policy, false),
            Turned::BadQuery => Refused::BadQuery.respond(is_head, &policy, false),
        }
    }

    /// The response to a request that found no file.
    async fn stopped(&self, stop: Stop, request: &HttpRequest, is_head: bool) -> HttpResponse {
        let (mut response, policy) = match stop {
            Stop::Response { response, policy } => (*response, policy),
            Stop::Refused { refused, policy, varies } => {
                let policy = policy.unwrap_or_else(|| self.manners.rules.site_wide());
                let page = self.page(refused, &policy, request, is_head).await;
                (page.unwrap_or_else(|| refused.respond(is_head, &policy, varies)), policy)
            }
            Stop::Page { asset, status, policy } => {
                let page = self.page_of(&asset, status, &policy, request, is_head).await;
                let plain = || Refused::NotFound.respond(is_head, &policy, false);
                (page.unwrap_or_else(plain), policy)
            }
        };
        add_cors(&policy, request.headers(), &mut response);
        response
    }

    /// The site's own page for what went wrong.
    async fn page(
        &self,
        refused: Refused,
        policy: &Policy,
        request: &HttpRequest,
        is_head: bool,
    ) -> Option<HttpResponse> {
        let asset = self.pages.page(&self.files, refused.status()).await?;
        let mut response = self.page_of(&asset, refused.status(), policy, request, is_head).await?;
        if refused == Refused::Busy {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        Some(response)
    }

    async fn page_of(
        &self,
        asset: &Arc<Asset>,
        status: StatusCode,
        policy: &Policy,
        request: &HttpRequest,
        is_head: bool,
    ) -> Option<HttpResponse> {
        if self.manners.verifies && self.verify(asset).await.is_err() {
            return None;
        }
        let fields = Fields::of(request.headers());
        let form = self.form(asset, &fields).await.unwrap_or_else(|_| Arc::clone(asset));
        let handle = self.handle(&form).await.ok()?;
        let sendfile_from = self.manners.sendfile_from;
        let source = Source { asset: &form, handle, sendfile_from, checksums: Vec::new() };
        Some(page(status, policy, asset.forms.is_some(), &source, is_head))
    }
}

/// Why a file that was found is not sent.
pub(crate) enum Unsent {
    /// It is not the file that was found any more.
    Changed,
    Refused(Refused),
}

impl From<Refused> for Unsent {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<NoHandle> for Unsent {
    fn from(why: NoHandle) -> Self {
        match why {
            NoHandle::Changed => Self::Changed,
            NoHandle::Exhausted => Self::Refused(Refused::Busy),
        }
    }
}

impl From<NoForm> for Unsent {
    fn from(why: NoForm) -> Self {
        match why {
            NoForm::Changed => Self::Changed,
            NoForm::Busy => Self::Refused(Refused::Busy),
            NoForm::Failed => Self::Refused(Refused::Failed),
        }
    }
}

fn facts(asset: &Asset) -> Representation<'_> {
    Representation {
        length: asset.length(),
        etag: asset.etag(),
        last_modified: asset.last_modified(),
        dates_are_strong: true,
        media_type: asset.fields().media_type().as_bytes(),
    }
}

/// The form that was begun, by its tag, of those that are in memory and acceptable: to go on with it spares the client a
/// download from the start.
fn begun_as(asset: &Asset, forms: &Forms, codings: &AcceptEncoding, begun: &EntityTag<'_>) -> Option<Choice> {
    if !codings.refuses_identity() && begun.strong_eq(&asset.etag) {
        return Some(Choice::Identity);
    }
    let is_begun = |coding| forms.ready(coding).is_some_and(|form| begun.strong_eq(&form.etag));
    let mut acceptable = forms.available().iter().filter(|coding| codings.accepts(*coding));
    acceptable.find(|coding| is_begun(*coding)).map(Choice::Coded)
}

/// Whether the same request may be answered in another coding before long: then a date does not tell the bytes.
fn may_differ(asset: &Asset, fields: &Fields<'_>) -> bool {
    match (&fields.codings, &asset.forms) {
        (Some(codings), Some(forms)) => codings.best(forms.possible()).is_some(),
        _ => false,
    }
}

/// How often a file may change between its look-up and its first byte before the client is asked to come back.
const CHANGED_TRIES: u32 = 4;
