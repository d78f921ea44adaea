//! The access log: one line per request, written when its response has ended. Fields: docs/access-log.md.
//!
//! `record` collects facts on the worker, `shared` queues them, `log` starts and changes the log, `writer` renders (`json`, `combined`, `escape`, `clock`) and
//! writes them (`sink`, `target`). `sampling` selects requests; `counters` counts lines and reports losses.

pub(crate) mod clock;
pub(crate) mod combined;
pub(crate) mod counters;
pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod record;
pub(crate) mod sampling;
pub(crate) mod shared;
pub(crate) mod sink;
pub(crate) mod target;
pub(crate) mod writer;
