//! Enums by which counters are indexed.

use crate::http::method::Method;
use crate::http::named_enum::named_enum;

/// Labels of a completed exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeKind {
    pub(crate) method: MethodKind,
    pub(crate) class: StatusClass,
    pub(crate) protocol: Protocol,
    pub(crate) outcome: ExchangeOutcome,
}

named_enum! {
    /// Protocol version of a request.
    pub(crate) enum Protocol {
        Http10 => "1.0",
        Http11 => "1.1",
        Http2 => "2",
    }
}

named_enum! {
    /// How an exchange ended.
    pub(crate) enum ExchangeOutcome {
        /// The kernel accepted the whole response.
        Complete => "complete",
        /// The client closed the connection early, or sent data that ended it.
        ClientGone => "client_gone",
        /// The client received nothing for too long, or did not send the body it had announced.
        Stalled => "stalled",
        /// The client received too slowly while free connections were short.
        TooSlow => "too_slow",
        /// The file changed while it was sent.
        Changed => "changed",
        /// The disk failed.
        Failed => "failed",
        /// The server stopped before the response was complete.
        Drained => "drained",
    }
}

named_enum! {
    /// Methods as they are counted. Few, because clients may invent any number of methods.
    pub(crate) enum MethodKind {
        Get => "GET",
        Head => "HEAD",
        Options => "OPTIONS",
        /// Another method, or a request that could not be parsed.
        Other => "other",
    }
}

named_enum! {
    /// Class of a response status (RFC 9110 §15).
    pub(crate) enum StatusClass {
        /// No response was sent.
        None => "none",
        Informational => "1xx",
        Successful => "2xx",
        Redirection => "3xx",
        ClientError => "4xx",
        ServerError => "5xx",
    }
}

/// Why a request head was rejected.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RejectedHead {
    /// It exceeded the limit of bytes or of headers.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It is malformed.
    Malformed,
}

/// Client behaviour for which an HTTP/2 connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolViolation {
    /// Frames that RFC 9113 forbids.
    Malformed,
    /// Too many resets.
    Resets,
    /// Too many frames that carry neither a request nor data.
    Frames,
}

/// Results of a look-up in a path cache.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathLookup {
    /// A file on the heap.
    Heap,
    /// A mapped file.
    Mapped,
    /// A file that no cache keeps.
    Unmapped,
    /// No file: the name is known not to exist, or is redirected.
    NoFile,
    /// No entry, or one that is no longer valid.
    Miss,
}

named_enum! {
    /// How response bytes reach the socket.
    pub(crate) enum SendPath {
        /// `write` from the heap.
        Heap => "heap",
        /// `writev` from a mapped file.
        Writev => "writev",
        /// `sendfile` from an open file.
        Sendfile => "sendfile",
        /// Read into a buffer, then encrypted or framed there.
        Copied => "copied",
    }
}

impl ExchangeKind {
    /// All kinds in the order of their indices.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        ExchangeOutcome::ALL.into_iter().flat_map(|outcome| {
            Protocol::ALL.into_iter().flat_map(move |protocol| {
                StatusClass::ALL.into_iter().flat_map(move |class| {
                    MethodKind::ALL.into_iter().map(move |method| Self { method, class, protocol, outcome })
                })
            })
        })
    }

    pub(super) fn index(self) -> usize {
        let Self { method, class, protocol, outcome } = self;
        let of_protocol = outcome as usize * Protocol::ALL.len() + protocol as usize;
        let of_class = of_protocol * StatusClass::ALL.len() + class as usize;
        of_class * MethodKind::ALL.len() + method as usize
    }
}

impl MethodKind {
    pub(super) fn of(method: Option<Method>) -> Self {
        match method {
            Some(Method::Get) => Self::Get,
            Some(Method::Head) => Self::Head,
            Some(Method::Options) => Self::Options,
            Some(Method::NotAllowed | Method::NotImplemented) | None => Self::Other,
        }
    }
}

impl StatusClass {
    pub(super) fn of(status: u16) -> Self {
        match status {
            0..100 => Self::None,
            100..200 => Self::Informational,
            200..300 => Self::Successful,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

pub(super) const KINDS: usize =
    ExchangeOutcome::ALL.len() * Protocol::ALL.len() * StatusClass::ALL.len() * MethodKind::ALL.len();
