//! Who may have a path: judged before it is looked up, by its decoded name and nothing else.
//!
//! Every path whose bytes could be sent is judged: the one that is asked for, and whatever stands for it (an index, a fallback, the aim
//! of a rewrite, a page for an error, an entry of a listing or of an archive). What lies beside a file under its name and a suffix
//! (`x.br`, `x.sha256`) is as private as the file.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use crate::auth::access::{AccessDenied, AccessRequest, AuthContext};
use crate::files::directory::ReadPermission;
use crate::http::cache_control;
use crate::http::target::SitePath;
use crate::net::prerendered::PrerenderedResponse;
use crate::site::error::HttpError;
use crate::site::handler::Site;
use crate::site::resolver::EarlyResponse;

impl Site {
    /// Judges the path that a request names. One that is no path leads nowhere, and is refused by who looks for it.
    pub(super) async fn admit_target(&self, request: &HttpRequest) -> Result<(), EarlyResponse> {
        match SitePath::parse(request.uri().path().as_bytes()) {
            Ok(target) => self.admit(request, &target.path).await,
            Err(_) => Ok(()),
        }
    }

    /// Judges a path before it is looked up.
    pub(super) async fn admit(
        &self,
        request: &HttpRequest,
        path: &SitePath<'_>,
    ) -> Result<(), EarlyResponse> {
        if !self.manners.has_access_rules {
            return Ok(());
        }
        for policy in self.manners.rules.locks(path) {
            let Some(choice) = policy.access() else { continue };
            with_visit(request, |visit| visit.is_private = true);
            if with_visit(request, |visit| visit.opens(choice, path)) {
                continue;
            }
            let raw = request.uri().path().as_bytes();
            let Ok(asked) = SitePath::parse(raw) else {
                return Err(EarlyResponse::refused(HttpError::BadTarget));
            };
            let asking = AccessRequest { request, guard: &self.manners.guard, asked: &asked.path, path };
            match self.manners.access.judge(&asking, choice).await {
                Ok(grant) => with_visit(request, |visit| visit.grants.push(grant)),
                Err(denied) => {
                    with_visit(request, |visit| visit.is_denied = true);
                    let (refused, policy) = (denied.into(), Some(Arc::clone(&policy)));
                    return Err(EarlyResponse::Refused { refused, policy, varies: false });
                }
            }
        }
        Ok(())
    }

    /// Whether a path is for everybody.
    pub(super) fn is_public(&self, path: &SitePath<'_>) -> bool {
        !self.manners.has_access_rules
            || self.manners.rules.locks(path).all(|policy| policy.access().is_none())
    }

    /// Whether a path may be shown to who asks by what is known of them already.
    pub(super) fn may_show(&self, request: &HttpRequest, path: &SitePath<'_>) -> bool {
        self.may_read(request)(path)
    }

    /// What may be shown to who asks by what is known of them already.
    pub(super) fn may_read(&self, request: &HttpRequest) -> ReadPermission {
        if !self.manners.has_access_rules {
            return Arc::new(|_| true);
        }
        let visit = with_visit(request, |visit| visit.clone());
        let rules = Arc::clone(&self.manners.rules);
        Arc::new(move |path| {
            rules.locks(path).all(|policy| policy.access().is_none_or(|choice| visit.opens(choice, path)))
        })
    }

    /// Says of a response that is not for all who may keep it, and tells the log who asked.
    pub(super) fn seal(&self, request: &HttpRequest, response: &mut HttpResponse) {
        let Some(visit) = request.extensions_mut().remove::<AuthContext>() else { return };
        if visit.is_denied {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        } else if visit.is_private {
            keep_private(response);
        }
        if let Some(identity) = visit.identity() {
            response.extensions_mut().insert(identity);
        }
    }

    /// The same of a response that was made before anything was judged.
    pub(super) fn note_private(&self, request: &HttpRequest, path: &SitePath<'_>) {
        if !self.is_public(path) {
            with_visit(request, |visit| visit.is_private = true);
        }
    }
}

/// Whatever made the response, and whatever it says so far.
fn keep_private(response: &mut HttpResponse) {
    let set = response
        .headers()
        .get(header::CACHE_CONTROL)
        .map(|value| value.to_str().unwrap_or_default().to_owned());
    let says = set.or_else(|| PrerenderedResponse::header_of(response, "cache-control"));
    let value = cache_control::private(says.as_deref());
    if says.as_ref() != Some(&value)
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        response.headers_mut().insert(header::CACHE_CONTROL, value);
    }
}

fn with_visit<T>(request: &HttpRequest, look: impl FnOnce(&mut AuthContext) -> T) -> T {
    let mut extensions = request.extensions_mut();
    if !extensions.contains::<AuthContext>() {
        extensions.insert(AuthContext::default());
    }
    match extensions.get_mut::<AuthContext>() {
        Some(visit) => look(visit),
        None => look(&mut AuthContext::default()),
    }
}

impl From<AccessDenied> for HttpError {
    fn from(denied: AccessDenied) -> Self {
        match denied {
            AccessDenied::Unknown(challenge) => Self::Unauthorized(challenge),
            AccessDenied::NotAllowed(challenge) => Self::NotAllowed(challenge),
            AccessDenied::NeedsLink => Self::SignedUrlRequired,
            AccessDenied::BadLink => Self::SignedUrlInvalid,
            AccessDenied::Expired => Self::SignedUrlExpired,
            AccessDenied::TooMany(seconds) => Self::TooManyAttempts(seconds),
            AccessDenied::Busy => Self::Busy,
        }
    }
}
