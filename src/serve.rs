//! One request, step by step.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{HttpRequest, HttpResponse};

use crate::config::Dotfiles;
use crate::error::Refused;
use crate::files::cache::NoHandle;
use crate::files::handle_pool::Handle;
use crate::files::{Asset, Files, Lookup};
use crate::http::authority::is_valid_host;
use crate::http::decide::{Asked, Representation, decide};
use crate::http::method::Method;
use crate::http::precondition::Preconditions;
use crate::http::target::SitePath;
use crate::reply::{Source, moved, options, reply};
use crate::shortcut::{Shortcut, Shortcuts};

/// The site as one worker serves it.
pub struct Site {
    files: Files,
    rules: Rules,
    shortcuts: RefCell<Shortcuts>,
}

/// What may be served, and as what.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whether names with a leading dot are served.
    pub dotfiles: Dotfiles,
    /// The name that stands for its directory.
    pub index: String,
    /// From this length on a body leaves by `sendfile`.
    pub sendfile_from: u64,
}

impl Site {
    /// A site of `files` under `rules`.
    pub fn new(files: Files, rules: Rules) -> Rc<Self> {
        Rc::new(Self { files, rules, shortcuts: RefCell::new(Shortcuts::new()) })
    }

    /// The App's answer to whatever no route has taken.
    pub async fn serve(self: Rc<Self>, request: ServiceRequest) -> Result<ServiceResponse, actix_web::Error> {
        let (request, _payload) = request.into_parts();
        let response = self.respond(&request).await;
        Ok(ServiceResponse::new(request, response))
    }

    async fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let is_head = match Method::classify(request.method().as_str().as_bytes()) {
            Method::Get => false,
            Method::Head => true,
            Method::Options => return options(),
            Method::NotAllowed => return Refused::MethodNotAllowed.respond(false),
            Method::NotImplemented => return Refused::NotImplemented.respond(false),
        };
        match self.answer(request, is_head).await {
            Ok(response) => response,
            Err(refused) => refused.respond(is_head),
        }
    }

    async fn answer(&self, request: &HttpRequest, is_head: bool) -> Result<HttpResponse, Refused> {
        let mut tries = 0;
        loop {
            let place = self.find(request).await?; // 1 where, and which bytes
            let asset = match place.lookup {
                Lookup::File(asset) => asset,
                Lookup::Directory if place.wants_directory => return Err(Refused::NotFound),
                Lookup::Directory => return redirect(request),
                Lookup::Missing => return Err(Refused::NotFound),
                Lookup::Forbidden => return Err(Refused::Forbidden),
                Lookup::Busy => return Err(Refused::Busy),
                Lookup::Failed => return Err(Refused::Failed),
            };
            let fields = Fields::of(request.headers());
            let answer = decide(&fields.asked(is_head), &facts(&asset)); // 2 how much of them (pure)
            match self.handle(&asset).await {
                Ok(handle) => return Ok(reply(answer, &self.source(&asset, handle), is_head)), // 3 status, headers, body
                // The file changed after its name was checked: its new version is looked up.
                Err(NoHandle::Changed) if tries < CHANGED_TRIES => {
                    tries += 1;
                    self.files.distrust(&place.name);
                }
                Err(_) => return Err(Refused::Busy),
            }
        }
    }

    /// The file that the request names: by the worker's own short cut, else by the shared cache or the disk.
    async fn find(&self, request: &HttpRequest) -> Result<Place, Refused> {
        check_form(request)?; // Before the short cut, which knows paths alone.
        let raw = request.uri().path().as_bytes();
        let now_ms = self.files.now_ms();
        let known = self.shortcuts.borrow().get(raw);
        if let Some(Shortcut { name, wants_directory }) = known
            && let Some(lookup) = self.files.recall(&name, now_ms)
        {
            if name.is_due_for_touch(now_ms) {
                Box::pin(self.files.touch(&name)).await;
            }
            return Ok(Place { lookup, name, wants_directory });
        }
        let target = SitePath::parse(raw).map_err(|why| bad_target(raw, why))?;
        if self.rules.dotfiles == Dotfiles::Deny && target.path.is_hidden() {
            return Err(Refused::NotFound);
        }
        let wants_directory = target.wants_directory;
        let path = if wants_directory { target.path.index(&self.rules.index) } else { target.path };
        // Boxed, as are the other rare waits: what most requests never do must not make all of them larger.
        let found = Box::pin(self.files.find(&path)).await;
        let shortcut = Shortcut { name: Arc::clone(&found.name), wants_directory };
        self.shortcuts.borrow_mut().put(raw, shortcut);
        Ok(Place { lookup: found.lookup, name: found.name, wants_directory })
    }

    fn source<'a>(&self, asset: &'a Arc<Asset>, handle: Option<Arc<Handle>>) -> Source<'a> {
        Source { asset, handle, sendfile_from: self.rules.sendfile_from }
    }

    /// A handle for what does not lie on the heap, once it is sure that the file is still the version that was decided on.
    async fn handle(&self, asset: &Arc<Asset>) -> Result<Option<Arc<Handle>>, NoHandle> {
        if asset.is_on_heap() {
            return Ok(None);
        }
        let handle = match self.files.warm_handle(asset) {
            Some(handle) => Some(handle),
            None => Box::pin(self.files.handle(asset)).await?,
        };
        match handle {
            Some(handle) if !handle.still_is(&asset.version) => Err(NoHandle::Changed),
            handle => Ok(handle),
        }
    }
}

