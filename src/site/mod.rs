//! One request: path to file, access, listing or archive, response.

pub(crate) mod access;
pub(crate) mod archive;
pub(crate) mod cors;
pub(crate) mod directory;
pub mod directory_jobs;
pub mod error;
pub(crate) mod error_pages;
pub mod handler;
pub(crate) mod https_policy;
pub(crate) mod integrity;
pub(crate) mod listing;
pub(crate) mod middleware;
pub(crate) mod path_cache;
pub(crate) mod reply;
pub(crate) mod representation;
pub(crate) mod request_facts;
pub(crate) mod resolution;
pub(crate) mod resolver;
pub mod settings;
pub(crate) mod streamed_body;
