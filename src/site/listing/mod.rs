//! Directory listings as HTML and JSON, written in chunks.

pub(crate) mod format;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod links;
pub(crate) mod page;
pub(crate) mod sort;
pub(crate) mod style;
pub(crate) mod writer;
