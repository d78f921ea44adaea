//! Error responses: plain sentences, or the site's own `404.html`, `403.html` and `50x.html` in the root.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};

use crate::files::policy::PathPolicy;
use crate::files::{Asset, Lookup};
use crate::http::canned_response::{BUSY, NOT_FOUND};
use crate::http::error::HttpError;
use crate::http::target::SitePath;
use crate::site::access::read_permission;
use crate::site::cors::mark_cors;
use crate::site::integrity::verify;
use crate::site::reply::{ReplyBody, add_lines, page};
use crate::site::representation::{open, select};
use crate::site::request_facts::{RequestHeaders, is_head};
use crate::site::resolution::EarlyResponse;
use crate::site::settings::Site;

impl Site {
    /// Makes the plain response to an error, if the site is known to have no page for it; gives any other back.
    pub(crate) fn early_response_at_once(
        &self,
        early: EarlyResponse,
        is_head: bool,
    ) -> Result<HttpResponse, EarlyResponse> {
        match early {
            EarlyResponse::Error { error, policy, varies } if self.has_no_page(error.status()) => {
                let mut response = error.respond(is_head, &policy, varies);
                mark_cors(&policy, &mut response);
                Ok(response)
            }
            early => Err(early),
        }
    }

    /// Makes an early response.
    pub(crate) async fn early_response(&self, early: EarlyResponse, request: &HttpRequest) -> HttpResponse {
        let (page, error, policy, varies) = match early {
            EarlyResponse::Response(response) => return *response,
            EarlyResponse::Error { error, policy, varies } => {
                (self.error_page(error, &policy, request).await, error, policy, varies)
            }
            EarlyResponse::Page(asset, status) => {
                let policy = Arc::clone(&asset.policy);
                let page = self.page(&asset, status, &policy, request).await;
                (page, HttpError::Fixed(&NOT_FOUND), policy, false)
            }
        };
        let mut response = page.unwrap_or_else(|| error.respond(is_head(request), &policy, varies));
        mark_cors(&policy, &mut response);
        response
    }

    /// The site's own page for an error.
    async fn error_page(
        &self,
        error: HttpError,
        policy: &PathPolicy,
        request: &HttpRequest,
    ) -> Option<HttpResponse> {
        let asset = self.find_page(error.status()).await?;
        if !read_permission(&self.settings, request)(&asset.path) {
            return None;
        }
        let mut response = self.page(&asset, error.status(), policy, request).await?;
        if error == HttpError::Fixed(&BUSY) {
            add_lines(&mut response, BUSY.headers);
        }
        Some(response)
    }

    async fn page(
        &self,
        asset: &Arc<Asset>,
        status: StatusCode,
        policy: &PathPolicy,
        request: &HttpRequest,
    ) -> Option<HttpResponse> {
        let (settings, files) = (&self.settings, &self.settings.files);
        if settings.verifies() && verify(settings, asset).await.is_err() {
            return None;
        }
        let (headers, is_head) = (RequestHeaders::of(request.headers()), is_head(request));
        let form = select(files, asset, &headers).await.unwrap_or_else(|_| Arc::clone(asset));
        let handle = if is_head { None } else { open(files, &form, request).await.ok()? };
        let sendfile_from = settings.sendfile_from();
        let source = ReplyBody { asset: &form, handle, sendfile_from, checksums: Vec::new() };
        Some(page(status, policy, asset.variants.is_some(), &source, is_head))
    }

    /// True if the site is known to have no page for `status`. Never waits.
    fn has_no_page(&self, status: StatusCode) -> bool {
        let Some(index) = index(status) else { return true };
        let (files, known) = (&self.settings.files, self.error_pages.borrow());
        let lookup = known[index].as_ref().and_then(|name| files.recall(name, files.now_ms()));
        lookup.is_some_and(|lookup| !matches!(lookup, Lookup::File(_)))
    }

    /// Returns the page for `status`, if the site has one.
    async fn find_page(&self, status: StatusCode) -> Option<Arc<Asset>> {
        let (files, index) = (&self.settings.files, index(status)?);
        let known = self.error_pages.borrow()[index].clone();
        // Without handles, only a page in memory is used.
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return known?.lookup()?.into_file();
        }
        let recalled = known.and_then(|name| files.recall(&name, files.now_ms()));
        if let Some(lookup) = recalled {
            return lookup.into_file();
        }
        let found = Box::pin(files.find(&SitePath::root().entry(NAMES[index].as_bytes()))).await;
        self.error_pages.borrow_mut()[index] = Some(found.name);
        found.lookup.into_file()
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
