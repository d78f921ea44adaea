//! Credential files: keys of signed URLs, bearer tokens, passwords. Read with the configuration; no error message contains a
//! part of a secret.
//!
//! `credentials` reads all files, `signing_keys`, `passwords` and `tokens` parse one each, `lines` is what their lines share.

mod credentials;
mod lines;
mod passwords;
mod signing_keys;
mod tokens;

pub use credentials::CredentialFiles;
pub use passwords::{PasswordHash, Passwords};
pub use signing_keys::{SigningKey, SigningKeys};
pub use tokens::Tokens;
