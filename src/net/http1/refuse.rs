//! Answers what is no acceptable request, and ends exchanges that failed.

use std::time::Instant;

use super::connection::{ConnectionEnd, Http1Connection};
use crate::http::canned_response::CannedResponse;
use crate::limits::bandwidth::ResponsePace;
use crate::net::{Framing, SendError, canned, request_log};
use crate::telemetry::access_log::record::AccessLogRecord;
use crate::telemetry::metrics::exchange::{Exchange, ExchangeOutcome, Protocol};
use crate::telemetry::metrics::kind::RejectedHead;

impl Http1Connection {
    /// Answers what is no acceptable request.
    pub(super) async fn refuse_head(
        &mut self,
        response: CannedResponse,
        is_head: bool,
        record: Option<Box<AccessLogRecord>>,
    ) -> ConnectionEnd {
        let rejected = rejected_head(response.status);
        self.context().metrics.counts.rejected_heads[rejected as usize].add(1);
        self.now = Instant::now();
        let exchange = Exchange::new(self.now, None, Protocol::Http11);
        exchange.record.set(record);
        self.exchanges.begin(exchange, self.queue.pushed);
        self.refuse(response, is_head).await
    }

    /// Sends `response` as the last one of the connection.
    async fn refuse(&mut self, response: CannedResponse, is_head: bool) -> ConnectionEnd {
        log::debug!("{}: refused: {} {}", self.peer_name(), response.status, response.sentence.trim_end());
        match self.send_canned(response, is_head).await {
            Ok(()) => ConnectionEnd::Linger,
            Err(error) => {
                self.log_abort(&error);
                self.abort(error.outcome(), ConnectionEnd::Abort)
            }
        }
    }

    async fn send_canned(&mut self, response: CannedResponse, is_head: bool) -> Result<(), SendError> {
        self.set_pace(ResponsePace::default()).await?;
        if let Some(record) = self.exchanges.last().and_then(Exchange::record) {
            record.clear_response();
        }
        self.now = Instant::now();
        let framing = Framing { is_head, is_http10: false, keep_alive: false };
        self.queue_response(canned(response, is_head), framing);
        self.flush().await
    }

    /// Ends a failed exchange: with another response if nothing of the failed one was sent, else by aborting the
    /// connection.
    pub(super) async fn replace_or_abort(&mut self, error: SendError) -> ConnectionEnd {
        self.log_abort(&error);
        match error.replacement() {
            Some(response) if self.queue.withdraw() => {
                self.socket.reset_on_close(false);
                self.refuse(response, false).await
            }
            _ => self.abort(error.outcome(), ConnectionEnd::Abort),
        }
    }

    /// Ends all exchanges under way with `outcome`.
    pub(super) fn abort(&mut self, outcome: ExchangeOutcome, end: ConnectionEnd) -> ConnectionEnd {
        self.exchanges.add_cold_bytes(self.queue.cursor.take_cold_bytes());
        self.exchanges.abort(outcome, self.queue.sent(), Instant::now());
        end
    }

    fn log_abort(&mut self, error: &SendError) {
        let request = request_log::id_suffix(self.exchanges.last());
        error.log(self.queue.file(), &self.context().files.loader.faults, &request, || self.peer_name());
    }
}

/// The metric of a head that is refused with `status`.
fn rejected_head(status: u16) -> RejectedHead {
    match status {
        414 | 431 => RejectedHead::TooLarge,
        408 => RejectedHead::TooSlow,
        _ => RejectedHead::Malformed,
    }
}
