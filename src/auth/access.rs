//! Who may have what is not for all.
//!
//! | room        | what it knows                                                           |
//! |-------------|-------------------------------------------------------------------------|
//! | `attempts`  | how often a client may be wrong                                         |
//! | `checks`    | passwords: how many are checked at once, and which were right lately    |
//! | `counts`    | what was granted and denied                                             |
//! | `link`      | whether a signed link holds                                             |
//! | `sign`      | `pagecast sign`                                                         |
//! | `visit`     | what is known of who makes a request                                    |
//!
//! Nothing here looks at the disk, so that no answer depends on what is there.

use std::io;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;

pub(crate) use crate::auth::context::{AuthContext, Grant};
use crate::auth::counts::AuthCounters;
pub use crate::auth::counts::{AccessCounts, CountByMethod};
pub use crate::auth::password_checks::CheckCounts;
use crate::auth::password_checks::{NoCheck, PasswordChecks, VerifiedPasswords};
pub use crate::cli::sign::sign;
use crate::config::{AccessRule, Config, CredentialFiles};
use crate::http::challenge::{BearerError, Challenge};
use crate::http::credentials::{AuthScheme, Credentials, Login, Token};
use crate::http::signed_url::SignedUrlQuery;
use crate::http::target::SitePath;
use crate::limits::attempts::AttemptRate;
use crate::limits::client_limits::Limits;
use crate::limits::clients::ClientState;
use crate::sys::gcra::RateClock;

/// Judges who asks by what the files of secrets say. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Authenticator {
    pub(super) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(super) files: CredentialFiles,
    /// The name that stands for a directory: a link to the directory opens it too.
    pub(super) index: String,
    /// None: a client may be wrong as often as it likes.
    pub(super) attempts: Option<AttemptRate>,
    /// Passwords that were right.
    pub(super) known: VerifiedPasswords,
    pub(super) shared: Arc<SharedAuthState>,
}

/// What outlives a reload.
pub(crate) struct SharedAuthState {
    pub(super) clock: RateClock,
    pub(super) checks: PasswordChecks,
    pub(super) tallies: AuthCounters,
}

/// Why a path stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessDenied {
    /// Nobody knows who asks.
    Unknown(Challenge),
    /// It is known who asks, and it is not for them.
    NotAllowed(Challenge),
    /// It takes a signed link, and there is none.
    NeedsLink,
    /// The link that is there opens nothing here.
    BadLink,
    /// The link was good until a moment that has passed.
    Expired,
    /// The client was wrong too often: seconds until it may try again.
    TooMany(u64),
    /// There is no room to check passwords.
    Busy,
}

/// A request as it is judged.
pub(crate) struct AccessRequest<'a> {
    pub(crate) request: &'a HttpRequest,
    pub(crate) guard: &'a Limits,
    /// The path that the request names.
    pub(crate) asked: &'a SitePath<'a>,
    /// The path that is to be opened.
    pub(crate) path: &'a SitePath<'a>,
}

/// What a request shows that a choice asks for.
struct PresentedCredentials<'a> {
    link: Option<Result<SignedUrlQuery<'a>, crate::http::signed_url::SignedUrlQueryError>>,
    credentials: Credentials<'a>,
}

impl Authenticator {
    /// Judges by `files`, as `config` says.
    ///
    /// # Errors
    /// Where no thread can be had for passwords.
    pub fn new(config: &Config, files: &CredentialFiles) -> io::Result<Self> {
        let checks = PasswordChecks::new(config.access.password_checks.as_usize())?;
        let shared = SharedAuthState { clock: RateClock::new(), checks, tallies: AuthCounters::default() };
        Ok(Self::with(config, files, Arc::new(shared)))
    }

    /// The same by other files or settings. Counts and threads go on; no password is known any more.
    #[must_use]
    pub(crate) fn changed(&self, config: &Config, files: &CredentialFiles) -> Self {
        Self::with(config, files, Arc::clone(&self.inner.shared))
    }

    fn with(config: &Config, files: &CredentialFiles, shared: Arc<SharedAuthState>) -> Self {
        for warning in &files.warnings {
            log::warn!("{warning}");
        }
        let inner = Inner {
            files: files.clone(),
            index: config.site.index.as_str().to_owned(),
            attempts: config.access.login_attempts.given().map(|rate| AttemptRate::new(*rate)),
            known: VerifiedPasswords::new(config.access.password_cache.get()),
            shared,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether these are the files that it judges by.
    pub(crate) fn is_by(&self, files: &CredentialFiles) -> bool {
        self.inner.files == *files
    }

    /// What was counted since the start.
    pub(crate) fn counts(&self) -> AccessCounts {
        let SharedAuthState { checks, tallies, .. } = &*self.inner.shared;
        tallies.counts(checks.counts())
    }

    /// What the request shows that opens its path under `choice`.
    ///
    /// # Errors
    /// Why it stays closed.
    pub(crate) async fn judge(
        &self,
        asking: &AccessRequest<'_>,
        choice: &AccessRule,
    ) -> Result<Grant, AccessDenied> {
        let showing = self.showing(asking, choice);
        let tallies = &self.inner.shared.tallies;
        if showing.is_nothing() {
            tallies.nothing_shown();
            return Err(nothing_shown(choice));
        }
        let (key, address) = asking.guard.requester(asking.request);
        let client = asking.guard.client(key);
        if let Some(seconds) = self.is_limited(&client) {
            tallies.limited();
            if asking.guard.may_log(key) {
                log::warn!("client {key} is refused: it was wrong more often than login_attempts");
            }
            return Err(AccessDenied::TooMany(seconds));
        }
        let by_link = showing.link.map(|shown| self.by_link(asking, shown, address, &client));
        if let Some(Ok(grant)) = by_link {
            return Ok(grant);
        }
        let by_name = match showing.credentials {
            Credentials::None => None,
            Credentials::Malformed(scheme) => Some(Err(self.malformed(scheme, choice, &client))),
            Credentials::Bearer(token) => Some(self.by_token(token, choice, &client)),
            Credentials::Basic(login) => Some(self.by_password(login, choice, &client).await),
        };
        by_name.or(by_link).unwrap_or_else(|| Err(nothing_shown(choice)))
    }

    fn showing<'a>(&self, asking: &AccessRequest<'a>, choice: &AccessRule) -> PresentedCredentials<'a> {
        let query = asking.request.uri().query().map(str::as_bytes);
        let link = query.filter(|_| choice.ways.link && self.is_for(asking)).and_then(SignedUrlQuery::read);
        let lines = asking.request.headers().get_all(header::AUTHORIZATION);
        let credentials = Credentials::read(lines.map(|line| line.as_bytes()));
        let is_wanted = match &credentials {
            Credentials::None => false,
            Credentials::Bearer(_) | Credentials::Malformed(AuthScheme::Bearer) => choice.ways.bearer,
            Credentials::Basic(_) | Credentials::Malformed(AuthScheme::Basic) => choice.ways.basic,
        };
        PresentedCredentials { link, credentials: if is_wanted { credentials } else { Credentials::None } }
    }

