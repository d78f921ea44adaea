//! Series of who may have what, and of how it is told: TLS, what is not for all, the access log.

use std::fmt;

use super::page::MetricsPage;
use crate::admin::readings::Readings;

/// TLS: nothing where it is not spoken.
pub(super) fn tls(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let Some(tls) = &now.tls else { return Ok(()) };
    page.counters(
        "pagecast_tls_handshakes",
        "TLS handshakes that have ended.",
        [([("result", "ok")], tls.handshakes), ([("result", "failed")], tls.failures)],
    )?;
    page.bounded(
        "pagecast_tls_handshakes_under_way",
        "TLS handshakes under way.",
        tls.in_progress as f64,
        tls.limit as f64,
    )?;
    page.counter(
        "pagecast_tls_certificates_refused",
        "Times that certificates were read anew and would not do.",
        tls.bad_certificates,
    )?;
    let expiries = tls.certificates.iter().enumerate().map(|(place, (name, not_after))| {
        ([("place", place.to_string()), ("name", name.clone())], *not_after as f64)
    });
    page.gauges_by(
        "pagecast_tls_certificate_not_after_seconds",
        "When a certificate expires, in seconds since 1970.",
        expiries,
    )
}

/// Links, tokens and passwords.
pub(super) fn access(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let access = &now.access;
    let [granted, refused] = [access.granted, access.denied]
        .map(|by| [("link", by.link), ("bearer", by.bearer), ("basic", by.basic)]);
    page.counters(
        "pagecast_logins_granted",
        "Times that a link, a token or a password opened what is not for all.",
        granted.map(|(way, count)| ([("way", way)], count)),
    )?;
    page.counters(
        "pagecast_logins_refused",
        "Links, tokens and passwords that did not.",
        refused.map(|(way, count)| ([("way", way)], count)),
    )?;
    page.counter(
        "pagecast_logins_missing",
        "Requests for what is not for all that showed nothing.",
        access.nothing_shown,
    )?;
    let checks = &access.checks;
    page.bounded(
        "pagecast_password_checks",
        "Passwords that are checked now.",
        checks.under_way as f64,
        checks.limit as f64,
    )?;
    page.gauge(
        "pagecast_password_checks_waiting",
        "Passwords that wait to be checked.",
        checks.waiting as f64,
    )?;
    page.counter("pagecast_password_check_waits", "Passwords that had to wait.", checks.waits)
}

/// The access log.
pub(super) fn access_log(page: &mut MetricsPage<'_>, now: &Readings) -> fmt::Result {
    let log = &now.access_log;
    page.counter("pagecast_access_log_written", "Lines of the access log that were written.", log.written)?;
    page.counter("pagecast_access_log_dropped", "Lines that found the queue full.", log.dropped)?;
    page.counter("pagecast_access_log_failed", "Lines that could not be written.", log.failed)?;
    page.bounded(
        "pagecast_access_log_queued",
        "Lines that wait to be written.",
        log.queued as f64,
        log.limit as f64,
    )
}
