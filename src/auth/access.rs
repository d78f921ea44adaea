//! Decides who may open paths that are not public. Nothing here looks at the disk, so no answer depends on what is there.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;

pub(crate) use crate::auth::context::{AuthContext, Grant};
use crate::auth::counts::AccessCounters;
use crate::auth::password_checks::{ClientAttempts, NoCheck, PasswordChecks, VerifiedPasswords};
use crate::auth::signed_url::{SignedUrlError, check_signed_url};
use crate::config::{AccessRule, Config, CredentialFiles};
use crate::http::canned_response::{BUSY, SIGNED_URL_EXPIRED, SIGNED_URL_INVALID, SIGNED_URL_REQUIRED};
use crate::http::challenge::{BearerError, Challenge};
use crate::http::credentials::{AuthScheme, Credentials, Login, Token};
use crate::http::error::HttpError;
use crate::http::signed_url::{SignedUrlQuery, SignedUrlQueryError};
use crate::http::target::SitePath;
use crate::limits::client_limits::Limits;
use crate::sys::gcra::{Quota, RateClock};

/// Decides by the credential files who may open a path. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    files: CredentialFiles,
    /// Name of the index file: a signed URL of a directory opens it too.
    index: String,
    /// `None`: no limit on wrong attempts.
    attempts: Option<Quota>,
    verified: VerifiedPasswords,
    shared: Arc<SharedAuthState>,
}

/// State that a reload keeps: counters, and threads for password checks.
struct SharedAuthState {
    clock: RateClock,
    checks: PasswordChecks,
    counters: AccessCounters,
}

/// A request for a path that an access rule closes.
pub(crate) struct AccessRequest<'a> {
    pub(crate) request: &'a HttpRequest,
    pub(crate) limits: &'a Limits,
    /// The path that the request names.
    pub(crate) requested: &'a SitePath<'a>,
    /// The path that is to be opened.
    pub(crate) path: &'a SitePath<'a>,
}

impl Authenticator {
    /// Creates an authenticator with the credentials of `files` and the settings of `config`.
    ///
    /// # Errors
    /// If no thread for password checks can be started.
    pub fn new(config: &Config, files: &CredentialFiles) -> io::Result<Self> {
        let checks = PasswordChecks::new(config.access.password_checks.as_usize())?;
        let shared =
            SharedAuthState { clock: RateClock::default(), checks, counters: AccessCounters::default() };
        Ok(Self::with(config, files, Arc::new(shared)))
    }

    /// The same authenticator with other credentials or settings. Counts and threads are kept; every password is checked again.
    #[must_use]
    pub(crate) fn reconfigured(&self, config: &Config, files: &CredentialFiles) -> Self {
        Self::with(config, files, Arc::clone(&self.inner.shared))
    }

    fn with(config: &Config, files: &CredentialFiles, shared: Arc<SharedAuthState>) -> Self {
        for warning in &files.warnings {
            log::warn!("{warning}");
        }
        let inner = Inner {
            files: files.clone(),
            index: config.site.index.as_str().to_owned(),
            attempts: config
                .access
                .login_attempts
                .given()
                .map(|rate| Quota::per(rate.span, rate.requests(), rate.requests())),
            verified: VerifiedPasswords::new(config.access.password_cache.get()),
            shared,
        };
        Self { inner: Arc::new(inner) }
    }

    /// True if its credentials are those of `files`.
    pub(crate) fn uses(&self, files: &CredentialFiles) -> bool {
        self.inner.files == *files
    }

    /// Counters since the start.
    pub(crate) fn counters(&self) -> &AccessCounters {
        &self.inner.shared.counters
    }

    /// The checks of passwords.
    pub(crate) fn checks(&self) -> &PasswordChecks {
        &self.inner.shared.checks
    }

    /// Decides whether the credentials of the request open its path under `rule`. A signed URL and an `Authorization` header
    /// may come together: either is enough.
    ///
    /// # Errors
    /// Why the path stays closed.
    pub(crate) async fn authorize(
        &self,
        access: &AccessRequest<'_>,
        rule: &AccessRule,
    ) -> Result<Grant, HttpError> {
        let (signed_url, credentials) = self.presented(access, rule);
        if signed_url.is_none() && credentials == Credentials::None {
            self.counters().nothing_shown.add_shared(1);
            return Err(missing_credentials(rule));
        }
        let (key, address) = access.limits.requester(access.request);
        let Inner { attempts: rate, shared, .. } = &*self.inner;
        let client =
            ClientAttempts { client: access.limits.clients.get(key), rate: *rate, clock: shared.clock };
        if let Some(seconds) = client.wait() {
            self.counters().limited.add_shared(1);
            if access.limits.may_log(key) {
                log::warn!("client {key} rejected: more wrong attempts than login_attempts allows");
            }
            return Err(HttpError::TooManyAttempts(seconds));
        }
        let by_url = signed_url.map(|query| self.by_signed_url(access, query, address, &client));
        if let Some(Ok(grant)) = by_url {
            return Ok(grant);
        }
        let by_header = match credentials {
            Credentials::None => None,
            Credentials::Malformed(scheme) => Some(Err(self.malformed(scheme, rule, &client))),
            Credentials::Bearer(token) => Some(self.by_token(token, rule, &client)),
            Credentials::Basic(login) => Some(self.by_password(login, rule, &client).await),
        };
        by_header.or(by_url).unwrap_or_else(|| Err(missing_credentials(rule)))
    }

