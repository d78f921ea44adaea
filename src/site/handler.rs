//! One request, step by step: where (`resolver`), which bytes (`representation`), how much of them (pure), and the response
//! (`reply`). What happens before and after stands in `server::app`.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{HttpRequest, HttpResponse};

use crate::files::{Asset, Lookup};
use crate::http::canned_response::{BUSY, METHOD_NOT_ALLOWED, METHOD_UNKNOWN};
use crate::http::digest::Algorithm;
use crate::http::method::Method;
use crate::net::prerendered::PrerenderedResponse;
use crate::site::access::admit;
use crate::site::cors::{mark_cors, preflight};
use crate::site::integrity::{checksum_file, checksums, known_checksums, verify};
use crate::site::reply::{ReplyBody, download, options, reply};
use crate::site::representation::{SendFailure, answer_for, choose, needs_body, open, select};
use crate::site::request_facts::{RequestHeaders, SiteRequest};
use crate::site::resolution::{EarlyResponse, Resolved};
use crate::site::settings::Site;
use crate::telemetry::access_log::record::CacheResult;

impl Site {
    /// Answers a request that no route of the App has taken.
    pub async fn serve(self: Rc<Self>, request: ServiceRequest) -> Result<ServiceResponse, actix_web::Error> {
        let (request, _payload) = request.into_parts();
        let response = self.respond(&request).await;
        Ok(ServiceResponse::new(request, response))
    }

    async fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let method = Method::classify(request.method().as_str().as_bytes());
        let is_head = method == Method::Head;
        let cached = Cell::new(None);
        let answer = match method {
            Method::Get | Method::Head => match self.answer_at_once(request, is_head, &cached) {
                Some(answer) => answer,
                None => Box::pin(self.answer(request, is_head, &cached)).await,
            },
            Method::Options => Ok(self.options(request)),
            Method::NotAllowed => Err(self.error(request, &METHOD_NOT_ALLOWED)),
            Method::NotImplemented => Err(self.error(request, &METHOD_UNKNOWN)),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(early) => match self.early_response_at_once(early, is_head) {
                Ok(response) => response,
                Err(early) => Box::pin(self.early_response(early, request)).await,
            },
        };
        if let Some(cached) = cached.get().filter(|_| self.settings.logs_requests) {
            PrerenderedResponse::set_cache_result(&mut response, cached);
        }
        response
    }

    /// Answers the usual request, which waits for nothing: the name is known, the bytes are in memory or the file is open. `None`
    /// for any other. A plain function: what an async one never does still makes it slower.
    fn answer_at_once(
        &self,
        request: &HttpRequest,
        is_head: bool,
        cached: &Cell<Option<CacheResult>>,
    ) -> Option<Result<HttpResponse, EarlyResponse>> {
        let files = &self.settings.files;
        if self.settings.verifies() || request.uri().query().is_some() {
            return None;
        }
        let known = self
            .find_cached(request, false, cached)
            .filter(|known| known.path.is_public && !known.is_due_for_touch)?;
        let Lookup::File(asset) = &known.lookup else {
            let early = self.check_absent(&known.path, &known.lookup).err()?;
            self.count_hit(&known);
            return Some(Err(early));
        };
        let headers = RequestHeaders::of(request.headers());
        let encoded;
        let form = match choose(files, asset, &headers).ok()? {
            None if asset.etag.is_weak() => return None,
            None => asset,
            Some(encoding) => {
                encoded = asset.variants.as_ref()?.cached(encoding).filter(|form| form.is_final())?;
                &encoded
            }
        };
        let answer = answer_for(asset, form, &headers, is_head); // 3 how much of them (pure)
        let handle = if form.is_on_heap() {
            None
        } else if needs_body(&answer, is_head) {
            Some(files.open_handle(form).filter(|handle| handle.is_unchanged().unwrap_or(false))?)
        } else {
            files.is_current(form).then_some(None)?
        };
        let checksums = known_checksums(form, &headers)?;
        let body = ReplyBody { asset: form, handle, sendfile_from: self.settings.sendfile_from(), checksums };
        let mut response = reply(answer, &body, is_head).ok()?; // 4 status, headers, body
        mark_cors(&asset.policy, &mut response);
        self.count_hit(&known);
        Some(Ok(response))
    }

    /// Answers any GET or HEAD.
    async fn answer(
        &self,
        request: &HttpRequest,
        is_head: bool,
        cached: &Cell<Option<CacheResult>>,
    ) -> Result<HttpResponse, EarlyResponse> {
        let request = &SiteRequest::new(request, is_head, cached);
        for _ in 0..CHANGED_TRIES {
            let resolved = self.resolve(request).await?; // 1 where
            admit(&self.settings, request.http, &resolved.name.path).await?;
            match self.send(&resolved, request).await {
                Ok(mut response) => {
                    mark_cors(&resolved.asset.policy, &mut response);
                    return Ok(response);
                }
                // The file changed after its name was checked: its new version is looked up.
                Err(SendFailure::Changed) => resolved.name.invalidate(),
                Err(SendFailure::Error(error)) => {
                    let Asset { policy, variants, .. } = &*resolved.asset;
                    let (policy, varies) = (Arc::clone(policy), variants.is_some());
                    return Err(EarlyResponse::Error { error, policy, varies });
                }
            }
        }
        Err(self.error(request.http, &BUSY))
    }

    async fn send(&self, found: &Resolved, request: &SiteRequest<'_>) -> Result<HttpResponse, SendFailure> {
        let SiteRequest { http, is_head, ref headers, ref options, .. } = *request;
        let (settings, asset) = (&self.settings, &found.asset);
        let files = &settings.files;
        if settings.verifies() {
            verify(settings, asset).await?;
        }
        if let Some(name) = &options.digest {
            return checksum_file(settings, asset, name, is_head).await;
        }
        let form = select(files, asset, headers).await?; // 2 which bytes
        if found.name.is_due_for_touch(files.now_ms()) {
            files.touch(&found.name, Some(&form)).await;
        }
        if form.etag.is_weak() {
            files.start_digest(&form, Algorithm::Sha256);
        }
        let checksums = checksums(settings, &form, headers, is_head).await;
        let answer = answer_for(asset, &form, headers, is_head); // 3 how much of them (pure)
        let handle = if needs_body(&answer, is_head) {
            open(files, &form, http).await?
        } else if form.is_on_heap() || files.is_current(&form) {
            None
        } else {
            return Err(SendFailure::Changed);
        };
        let body =
            ReplyBody { asset: &form, handle, sendfile_from: self.settings.sendfile_from(), checksums };
        let mut response = reply(answer, &body, is_head)?; // 4 status, headers, body
        if let Some(fallback) = &found.fallback {
            fallback.correct_headers(asset, &mut response);
        }
        if let Some(name) = options.download.as_deref() {
            download(&mut response, if name.is_empty() { asset.path.file_name() } else { name });
        }
        Ok(response)
    }

    /// Answers OPTIONS, and with it preflight requests.
    fn options(&self, request: &HttpRequest) -> HttpResponse {
        let policy = self.settings.policy_of(request);
        preflight(&policy, request.headers()).unwrap_or_else(|| {
            let mut response = options(&policy);
            mark_cors(&policy, &mut response);
            response
        })
    }
}

/// How often a file may change between its lookup and its first byte before the client gets 503.
const CHANGED_TRIES: u32 = 4;
