//! Protocol and outcome of an exchange.

/// Protocol version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http10,
    Http11,
    Http2,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeOutcome {
    /// The kernel accepted the whole response.
    Complete,
    /// The client closed the connection early, or sent data that ended it.
    ClientGone,
    /// The client received nothing for too long, or did not send the body it had announced.
    Stalled,
    /// The client received too slowly while free connections were short.
    TooSlow,
    /// The file changed while it was sent.
    Changed,
    /// The disk failed.
    Failed,
    /// The server stopped before the response was complete.
    Drained,
}

impl Protocol {
    /// All variants, in the order of their discriminants.
    pub(crate) const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// Version number, as in labels and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl ExchangeOutcome {
    /// All variants, in the order of their discriminants.
    pub(crate) const ALL: [Self; 7] = [
        Self::Complete,
        Self::ClientGone,
        Self::Stalled,
        Self::TooSlow,
        Self::Changed,
        Self::Failed,
        Self::Drained,
    ];

    /// Name in labels and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::Stalled => "stalled",
            Self::TooSlow => "too_slow",
            Self::Changed => "changed",
            Self::Failed => "failed",
            Self::Drained => "drained",
        }
    }
}
