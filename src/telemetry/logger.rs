//! The diagnostics log: `env_logger` with a filter that a reload can change, as text or as JSON.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use env_logger::Builder;
use jiff::Timestamp;
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::{Config, LogFilter, LogFormat};
use crate::telemetry::access_log::escape;

/// Starts logging to standard error as `config` describes, panics included. Further servers in one process use the logger of
/// the first.
pub(crate) fn start(config: &Config) {
    let logger = LOGGER.get_or_init(|| Logger { current: ArcSwap::from_pointee(build(config)) });
    // A program that embeds the server may have its own logger.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.current.load().filter());
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// Changes filter and format to those of `config`.
pub(crate) fn change(config: &Config) {
    let Some(logger) = LOGGER.get() else { return };
    let next = build(config);
    log::set_max_level(next.filter());
    logger.current.store(Arc::new(next));
}

/// True if both have the same filter and format.
pub(crate) fn is_same(one: &Config, other: &Config) -> bool {
    let settings_of = |config: &Config| -> (LogFilter, LogFormat) {
        (config.logging.log.clone(), config.logging.log_format)
    };
    settings_of(one) == settings_of(other)
}

struct Logger {
    current: ArcSwap<env_logger::Logger>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.current.load().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.current.load().log(record);
    }

    fn flush(&self) {
        self.current.load().flush();
    }
}

fn build(config: &Config) -> env_logger::Logger {
    let mut builder = Builder::new();
    // Libraries log their threads and every frame. A filter that names them overrides this.
    builder.filter_module("actix_server", LevelFilter::Warn).filter_module("h2", LevelFilter::Warn);
    builder.parse_filters(&with_new_targets(config.logging.log.as_str()));
    if config.logging.log_format == LogFormat::Json {
        builder.format(|line, record| write_json(line, record, Timestamp::now()));
    }
    builder.build()
}

/// Adds the present targets to a filter that names former ones, in front, so that a filter may still override them.
fn with_new_targets(filter: &str) -> String {
    let (directives, pattern) = filter.split_at(filter.find('/').unwrap_or(filter.len()));
    let mut all: Vec<String> = Vec::new();
    for directive in directives.split(',').map(str::trim) {
        let path = directive.strip_prefix("pagecast::").unwrap_or_default();
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with("::") || rest.starts_with('=');
        for (former, targets) in FORMER_TARGETS {
            if let Some(rest) = path.strip_prefix(former).filter(|rest| is_below(rest)) {
                all.extend(targets.iter().map(|target| format!("pagecast::{target}{rest}")));
            }
        }
    }
    all.push(directives.to_owned());
    all.join(",") + pattern
}

/// Modules that were renamed, and where their log lines come from now. Filters with the former names work for one release.
const FORMER_TARGETS: &[(&str, &[&str])] = &[
    ("accept", &["server"]),
    ("access_log", &["telemetry::access_log"]),
    ("archive", &["site::archive"]),
    ("directories", &["site"]),
    ("error", &["site"]),
    ("guard", &["limits", "auth", "site"]),
    ("guard::access", &["auth"]),
    ("handover", &["lifecycle::handover"]),
    ("ledger", &["telemetry::metrics"]),
    ("listen", &["net"]),
    ("listing", &["site::listing"]),
    ("ops", &["admin", "telemetry", "sys"]),
    ("produced", &["site"]),
    ("reload", &["lifecycle::reload"]),
    ("reply", &["site"]),
    ("rules", &["config"]),
    ("serve", &["site"]),
    ("tls", &["net::tls"]),
    ("tree", &["cli"]),
    ("warmth", &["lifecycle::warmup", "cli"]),
    ("wire", &["net"]),
];

/// Writes one line: `{"time":…,"level":…,"target":…,"message":…}`, the time in UTC (RFC 3339).
fn write_json(out: &mut impl Write, record: &Record<'_>, now: Timestamp) -> io::Result<()> {
    let mut line = format!("{{\"time\":\"{now:.3}\"").into_bytes();
    let level = record.level().as_str().to_ascii_lowercase();
    let message = record.args().to_string();
    for (name, text) in [("level", level.as_str()), ("target", record.target()), ("message", &message)] {
        line.extend_from_slice(format!(",\"{name}\":\"").as_bytes());
        escape::json(&mut line, text.as_bytes());
        line.push(b'"');
    }
    line.extend_from_slice(b"}\n");
    out.write_all(&line)
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use serde_json::{Value, json};

    #[test]
    fn any_message_is_one_line_of_valid_json() {
        for message in ["plain", "two\nlines \"quoted\" \\ \u{2028}", "\u{1b}[31mred\u{7f}\u{85}", ""] {
            let mut out = Vec::new();
            let now = Timestamp::from_millisecond(1_790_000_000_007).unwrap();
            let args = format_args!("{message}");
            let record = Record::builder().args(args).level(Level::Warn).target("pagecast::x").build();
            write_json(&mut out, &record, now).unwrap();
            let line = out.strip_suffix(b"\n").unwrap();
            assert!(!line.contains(&b'\n') && !line.contains(&0x1b));
            let line: Value = serde_json::from_slice(line).unwrap();
            let expected = json!({
                "time": "2026-09-21T14:13:20.007Z", "level": "warn", "target": "pagecast::x", "message": message
            });
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn filters_with_former_targets_select_the_present_ones() {
        for (filter, expected) in [
            ("info", "info"),
            ("warn,pagecast=debug", "warn,pagecast=debug"),
            ("pagecast::wire", "pagecast::net,pagecast::wire"),
            (
                "info, pagecast::wire::http2=trace",
                "pagecast::net::http2=trace,info, pagecast::wire::http2=trace",
            ),
            ("pagecast::wired=debug", "pagecast::wired=debug"),
            (
                "pagecast::warmth=off/a,b",
                "pagecast::lifecycle::warmup=off,pagecast::cli=off,pagecast::warmth=off/a,b",
            ),
        ] {
            assert_eq!(with_new_targets(filter), expected);
        }
        let mut builder = Builder::new();
        let logger = builder.parse_filters(&with_new_targets("off,pagecast::wire=debug")).build();
        let is_logged =
            |target| logger.enabled(&Metadata::builder().level(Level::Debug).target(target).build());
        assert!(is_logged("pagecast::net::http1") && !is_logged("pagecast::site"));
    }
}
