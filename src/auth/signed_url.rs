//! Checks signed URLs.

use std::fmt;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::Method;

use crate::http::credential_files::signing_keys::SigningKeys;
use crate::http::method::ReadMethod;
use crate::http::signed_url::{SignedUrlQuery, SignedUrlQueryError};
use crate::http::target::SitePath;

/// Why a signed URL opens nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum SignedUrlError {
    Malformed(SignedUrlQueryError),
    UnknownKey,
    Signature,
    Expired,
    Client,
}

/// Checks the signed URL of `path` that a client at `address` presents; `None` is an address that is not certain.
pub(super) fn check_signed_url(
    query: Result<SignedUrlQuery<'_>, SignedUrlQueryError>,
    keys: &SigningKeys,
    method: &Method,
    path: &SitePath<'_>,
    address: Option<IpAddr>,
) -> Result<(), SignedUrlError> {
    let query = query.map_err(SignedUrlError::Malformed)?;
    let key = keys.get(&query.terms.key).ok_or(SignedUrlError::UnknownKey)?;
    let methods: &[ReadMethod] = match *method {
        Method::GET => &[ReadMethod::Get],
        Method::HEAD => &[ReadMethod::Get, ReadMethod::Head],
        _ => &[],
    };
    if !methods.iter().any(|method| query.is_signed_by(key.reveal(), *method, path.as_bytes())) {
        return Err(SignedUrlError::Signature);
    }
    if query.terms.expires <= now() {
        return Err(SignedUrlError::Expired);
    }
    if query.terms.allow(address) { Ok(()) } else { Err(SignedUrlError::Client) }
}

impl SignedUrlError {
    /// True if the URL may have been made without a key.
    pub(super) fn is_guess(self) -> bool {
        match self {
            Self::Malformed(why) => why != SignedUrlQueryError::OptionNotAllowed,
            Self::UnknownKey | Self::Signature => true,
            Self::Expired | Self::Client => false,
        }
    }
}

impl fmt::Display for SignedUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(why) => why.name(),
            Self::UnknownKey => "unknown key",
            Self::Signature => "wrong signature",
            Self::Expired => "it has expired",
            Self::Client => "it is for other clients, or the client's address is not certain",
        })
    }
}

/// Returns the seconds since 1970 by the wall clock, which the signer used too.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
