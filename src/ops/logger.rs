//! The log: `env_logger` behind a filter that can be exchanged under way.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use env_logger::Builder;
use log::{LevelFilter, Log, Metadata, Record};

use crate::config::LogFilter;

/// Logs what `filter` lets through to standard error, panics included. A second server in one process logs as the first does.
pub(crate) fn start(filter: &LogFilter) {
    let logger = LOGGER.get_or_init(|| Logger { current: ArcSwap::from_pointee(made(filter)) });
    // Whoever embeds the server may have a logger of their own.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.current.load().filter());
    }
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
}

/// From now on `filter` decides what is logged.
pub(crate) fn change(filter: &LogFilter) {
    let Some(logger) = LOGGER.get() else { return };
    let next = made(filter);
    log::set_max_level(next.filter());
    logger.current.store(Arc::new(next));
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

fn made(filter: &LogFilter) -> env_logger::Logger {
    Builder::new()
        // What the admin listener's server says of its own threads; a filter that names it is heeded.
        .filter_module("actix_server", LevelFilter::Warn)
        .parse_filters(filter.as_str())
        .build()
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
