//! Dimensions by which exchanges, rejected request heads and sent bytes are counted.

use super::outcome::{ExchangeOutcome, Protocol};
use crate::http::method::Method;

/// Labels of a completed exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeKind {
    pub(crate) method: MethodKind,
    pub(crate) class: StatusClass,
    pub(crate) protocol: Protocol,
    pub(crate) outcome: ExchangeOutcome,
}

/// Methods as they are counted. Few, because clients may invent any number of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodKind {
    Get,
    Head,
    Options,
    /// Another method, or a request that could not be parsed.
    Other,
}

/// Class of a response status (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusClass {
    /// No response was sent.
    None,
    Informational,
    Successful,
    Redirection,
    ClientError,
    ServerError,
}

/// Why a request head was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RejectedHead {
    /// It exceeded the limit of bytes or of headers.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It is malformed.
    Malformed,
}

/// How response bytes reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendPath {
    /// `write` from the heap.
    Heap,
    /// `writev` from a mapped file.
    Writev,
    /// `sendfile` from an open file.
    Sendfile,
    /// Read into a buffer, then encrypted or framed there.
    Copied,
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
    pub(crate) const ALL: [Self; 4] = [Self::Get, Self::Head, Self::Options, Self::Other];

    pub(super) fn of(method: Option<Method>) -> Self {
        match method {
            Some(Method::Get) => Self::Get,
            Some(Method::Head) => Self::Head,
            Some(Method::Options) => Self::Options,
            Some(Method::NotAllowed | Method::NotImplemented) | None => Self::Other,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }
}

impl StatusClass {
    pub(crate) const ALL: [Self; 6] = [
        Self::None,
        Self::Informational,
        Self::Successful,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

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

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

impl RejectedHead {
    pub(crate) const ALL: [Self; 3] = [Self::TooLarge, Self::TooSlow, Self::Malformed];
}

impl SendPath {
    pub(crate) const ALL: [Self; 4] = [Self::Heap, Self::Writev, Self::Sendfile, Self::Copied];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Writev => "writev",
            Self::Sendfile => "sendfile",
            Self::Copied => "copied",
        }
    }
}

pub(super) const KINDS: usize =
    ExchangeOutcome::ALL.len() * Protocol::ALL.len() * StatusClass::ALL.len() * MethodKind::ALL.len();
