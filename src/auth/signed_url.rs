//! Whether a signed link holds.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::Method;

use super::access::{AccessDenied, AccessRequest, Authenticator, Grant};
use crate::http::signed_url::{SignedMethod, SignedUrlQuery, SignedUrlQueryError};
use crate::limits::clients::ClientState;

impl Authenticator {
    /// What a link opens that was shown from `address`; none is an address that nobody is sure of. Only who can't have made it with a
    /// key has been wrong: a link that was good once, or is for another place, is no guess.
    pub(crate) fn by_link(
        &self,
        asking: &AccessRequest<'_>,
        shown: Result<SignedUrlQuery<'_>, SignedUrlQueryError>,
        address: Option<IpAddr>,
        client: &ClientState,
    ) -> Result<Grant, AccessDenied> {
        let tallies = &self.inner.shared.tallies;
        let outcome = self.check(asking, shown, address).inspect_err(|fault| {
            log::debug!("a link for /{}: {}", asking.asked, fault.words());
            if fault.is_guess() {
                self.note_wrong(client);
            }
        });
        match outcome {
            Ok(()) => {
                tallies.granted().link();
                let asked = asking.asked.clone().into_owned();
                let index = asked.index(&self.inner.index);
                Ok(Grant::Link { paths: [asked, index] })
            }
            Err(fault) => {
                tallies.denied().link();
                Err(if matches!(fault, SignedUrlError::Expired) {
                    AccessDenied::Expired
                } else {
                    AccessDenied::BadLink
                })
            }
        }
    }

    fn check(
        &self,
        asking: &AccessRequest<'_>,
        shown: Result<SignedUrlQuery<'_>, SignedUrlQueryError>,
        address: Option<IpAddr>,
    ) -> Result<(), SignedUrlError> {
        let shown = shown.map_err(SignedUrlError::Malformed)?;
        let key = self.inner.files.link_keys.get(&shown.terms.key).ok_or(SignedUrlError::UnknownKey)?;
        let methods: &[SignedMethod] = match *asking.request.method() {
            Method::GET => &[SignedMethod::Get],
            Method::HEAD => &[SignedMethod::Get, SignedMethod::Head],
            _ => &[],
        };
        let path = asking.asked.as_bytes();
        if !methods.iter().any(|method| shown.is_signed_by(key.reveal(), *method, path)) {
            return Err(SignedUrlError::Signature);
        }
        if shown.terms.expires <= now() {
            return Err(SignedUrlError::Expired);
        }
        if shown.terms.allow(address) { Ok(()) } else { Err(SignedUrlError::Client) }
    }
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug)]
enum SignedUrlError {
    Malformed(SignedUrlQueryError),
    UnknownKey,
    Signature,
    Expired,
    Client,
}

impl SignedUrlError {
    fn is_guess(self) -> bool {
        match self {
            Self::Malformed(why) => why != SignedUrlQueryError::OptionNotAllowed,
            Self::UnknownKey | Self::Signature => true,
            Self::Expired | Self::Client => false,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Malformed(SignedUrlQueryError::Twice) => "a parameter is there twice",
            Self::Malformed(SignedUrlQueryError::Incomplete) => "expires or key is missing",
            Self::Malformed(SignedUrlQueryError::Expires) => "expires is no number of seconds",
            Self::Malformed(SignedUrlQueryError::Client) => "client is no network",
            Self::Malformed(SignedUrlQueryError::Signature) => "sig is no signature",
            Self::Malformed(SignedUrlQueryError::OptionNotAllowed) => "it asks for what no link is for",
            Self::UnknownKey => "there is no such key",
            Self::Signature => "the signature is another one",
            Self::Expired => "it has expired",
            Self::Client => "it is for other clients, or nobody is sure who asks",
        }
    }
}

/// Seconds since 1970 on the wall clock, which is the clock of whoever signs.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
