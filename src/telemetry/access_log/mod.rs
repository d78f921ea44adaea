//! The access log: one line per request, written when its response has ended. Fields: docs/access-log.md.

pub(crate) mod clock;
pub(crate) mod combined;
pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod losses;
pub(crate) mod record;
pub(crate) mod sampling;
pub(crate) mod target;
pub(crate) mod writer;
