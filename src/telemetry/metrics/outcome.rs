//! Protocol and outcome of an exchange.

use crate::http::named_enum::named_enum;

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