    /// The signed URL and the credentials of a request, as far as the rule accepts them.
    fn presented<'a>(
        &self,
        access: &AccessRequest<'a>,
        rule: &AccessRule,
    ) -> (Option<Result<SignedUrlQuery<'a>, SignedUrlQueryError>>, Credentials<'a>) {
        let query = access.request.uri().query().map(str::as_bytes);
        let query = query.filter(|_| rule.methods.link && self.is_own_path(access));
        let lines = access.request.headers().get_all(header::AUTHORIZATION);
        let credentials = Credentials::read(lines.map(|line| line.as_bytes()));
        let is_accepted = match &credentials {
            Credentials::None => false,
            Credentials::Bearer(_) | Credentials::Malformed(AuthScheme::Bearer) => rule.methods.bearer,
            Credentials::Basic(_) | Credentials::Malformed(AuthScheme::Basic) => rule.methods.basic,
        };
        let credentials = if is_accepted { credentials } else { Credentials::None };
        (query.and_then(SignedUrlQuery::read), credentials)
    }

    /// True if a signed URL of the requested path may open the path: they are the same, or the path is its index.
    fn is_own_path(&self, access: &AccessRequest<'_>) -> bool {
        let (requested, path) = (access.requested.as_bytes(), access.path.as_bytes());
        path == requested || path == access.requested.index(&self.inner.index).as_bytes()
    }

    /// Checks a signed URL from `address`; `None` is an address that is not certain. It counts as a wrong attempt only if it was
    /// not made with a key: a URL that has expired, or is for another client, is no guess.
    fn by_signed_url(
        &self,
        access: &AccessRequest<'_>,
        query: Result<SignedUrlQuery<'_>, SignedUrlQueryError>,
        address: Option<IpAddr>,
        client: &ClientAttempts,
    ) -> Result<Grant, HttpError> {
        let Inner { files, index, .. } = &*self.inner;
        let (method, requested) = (access.request.method(), access.requested);
        if let Err(error) = check_signed_url(query, &files.link_keys, method, requested, address) {
            log::debug!("signed URL for /{requested} rejected: {error}");
            if error.is_guess() {
                client.count_wrong();
            }
            self.counters().denied.link.add_shared(1);
            return Err(match error {
                SignedUrlError::Expired => HttpError::Fixed(&SIGNED_URL_EXPIRED),
                _ => HttpError::Fixed(&SIGNED_URL_INVALID),
            });
        }
        self.counters().granted.link.add_shared(1);
        let requested = requested.clone().into_owned();
        let index = requested.index(index);
        Ok(Grant::SignedUrl { paths: [requested, index] })
    }

    fn by_token(
        &self,
        token: Token<'_>,
        rule: &AccessRule,
        client: &ClientAttempts,
    ) -> Result<Grant, HttpError> {
        let Some(name) = self.inner.files.tokens.owner(token.0) else {
            return Err(self.malformed(AuthScheme::Bearer, rule, client));
        };
        if !rule.admits(&name) {
            self.counters().denied.bearer.add_shared(1);
            let bearer = Some(BearerError::InsufficientScope);
            return Err(HttpError::NotAllowed(Challenge { basic: false, bearer }));
        }
        self.counters().granted.bearer.add_shared(1);
        Ok(Grant::Bearer(name))
    }

    async fn by_password(
        &self,
        login: Login,
        rule: &AccessRule,
        client: &ClientAttempts,
    ) -> Result<Grant, HttpError> {
        let Inner { verified, files, .. } = &*self.inner;
        let denied = match verified.name_of(login, &files.passwords, self.checks(), client).await {
            Ok(name) if rule.admits(&name) => {
                self.counters().granted.basic.add_shared(1);
                return Ok(Grant::Basic(name));
            }
            Ok(_) => HttpError::NotAllowed(Challenge::default()),
            Err(NoCheck::Wrong) => HttpError::Unauthorized(challenge(rule, BearerError::None)),
            Err(NoCheck::NotAllowed) => {
                self.counters().limited.add_shared(1);
                return Err(HttpError::TooManyAttempts(client.wait().unwrap_or(1)));
            }
            Err(NoCheck::Busy) => return Err(HttpError::Fixed(&BUSY)),
        };
        self.counters().denied.basic.add_shared(1);
        Err(denied)
    }

    /// Counts credentials that are malformed, or a token that is unknown.
    fn malformed(&self, scheme: AuthScheme, rule: &AccessRule, client: &ClientAttempts) -> HttpError {
        client.count_wrong();
        let denied = &self.counters().denied;
        let (counter, error) = match scheme {
            AuthScheme::Bearer => (&denied.bearer, BearerError::InvalidToken),
            AuthScheme::Basic => (&denied.basic, BearerError::None),
        };
        counter.add_shared(1);
        HttpError::Unauthorized(challenge(rule, error))
    }
}

fn missing_credentials(rule: &AccessRule) -> HttpError {
    match rule.methods.bearer || rule.methods.basic {
        true => HttpError::Unauthorized(challenge(rule, BearerError::None)),
        false => HttpError::Fixed(&SIGNED_URL_REQUIRED),
    }
}

fn challenge(rule: &AccessRule, error: BearerError) -> Challenge {
    Challenge { basic: rule.methods.basic, bearer: rule.methods.bearer.then_some(error) }
}
