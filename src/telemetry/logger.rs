//! The log: `env_logger` behind a filter that can be exchanged under way, as lines for people or as JSON.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use env_logger::Builder;
use jiff::Timestamp;
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::{Config, LogFilter, LogFormat};
use crate::telemetry::access_log::escape;

/// Logs what `config` lets through to standard error, panics included. A second server in one process logs as the first does.
pub(crate) fn start(config: &Config) {
    let logger = LOGGER.get_or_init(|| Logger { current: ArcSwap::from_pointee(made(config)) });
    // Whoever embeds the server may have a logger of their own.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.current.load().filter());
    }
    if let Some(renamed) = config.logging.log.renamed_targets() {
        log::warn!("PAGECAST_LOG has former names of log targets, which the next release ignores: {renamed}");
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// From now on `config` decides what is logged, and how.
pub(crate) fn change(config: &Config) {
    let Some(logger) = LOGGER.get() else { return };
    let next = made(config);
    log::set_max_level(next.filter());
    logger.current.store(Arc::new(next));
}

/// Whether both log the same in the same way.
pub(crate) fn is_same(one: &Config, other: &Config) -> bool {
    let looks_of = |config: &Config| -> (LogFilter, LogFormat) {
        (config.logging.log.clone(), config.logging.log_format)
    };
    looks_of(one) == looks_of(other)
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

fn made(config: &Config) -> env_logger::Logger {
    let mut builder = Builder::new();
    // What libraries say of their own threads, and of every frame; a filter that names them is heeded.
    builder.filter_module("actix_server", LevelFilter::Warn).filter_module("h2", LevelFilter::Warn);
    builder.parse_filters(&config.logging.log.to_env_filter());
    if config.logging.log_format == LogFormat::Json {
        builder.format(|line, record| write_json(line, record, Timestamp::now()));
    }
    builder.build()
}

/// One line: `{"time":…,"level":…,"target":…,"message":…}`, the time in UTC (RFC 3339).
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
    fn whatever_is_said_is_one_line_of_valid_json() {
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
