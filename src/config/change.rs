//! What becomes of a configuration that is read again while the server runs.

use super::error::shortened;
use crate::config::settings_table::{Config, KNOBS, Setting};

/// A new configuration beside the one in effect.
#[derive(Debug)]
pub(crate) struct ConfigChange {
    /// What is in effect from now on: the new one, but for what needs a restart.
    pub(crate) config: Config,
    /// Knobs that have another value now.
    pub(crate) applied: Vec<&'static Setting>,
    /// Knobs of which another value was read than is in effect until the next start.
    pub(crate) postponed: Vec<&'static Setting>,
    /// Whether the `[[rule]]` tables are others.
    pub(crate) has_new_rules: bool,
}

impl ConfigChange {
    /// What `new` changes of `old`.
    pub(crate) fn between(old: &Config, new: Config) -> Self {
        let is_other = |knob: &&Setting| !knob.is_same(old, &new);
        let (applied, postponed): (Vec<_>, Vec<_>) =
            KNOBS.iter().filter(is_other).partition(|knob| is_live(knob.key));
        let has_new_rules = old.rules != new.rules;
        let mut config = new;
        for knob in &postponed {
            knob.copy(&mut config, old);
        }
        Self { config, applied, postponed, has_new_rules }
    }

    /// What has changed, in words: `head_timeout = 5s (was 10s), rules`. Empty where nothing has.
    pub(crate) fn describe(&self, old: &Config) -> String {
        let knobs = self.applied.iter().map(|knob| {
            let (is, was) = (knob.value(&self.config), knob.value(old));
            format!("{} = {} (was {})", knob.key, shortened(&is), shortened(&was))
        });
        let rules = self.has_new_rules.then(|| "rules".to_owned());
        knobs.chain(rules).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a change of the knob takes effect without a restart.
pub(crate) fn is_live(key: &str) -> bool {
    LIVE.contains(&key)
}

/// Knobs that change under way. All others stand for sockets, threads, or tables that were made at start to their measure.
const LIVE: &[&str] = &[
    "index",
    "dotfiles",
    "trailing_slash",
    "listing",
    "listing_entries",
    "archive",
    "archive_entries",
    "archive_bytes",
    "archive_depth",
    "compress",
    "compress_from",
    "compress_to",
    "etag",
    "verify",
    "digest_wait",
    "cors_origins",
    "cors_max_age",
    "cross_origin_resource_policy",
    "content_security_policy",
    "strict_transport_security",
    "referrer_policy",
    "https_redirect",
    "https_hosts",
    "query_filter",
    "max_connections",
    "head_timeout",
    "idle_timeout",
    "stall_timeout",
    "linger_timeout",
    "min_rate",
    "min_rate_after",
    "trusted_proxies",
    "client_field",
    "client_v4_prefix",
    "client_v6_prefix",
    "unlimited_clients",
    "client_requests",
    "client_requests_burst",
    "total_requests",
    "total_requests_burst",
    "client_requests_at_once",
    "client_connections",
    "rate_client",
    "rate_client_burst",
    "rate_connection",
    "rate_total",
    "head_bytes",
    "head_fields",
    "body_bytes",
    "handle_wait",
    "handle_idle",
    "handle_max_age",
    "heap_file_bytes",
    "revalidate_after",
    "revalidate_watched_after",
    "disk_timeout",
    "turn_bytes",
    "long_rate",
    "sendfile_from",
    "drain_delay",
    "shutdown_timeout",
    "log",
    "link_keys_file",
    "passwords_file",
    "tokens_file",
    "login_attempts",
    "password_cache",
    "tls_cert",
    "tls_key",
    "tls_handshake_timeout",
    "http2_streams",
    "http2_resets",
    "log_format",
    "access_log",
    "access_log_format",
    "access_log_sample",
    "access_log_slow",
    "request_ids",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, DurationSetting, ListenList, Toggle};

    /// What is made at start to its measure.
    const NEEDS_A_RESTART: &[&str] = &[
        "root",
        "symlinks",
        "directories_at_once",
        "background_threads",
        "digests",
        "listen",
        "admin_listen",
        "defer_accept",
        "workers",
        "proxy_protocol",
        "clients",
        "handles",
        "cache_bytes",
        "heap_bytes",
        "names",
        "watch",
        "watches",
        "disk_threads",
        "populate_threads",
        "upgrade_socket",
        "upgrade_from",
        "state_dir",
        "warm_files",
        "warm_timeout",
        "password_checks",
        "admin_token",
        "tls_listen",
        "tls_min_version",
        "tls_handshakes",
        "http2",
        "access_log_queue",
    ];

    #[test]
    fn every_knob_is_live_or_needs_a_restart_and_nothing_else_is() {
        for knob in KNOBS {
            let is_restarted = NEEDS_A_RESTART.contains(&knob.key);
            assert!(is_live(knob.key) != is_restarted, "{} is in one of the two lists", knob.key);
        }
        for key in LIVE.iter().chain(NEEDS_A_RESTART) {
            assert!(Setting::by_key(key).is_some(), "{key}");
        }
        assert_eq!(LIVE.len() + NEEDS_A_RESTART.len(), KNOBS.len());
    }

    #[test]
    fn what_is_live_is_taken_over_and_what_needs_a_restart_stays() {
        let old = Config::default();
        let new = Config {
            head_timeout: DurationSetting::seconds(5),
            listen: Toggle::Given(ListenList::one(Address::Tcp(([127, 0, 0, 1], 1).into()))),
            ..Config::default()
        };
        let change = ConfigChange::between(&old, new);
        let keys = |knobs: &[&Setting]| knobs.iter().map(|knob| knob.key).collect::<Vec<_>>();
        assert_eq!(keys(&change.applied), ["head_timeout"]);
        assert_eq!(keys(&change.postponed), ["listen"]);
        assert!(!change.has_new_rules);
        let expected = Config { head_timeout: DurationSetting::seconds(5), ..Config::default() };
        assert_eq!(change.config, expected);
        assert_eq!(change.describe(&old), "head_timeout = 5s (was 10s)");
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let change = ConfigChange::between(&Config::default(), Config::default());
        assert!(change.applied.is_empty() && change.postponed.is_empty());
        assert_eq!(change.describe(&Config::default()), "");
    }
}
