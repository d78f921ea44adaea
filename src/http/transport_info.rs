//! How a request came, beside what it says.

/// What is noted with a request that did not come in cleartext over HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportInfo {
    /// It came over TLS: its response can't be read on the way.
    pub is_secure: bool,
    /// The bytes of its response pass through memory of our own, so that a file must be open to be sent.
    pub is_copied: bool,
}
