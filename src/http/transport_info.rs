//! Transport properties of a request.

/// Properties of the connection of a request. Absent for plain HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportInfo {
    /// The connection uses TLS.
    pub is_secure: bool,
    /// Response bytes pass through buffers of the process, so a file must be open to be sent.
    pub is_copied: bool,
}
