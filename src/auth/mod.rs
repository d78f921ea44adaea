//! Authentication: signed URLs, bearer tokens and passwords for paths that are not public.

pub mod access;
pub(crate) mod context;
pub(crate) mod counts;
pub(crate) mod password_checks;
pub(crate) mod signed_url;
