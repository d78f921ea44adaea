//! Counts of granted and denied access.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::auth::password_checks::CheckCounts;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// Credentials that opened a path.
    pub granted: CountByMethod,
    /// Credentials that did not.
    pub denied: CountByMethod,
    /// Requests for closed paths without credentials.
    pub nothing_shown: u64,
    /// Requests of clients with too many wrong attempts.
    pub limited: u64,
    /// Password checks.
    pub checks: CheckCounts,
}

/// A count per method of authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountByMethod {
    /// Signed URLs.
    pub link: u64,
    /// Bearer tokens.
    pub bearer: u64,
    /// Names and passwords.
    pub basic: u64,
}

#[derive(Debug, Default)]
pub(super) struct AuthCounters {
    granted: MethodCounters,
    denied: MethodCounters,
    nothing_shown: AtomicU64,
    limited: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct MethodCounters {
    link: AtomicU64,
    bearer: AtomicU64,
    basic: AtomicU64,
}

impl AuthCounters {
    pub(super) fn granted(&self) -> &MethodCounters {
        &self.granted
    }

    pub(super) fn denied(&self) -> &MethodCounters {
        &self.denied
    }

    pub(super) fn nothing_shown(&self) {
        one_more(&self.nothing_shown);
    }

    pub(super) fn limited(&self) {
        one_more(&self.limited);
    }

    pub(super) fn counts(&self, checks: CheckCounts) -> AccessCounts {
        AccessCounts {
            granted: self.granted.get(),
            denied: self.denied.get(),
            nothing_shown: self.nothing_shown.load(Ordering::Relaxed),
            limited: self.limited.load(Ordering::Relaxed),
            checks,
        }
    }
}

impl MethodCounters {
    pub(super) fn link(&self) {
        one_more(&self.link);
    }

    pub(super) fn bearer(&self) {
        one_more(&self.bearer);
    }

    pub(super) fn basic(&self) {
        one_more(&self.basic);
    }

    fn get(&self) -> CountByMethod {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CountByMethod { link: read(&self.link), bearer: read(&self.bearer), basic: read(&self.basic) }
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