struct Place {
    lookup: Lookup,
    name: Arc<crate::files::Name>,
    wants_directory: bool,
}

/// RFC 9112 §3.2: a file is asked for in origin form, or in absolute form with a host that could be one.
fn check_form(request: &HttpRequest) -> Result<(), Refused> {
    let uri = request.uri();
    let is_http = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    let host_is_valid = uri.authority().is_none_or(|host| is_valid_host(host.as_str().as_bytes()));
    if is_http && host_is_valid { Ok(()) } else { Err(Refused::BadTarget) }
}

fn bad_target(raw: &[u8], why: crate::http::target::BadTarget) -> Refused {
    log::debug!("target {}: {why:?}", raw.escape_ascii());
    Refused::BadTarget
}

fn redirect(request: &HttpRequest) -> Result<HttpResponse, Refused> {
    let uri = request.uri();
    let target = SitePath::parse(uri.path().as_bytes()).map_err(|_| Refused::BadTarget)?;
    Ok(moved(target.path.to_location(uri.query().map(str::as_bytes))))
}

fn facts(asset: &Asset) -> Representation<'_> {
    Representation {
        length: asset.length(),
        etag: asset.etag(),
        last_modified: asset.last_modified(),
        media_type: asset.fields().media_type().as_bytes(),
    }
}

/// The fields that decide how much is sent; a field of several lines is one list (RFC 9110 §5.3).
#[derive(Default)]
struct Fields<'a> {
    range: Option<Cow<'a, [u8]>>,
    if_match: Option<Cow<'a, [u8]>>,
    if_unmodified_since: Option<Cow<'a, [u8]>>,
    if_none_match: Option<Cow<'a, [u8]>>,
    if_modified_since: Option<Cow<'a, [u8]>>,
    if_range: Option<Cow<'a, [u8]>>,
}

impl<'a> Fields<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        if headers.len() <= 1 {
            return Self::default(); // Host alone.
        }
        Self {
            range: joined(headers, &header::RANGE),
            if_match: joined(headers, &header::IF_MATCH),
            if_unmodified_since: joined(headers, &header::IF_UNMODIFIED_SINCE),
            if_none_match: joined(headers, &header::IF_NONE_MATCH),
            if_modified_since: joined(headers, &header::IF_MODIFIED_SINCE),
            if_range: joined(headers, &header::IF_RANGE),
        }
    }

    fn asked(&self, head_only: bool) -> Asked<'_> {
        Asked {
            head_only,
            range: self.range.as_deref(),
            preconditions: Preconditions {
                if_match: self.if_match.as_deref(),
                if_unmodified_since: self.if_unmodified_since.as_deref(),
                if_none_match: self.if_none_match.as_deref(),
                if_modified_since: self.if_modified_since.as_deref(),
                if_range: self.if_range.as_deref(),
            },
        }
    }
}

fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name);
    let first = lines.next()?.as_bytes();
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = [first, second.as_bytes()].join(&b", "[..]);
    for line in lines {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    Some(Cow::Owned(all))
}

/// How often a file may change between its look-up and its first byte before the client is asked to come back.
const CHANGED_TRIES: u32 = 3;
