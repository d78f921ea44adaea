//! Former names of log targets, which filters can still contain for a release.

use crate::config::LogFilter;

/// Targets as they were named before the modules were moved, without `pagecast::`, and their current names.
/// A target below one of them keeps its last part.
const FORMER_TARGETS: &[(&str, &[&str])] = &[
    ("accept", &["server::accept"]),
    ("access_log", &["telemetry::access_log"]),
    ("access_log::losses", &["telemetry::access_log::counters"]),
    ("archive", &["site::archive"]),
    ("client_places", &["limits"]),
    ("decode", &["sys::decompress"]),
    ("directories", &["site::directory_jobs"]),
    ("encode", &["sys::compress"]),
    ("error", &["site::error"]),
    ("event_loop", &["sys::event_loop"]),
    ("fair", &["sys::fair_queue"]),
    ("files::background", &["files::background", "files::content"]),
    ("files::cache", &["files::cache", "files::root_monitor"]),
    ("files::cache::forming", &["files::background"]),
    ("files::disk", &["sys::blocking_pool"]),
    ("files::resident", &["files::residency"]),
    ("files::watch", &["files::inotify"]),
    ("guard", &["limits", "auth", "site::https_policy"]),
    ("guard::access", &["auth"]),
    ("guard::access::attempts", &["limits::attempts"]),
    ("guard::access::link", &["auth::access", "auth::signed_url"]),
    ("guard::bandwidth", &["limits"]),
    ("guard::connections", &["limits::connections"]),
    ("guard::gate", &["site::https_policy"]),
    ("handover", &["lifecycle::handover"]),
    ("kernel", &["sys::kernel"]),
    ("ledger", &["telemetry::metrics"]),
    ("listen", &["net::listener"]),
    ("listing", &["site::listing"]),
    ("ops", &["admin", "telemetry::logger", "sys::service_manager"]),
    ("ops::admin", &["admin::listener"]),
    ("ops::entry", &["admin::authorize"]),
    ("ops::logger", &["telemetry::logger"]),
    ("ops::operators", &["admin::actions"]),
    ("ops::service", &["sys::service_manager"]),
    ("ops::warm", &["admin::warm"]),
    ("produced", &["site::streamed_body"]),
    ("reload", &["lifecycle::reload"]),
    ("reply", &["site::reply"]),
    ("rules", &["files::policy"]),
    ("serve", &["site"]),
    ("serve::pages", &["site::error_pages"]),
    ("serve::place", &["site::resolver"]),
    ("temporary", &["sys::temp_file"]),
    ("tls", &["net::tls"]),
    ("tree", &["cli"]),
    ("unguessable", &["sys::random"]),
    ("warmth", &["lifecycle::warmup"]),
    ("warmth::client", &["cli::warm"]),
    ("warmth::memory", &["lifecycle::warmup::restore"]),
    ("warmth::state", &["lifecycle::warmup::state_dir"]),
    ("wire", &["net"]),
    ("wire::cuts", &["net::abort"]),
];

const CRATE: &str = "pagecast::";

/// The filter for `env_logger`, with the current names of former targets.
pub(super) fn env_filter(filter: &LogFilter) -> String {
    let filter = filter.as_str();
    let (directives, pattern) = filter.split_at(filter.find('/').unwrap_or(filter.len()));
    let current: Vec<String> = directives.split(',').flat_map(current_directives).collect();
    current.join(",") + pattern
}

/// The former targets that the filter contains, each with its current names. `None` if there are none.
pub(super) fn renamed_targets(filter: &LogFilter) -> Option<String> {
    let directives = filter.as_str().split('/').next().unwrap_or_default().split(',');
    let targets = directives.map(|directive| directive.split('=').next().unwrap_or_default().trim());
    let renamed: Vec<String> = targets
        .map(|target| (target, current_targets(target).join(" and ")))
        .filter(|(_, current)| !current.is_empty())
        .map(|(target, current)| format!("{target} is now {current}"))
        .collect();
    (!renamed.is_empty()).then(|| renamed.join(", "))
}

fn current_directives(directive: &str) -> Vec<String> {
    let (target, level) = directive.split_once('=').unwrap_or((directive, ""));
    let names = current_targets(target.trim());
    match level.trim() {
        _ if names.is_empty() => vec![directive.trim().to_owned()],
        "" => names,
        level => names.iter().map(|name| format!("{name}={level}")).collect(),
    }
}

/// The current names of a former target, with `pagecast::`. Empty if the target was not renamed.
fn current_targets(target: &str) -> Vec<String> {
    let Some(path) = target.strip_prefix(CRATE) else { return Vec::new() };
    let rest_below = |former: &str| {
        let rest = path.strip_prefix(former)?;
        (rest.is_empty() || rest.starts_with("::")).then_some(rest)
    };
    let found = FORMER_TARGETS.iter().filter_map(|(former, current)| Some((rest_below(former)?, current)));
    let Some((rest, current)) = found.min_by_key(|(rest, _)| rest.len()) else { return Vec::new() };
    current.iter().map(|name| format!("{CRATE}{name}{rest}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_targets_are_translated() {
        for (text, translated, renamed) in [
            ("info,pagecast::files=debug/open", "info,pagecast::files=debug/open", None),
            (
                "info, pagecast::wire=debug/a",
                "info,pagecast::net=debug/a",
                Some("pagecast::wire is now pagecast::net"),
            ),
            (
                "pagecast::guard = trace,pagecast::tls",
                "pagecast::limits=trace,pagecast::auth=trace,pagecast::site::https_policy=trace,pagecast::net::tls",
                Some(
                    "pagecast::guard is now pagecast::limits and pagecast::auth and pagecast::site::https_policy, \
                     pagecast::tls is now pagecast::net::tls",
                ),
            ),
        ] {
            let filter: LogFilter = text.parse().expect(text);
            assert_eq!(env_filter(&filter), translated);
            assert_eq!(renamed_targets(&filter).as_deref(), renamed);
            assert_eq!(filter.to_string(), text);
        }
    }

    #[test]
    fn former_targets_have_current_names() {
        for (former, current) in [
            ("wire", &["net"][..]),
            ("wire::http2::stream", &["net::http2::stream"]),
            ("wire::cuts", &["net::abort"]),
            ("guard", &["limits", "auth", "site::https_policy"]),
            ("guard::access", &["auth"]),
            ("guard::access::link", &["auth::access", "auth::signed_url"]),
            ("files::cache", &["files::cache", "files::root_monitor"]),
            ("files::background", &["files::background", "files::content"]),
            ("ops::service", &["sys::service_manager"]),
            ("reload", &["lifecycle::reload"]),
            ("files", &[]),
            ("net::http1", &[]),
            ("wired", &[]),
        ] {
            let expected: Vec<String> = current.iter().map(|name| format!("pagecast::{name}")).collect();
            assert_eq!(current_targets(&format!("pagecast::{former}")), expected, "{former}");
        }
        assert_eq!(current_targets("wire"), Vec::<String>::new());
    }

    #[test]
    fn every_current_name_is_a_module() {
        for name in FORMER_TARGETS.iter().flat_map(|(_, current)| current.iter()) {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/").to_owned() + &name.replace("::", "/");
            let is_module =
                std::path::Path::new(&path).is_dir() || std::path::Path::new(&format!("{path}.rs")).is_file();
            assert!(is_module, "{name}");
        }
    }
}
