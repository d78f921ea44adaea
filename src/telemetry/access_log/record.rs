//! Data collected about a request for the access log.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::named_enum::named_enum;
use crate::telemetry::metrics::kind::{ExchangeOutcome, Protocol};

/// Facts about a request, its response and its waits. Texts are copied into one buffer, each up to its maximum length;
/// nothing is formatted on a worker.
#[derive(Debug)]
pub(crate) struct AccessLogRecord {
    text: Vec<u8>,
    fields: [Option<Range<u16>>; LogField::COUNT],
    /// A text exceeded its maximum length.
    pub(crate) is_truncated: bool,
    /// The record becomes a line of the log. If false, only its id is used.
    pub(crate) is_written: bool,
    /// The response carries the id.
    pub(crate) sends_id: bool,
    /// Client address. `None` for a unix socket.
    pub(crate) client: Option<IpAddr>,
    /// Peer of the connection. `None` for a unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// TLS parameters of the connection.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    /// Result of the cache lookup. `None` if no file was looked up.
    pub(crate) cached: Option<CacheResult>,
    /// Bytes of the response that are not content: head and chunk framing.
    pub(crate) frame_bytes: u64,
    /// Bytes of the response read from the disk.
    pub(crate) cold_bytes: u64,
    /// Time until there was a response, if it was not available at once.
    pub(crate) lookup: Duration,
    waited: [Duration; WaitKind::COUNT],
    current_wait: Option<(WaitKind, Instant)>,
    /// Set when the exchange has ended.
    pub(crate) ended: Option<EndedExchange>,
}

/// A text of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogField {
    /// Request id.
    Id,
    Method,
    /// Request target as received.
    Target,
    Host,
    /// `Range` header.
    Range,
    Referer,
    UserAgent,
    /// Entity tag of the response.
    Etag,
    /// Content encoding of the response.
    ContentEncoding,
    /// `Content-Range` of the response.
    ContentRange,
    /// First line of a malformed request.
    Line,
}

named_enum! {
    /// Result of a cache lookup.
    pub(crate) enum CacheResult {
        /// The entry was valid.
        Hit => "hit",
        /// The kernel confirmed the entry without disk access.
        Revalidated => "revalidated",
        /// The file was looked up.
        Miss => "miss",
        /// The lookup failed.
        Fault => "fault",
    }
}

/// Causes for which a response waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// The client receives slowly.
    Client,
    /// The disk.
    Disk,
    /// A rate limit or a queue.
    Throttle,
}

/// TLS parameters of a connection.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// Protocol version, such as `TLSv1.3`.
    pub(crate) version: &'static str,
    /// Registered name of the cipher suite.
    pub(crate) cipher: Box<str>,
    /// Server name sent by the client (RFC 6066 §3).
    pub(crate) server_name: Option<Box<str>>,
}

/// Result of an exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedExchange {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// Time until the kernel accepted the first bytes. `None` if nothing was sent.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) protocol: Protocol,
    /// 0 if there was no response.
    pub(crate) status: u16,
    /// Bytes accepted by the kernel, response head included.
    pub(crate) sent: u64,
    pub(crate) outcome: ExchangeOutcome,
    /// Number of requests that the line stands for.
    pub(crate) sample: u64,
}

