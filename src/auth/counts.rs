//! Counters of granted and denied access.

use crate::telemetry::metrics::counter::Counter;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct AccessCounters {
    /// Credentials that opened a path.
    pub(crate) granted: CountersByMethod,
    /// Credentials that did not.
    pub(crate) denied: CountersByMethod,
    /// Requests for closed paths without credentials.
    pub(crate) nothing_shown: Counter,
    /// Requests of clients with too many wrong attempts.
    pub(crate) limited: Counter,
}

/// A counter per method of authentication.
#[derive(Debug, Default)]
pub(crate) struct CountersByMethod {
    /// Signed URLs.
    pub(crate) link: Counter,
    /// Bearer tokens.
    pub(crate) bearer: Counter,
    /// Names and passwords.
    pub(crate) basic: Counter,
}
