//! How an exchange came and how it ended.

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http10,
    Http11,
    Http2,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeOutcome {
    /// All of the response was handed to the kernel.
    Complete,
    /// The client went before that, or sent what ended the connection.
    ClientGone,
    /// The client took nothing for too long, or did not send what it had announced.
    Stalled,
    /// The client took too little while connections ran short.
    TooSlow,
    /// The file was not what it had been.
    Changed,
    /// The disk did not give what was to be sent.
    Failed,
    /// The server ended before that.
    Drained,
}

impl Protocol {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// Its version, as it is told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

impl ExchangeOutcome {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Complete,
        Self::ClientGone,
        Self::Stalled,
        Self::TooSlow,
        Self::Changed,
        Self::Failed,
        Self::Drained,
    ];

    /// Its name among counts.
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