impl AccessLogRecord {
    /// Creates the record of a request from `peer`.
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            text: Vec::with_capacity(TEXT_USUAL),
            fields: [const { None }; LogField::COUNT],
            is_truncated: false,
            is_written: true,
            sends_id: false,
            client: peer.map(|peer| peer.ip()),
            peer,
            tls: None,
            cached: None,
            frame_bytes: 0,
            cold_bytes: 0,
            lookup: Duration::ZERO,
            waited: [Duration::ZERO; WaitKind::COUNT],
            current_wait: None,
            ended: None,
        }
    }

    /// Stores a text, up to its maximum length.
    pub(crate) fn put(&mut self, field: LogField, text: &[u8]) {
        let kept = text.get(..field.length_max()).unwrap_or(text);
        self.is_truncated |= kept.len() < text.len();
        let start = self.text.len();
        // All maximum lengths together fit a `u16`. A field stored again and again finds no space in the end.
        let (Ok(from), Ok(to)) = (u16::try_from(start), u16::try_from(start + kept.len())) else { return };
        self.text.extend_from_slice(kept);
        self.fields[field as usize] = Some(from..to);
    }

    /// Returns a stored text.
    pub(crate) fn get(&self, field: LogField) -> Option<&[u8]> {
        let range = self.fields[field as usize].as_ref()?;
        self.text.get(usize::from(range.start)..usize::from(range.end))
    }

    /// Clears the facts about the response, because another one is sent.
    pub(crate) fn clear_response(&mut self) {
        for field in [LogField::Etag, LogField::ContentEncoding, LogField::ContentRange] {
            self.fields[field as usize] = None;
        }
        self.frame_bytes = 0;
        self.cold_bytes = 0;
    }

    /// Sets what the response waits for from `now` on. `None`: it does not wait.
    pub(crate) fn set_wait(&mut self, now: Instant, kind: Option<WaitKind>) {
        if let Some((wait, since)) = self.current_wait.take() {
            self.waited[wait as usize] += now.saturating_duration_since(since);
        }
        self.current_wait = kind.map(|wait| (wait, now));
    }

    /// Total time waited for `wait`.
    pub(crate) fn waited(&self, wait: WaitKind) -> Duration {
        self.waited[wait as usize]
    }

    /// Sets the result of the exchange.
    pub(crate) fn end(&mut self, ended: EndedExchange) {
        self.set_wait(ended.at, None);
        self.ended = Some(ended);
    }
}

impl EndedExchange {
    /// True if the server failed or the response is incomplete.
    pub(crate) fn is_failure(&self) -> bool {
        self.status >= 500 || self.outcome != ExchangeOutcome::Complete
    }
}

impl LogField {
    const COUNT: usize = Self::Line as usize + 1;

    /// Maximum length in bytes.
    fn length_max(self) -> usize {
        match self {
            Self::Id | Self::Method | Self::Etag | Self::ContentEncoding | Self::ContentRange => 128,
            Self::Host | Self::Range => 256,
            Self::Referer | Self::UserAgent => 1024,
            Self::Target | Self::Line => 4096,
        }
    }
}

impl WaitKind {
    const COUNT: usize = Self::Throttle as usize + 1;
}

/// Enough for the texts of most requests.
const TEXT_USUAL: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;
    use crate::telemetry::metrics::exchange::Exchange;

    #[test]
    fn texts_are_stored_up_to_their_maximum_length() {
        let mut record = AccessLogRecord::new(None);
        record.put(LogField::Target, b"/a");
        record.put(LogField::Host, b"");
        assert!(!record.is_truncated);
        record.put(LogField::UserAgent, &[b'x'; 5000]);
        assert!(record.is_truncated);
        assert_eq!(record.get(LogField::Target), Some(&b"/a"[..]));
        assert_eq!(record.get(LogField::Host), Some(&b""[..]));
        assert_eq!(record.get(LogField::UserAgent).map(<[u8]>::len), Some(1024));
        assert_eq!(record.get(LogField::Referer), None);
        for _ in 0..100 {
            record.put(LogField::Line, &[b'y'; 4096]);
        }
        assert!(record.text.len() <= usize::from(u16::MAX));
        assert_eq!(record.get(LogField::Target), Some(&b"/a"[..]));
    }

    #[test]
    fn wait_times_are_summed_by_kind() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut record = AccessLogRecord::new(None);
        record.set_wait(at(1), Some(WaitKind::Disk));
        record.set_wait(at(3), Some(WaitKind::Client));
        record.set_wait(at(7), None);
        record.set_wait(at(8), Some(WaitKind::Disk));
        let exchange = Exchange::new(start, Some(Method::Get), Protocol::Http11);
        record.end(exchange.ended(ExchangeOutcome::ClientGone, at(16)));
        assert_eq!(record.waited(WaitKind::Disk), Duration::from_millis(10));
        assert_eq!(record.waited(WaitKind::Client), Duration::from_millis(4));
        assert_eq!(record.waited(WaitKind::Throttle), Duration::ZERO);
        let ended = record.ended.unwrap();
        assert_eq!((ended.took, ended.first_byte), (Duration::from_millis(16), None));
        assert!(ended.is_failure());
    }
}