    /// Whether a link to what is asked for is one to what is to be opened: the same, or the index that stands for it.
    fn is_for(&self, asking: &AccessRequest<'_>) -> bool {
        let (asked, path) = (asking.asked.as_bytes(), asking.path.as_bytes());
        path == asked || path == asking.asked.index(&self.inner.index).as_bytes()
    }

    fn by_token(
        &self,
        token: Token<'_>,
        choice: &AccessRule,
        client: &ClientState,
    ) -> Result<Grant, AccessDenied> {
        let tallies = &self.inner.shared.tallies;
        let Some(name) = self.inner.files.tokens.owner(token.0) else {
            self.note_wrong(client);
            tallies.denied().bearer();
            let challenge = challenge(choice, BearerError::InvalidToken);
            return Err(AccessDenied::Unknown(challenge));
        };
        if !choice.admits(&name) {
            tallies.denied().bearer();
            let bearer = Some(BearerError::InsufficientScope);
            return Err(AccessDenied::NotAllowed(Challenge { basic: false, bearer }));
        }
        tallies.granted().bearer();
        Ok(Grant::Bearer(name))
    }

    async fn by_password(
        &self,
        login: Login,
        choice: &AccessRule,
        client: &Arc<ClientState>,
    ) -> Result<Grant, AccessDenied> {
        let Inner { shared, known, files, .. } = &*self.inner;
        let this = self.clone();
        let for_client = Arc::clone(client);
        let attempt = super::password_checks::CheckAttempt {
            is_still_allowed: {
                let (this, client) = (self.clone(), Arc::clone(client));
                Box::new(move || this.is_limited(&client).is_none())
            },
            note_wrong: Box::new(move || this.note_wrong(&for_client)),
        };
        let denied = match known.name_of(login, &files.passwords, &shared.checks, attempt).await {
            Ok(name) if choice.admits(&name) => {
                shared.tallies.granted().basic();
                return Ok(Grant::Basic(name));
            }
            Ok(_) => AccessDenied::NotAllowed(Challenge::default()),
            Err(NoCheck::Wrong) => AccessDenied::Unknown(challenge(choice, BearerError::None)),
            Err(NoCheck::NotAllowed) => {
                shared.tallies.limited();
                return Err(AccessDenied::TooMany(self.is_limited(client).unwrap_or(1)));
            }
            Err(NoCheck::Busy) => return Err(AccessDenied::Busy),
        };
        shared.tallies.denied().basic();
        Err(denied)
    }

    fn malformed(&self, scheme: AuthScheme, choice: &AccessRule, client: &ClientState) -> AccessDenied {
        self.note_wrong(client);
        let denied = self.inner.shared.tallies.denied();
        match scheme {
            AuthScheme::Bearer => {
                denied.bearer();
                AccessDenied::Unknown(challenge(choice, BearerError::InvalidToken))
            }
            AuthScheme::Basic => {
                denied.basic();
                AccessDenied::Unknown(challenge(choice, BearerError::None))
            }
        }
    }

    /// For how many seconds more a client may not try; none where it may.
    fn is_limited(&self, client: &ClientState) -> Option<u64> {
        self.inner.attempts?;
        client.attempts.wait(self.inner.shared.clock.now())
    }

    pub(crate) fn note_wrong(&self, client: &ClientState) {
        if let Some(rate) = self.inner.attempts {
            client.attempts.count_wrong(rate, self.inner.shared.clock.now());
        }
    }
}

impl PresentedCredentials<'_> {
    fn is_nothing(&self) -> bool {
        self.link.is_none() && self.credentials == Credentials::None
    }
}

fn nothing_shown(choice: &AccessRule) -> AccessDenied {
    match choice.ways.bearer || choice.ways.basic {
        true => AccessDenied::Unknown(challenge(choice, BearerError::None)),
        false => AccessDenied::NeedsLink,
    }
}

fn challenge(choice: &AccessRule, error: BearerError) -> Challenge {
    Challenge { basic: choice.ways.basic, bearer: choice.ways.bearer.then_some(error) }
}
