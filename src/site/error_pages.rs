//! Error responses: plain sentences, or the site's own `404.html`, `403.html` and `50x.html` in the root.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use crate::config::policy::rules::PathPolicy;
use crate::files::{Asset, Files, Lookup, Name};
use crate::http::target::SitePath;
use crate::site::access::read_permission;
use crate::site::cors::mark_cors;
use crate::site::error::HttpError;
use crate::site::integrity::verify;
use crate::site::reply::{ReplyBody, page};
use crate::site::representation::{open, select};
use crate::site::request_facts::RequestHeaders;
use crate::site::resolution::EarlyResponse;
use crate::site::settings::{SiteContext, SiteSettings};

/// Makes the early responses of one worker.
pub(crate) struct ErrorResponder {
    context: Rc<SiteContext>,
    pages: ErrorPages,
}

impl ErrorResponder {
    pub(crate) fn new(context: Rc<SiteContext>) -> Self {
        Self { context, pages: ErrorPages::default() }
    }

    /// Makes the plain response to an error, if the site is known to have no page for it; gives any other back.
    pub(crate) fn respond_at_once(
        &self,
        early: EarlyResponse,
        is_head: bool,
    ) -> Result<HttpResponse, EarlyResponse> {
        match early {
            EarlyResponse::Error { error, policy: Some(policy), varies }
                if self.pages.is_absent(&self.context.files, error.status()) =>
            {
                let mut response = error.respond(is_head, &policy, varies);
                mark_cors(&policy, &mut response);
                Ok(response)
            }
            early => Err(early),
        }
    }

    /// Makes an early response.
    pub(crate) async fn respond(
        &self,
        early: EarlyResponse,
        request: &HttpRequest,
        is_head: bool,
    ) -> HttpResponse {
        let (mut response, policy) = match early {
            EarlyResponse::Response { response, policy } => (*response, policy),
            EarlyResponse::Error { error, policy, varies } => {
                let policy = policy.unwrap_or_else(|| policy_of(&self.context.settings, request));
                let page = self.error_page(error, &policy, request, is_head).await;
                (page.unwrap_or_else(|| error.respond(is_head, &policy, varies)), policy)
            }
            EarlyResponse::Page { asset, status, policy } => {
                let page = self.page(&asset, status, &policy, request, is_head).await;
                let plain = || HttpError::NotFound.respond(is_head, &policy, false);
                (page.unwrap_or_else(plain), policy)
            }
        };
        mark_cors(&policy, &mut response);
        response
    }

    /// The site's own page for an error.
    async fn error_page(
        &self,
        error: HttpError,
        policy: &PathPolicy,
        request: &HttpRequest,
        is_head: bool,
    ) -> Option<HttpResponse> {
        let SiteContext { files, settings } = &*self.context;
        let asset = self.pages.page(files, error.status()).await?;
        if !read_permission(settings, request)(&asset.path) {
            return None;
        }
        let mut response = self.page(&asset, error.status(), policy, request, is_head).await?;
        if error == HttpError::Busy {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Some(response)
    }

    async fn page(
        &self,
        asset: &Arc<Asset>,
        status: StatusCode,
        policy: &PathPolicy,
        request: &HttpRequest,
        is_head: bool,
    ) -> Option<HttpResponse> {
        let SiteContext { files, settings } = &*self.context;
        if settings.verifies() && verify(&self.context, asset).await.is_err() {
            return None;
        }
        let headers = RequestHeaders::of(request.headers());
        let form = select(files, asset, &headers).await.unwrap_or_else(|_| Arc::clone(asset));
        let handle = if is_head { None } else { open(files, &form, request).await.ok()? };
        let sendfile_from = settings.sending.sendfile_from.get();
        let source = ReplyBody { asset: &form, handle, sendfile_from, checksums: Vec::new() };
        Some(page(status, policy, asset.variants.is_some(), &source, is_head))
    }
}

/// Returns the policy of the path that a request names, whatever is there.
pub(crate) fn policy_of(settings: &SiteSettings, request: &HttpRequest) -> Arc<PathPolicy> {
    match SitePath::parse(request.uri().path().as_bytes()) {
        Ok(target) => settings.rules.policy(&target.path),
        Err(_) => settings.rules.site_wide(),
    }
}

/// The error pages as one worker last saw them.
#[derive(Default)]
struct ErrorPages {
    known: RefCell<[Option<Arc<Name>>; NAMES.len()]>,
}

impl ErrorPages {
    /// True if the site is known to have no page for `status`. Never waits.
    fn is_absent(&self, files: &Files, status: StatusCode) -> bool {
        let Some(index) = index(status) else { return true };
        let known = self.known.borrow();
        known[index].as_ref().is_some_and(|name| {
            files.recall(name, files.now_ms()).is_some_and(|lookup| !matches!(lookup, Lookup::File(_)))
        })
    }

    /// Returns the page for `status`, if the site has one.
    async fn page(&self, files: &Files, status: StatusCode) -> Option<Arc<Asset>> {
        let index = index(status)?;
        let known = self.known.borrow()[index].clone();
        let recalled = known.and_then(|name| {
            // Short of handles, only a page in memory is used.
            if status == StatusCode::SERVICE_UNAVAILABLE {
                name.lookup()
            } else {
                files.recall(&name, files.now_ms())
            }
        });
        let lookup = match recalled {
            Some(lookup) => lookup,
            None if status == StatusCode::SERVICE_UNAVAILABLE => return None,
            None => self.find(files, index).await,
        };
        match lookup {
            Lookup::File(asset) => Some(asset),
            _ => None,
        }
    }

    async fn find(&self, files: &Files, index: usize) -> Lookup {
        let found = Box::pin(files.find(&SitePath::root().entry(NAMES[index].as_bytes()))).await;
        self.known.borrow_mut()[index] = Some(found.name);
        found.lookup
    }
}

fn index(status: StatusCode) -> Option<usize> {
    match status {
        StatusCode::NOT_FOUND => Some(0),
        StatusCode::FORBIDDEN => Some(1),
        _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => Some(2),
        _ => None,
    }
}

const NAMES: [&str; 3] = ["404.html", "403.html", "50x.html"];
