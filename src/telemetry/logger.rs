//! The diagnostics log: `env_logger` with a filter that a reload can change, as text or as JSON.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use env_logger::Builder;
use jiff::Timestamp;
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::{Config, LogFormat};
use crate::telemetry::access_log::escape;
use crate::telemetry::log_alias::{env_filter, renamed_targets};

/// Starts logging to standard error as `config` describes, panics included. Further servers in one process use the logger of
/// the first.
pub(crate) fn start(config: &Config) {
    let logger = LOGGER.get_or_init(|| Logger { current: ArcSwap::from_pointee(build(config)) });
    // A program that embeds the server may have its own logger.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.current.load().filter());
    }
    if let Some(renamed) = renamed_targets(&config.logging.log) {
        log::warn!(
            "the log filter (PAGECAST_LOG) has former names of log targets, which the next release ignores: {renamed}"
        );
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
    let (one, other) = (&one.logging, &other.logging);
    one.log == other.log && one.log_format == other.log_format
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
    // The warning of former names is shown whatever else is filtered out.
    builder.filter_module(module_path!(), LevelFilter::Warn);
    builder.parse_filters(&env_filter(&config.logging.log));
    if config.logging.log_format == LogFormat::Json {
        builder.format(|line, record| write_json(line, record, Timestamp::now()));
    }
    builder.build()
}

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
    fn the_warning_of_former_targets_passes_a_filter_of_targets_alone() {
        for filter in ["pagecast::wire=debug", "error,pagecast::guard::access::link=debug"] {
            let mut config = Config::default();
            Arc::make_mut(&mut config.logging).log = filter.parse().unwrap();
            let logger = build(&config);
            let passes =
                |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
            assert!(passes(module_path!().trim_end_matches("::tests"), Level::Warn), "{filter}");
            assert!(!passes("pagecast::server::run", Level::Warn), "{filter}");
        }
    }

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
}
