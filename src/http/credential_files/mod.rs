//! Formats of credential files: keys of signed URLs, bearer tokens, passwords. No error message contains a part of a secret.
//!
//! `signing_keys`, `passwords` and `tokens` parse one each, `lines` is what their lines share.

pub(crate) mod lines;
pub mod passwords;
pub mod signing_keys;
pub mod tokens;
