//! Directories as downloads: tar (POSIX.1-2001), tar.zst (RFC 8878) and zip, streamed.

pub(crate) mod plan;
pub(crate) mod source;
pub(crate) mod tar;
pub(crate) mod writer;
pub(crate) mod zip;
