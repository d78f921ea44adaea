//! What is noted of a request for the log, while it is under way.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::metrics::outcome::{ExchangeOutcome, Protocol};

/// The words of a request and of its response, and what it waited for. Texts are copied into one buffer, each up to its
/// bound: nothing is formatted where requests are served.
#[derive(Debug)]
pub(crate) struct AccessLogRecord {
    text: Vec<u8>,
    parts: [Option<Range<u16>>; LogField::COUNT],
    /// A text was longer than is kept.
    pub(crate) is_cut: bool,
    /// It becomes a line of the log; else it is there for the sake of its id alone.
    pub(crate) is_written: bool,
    /// The response tells the id.
    pub(crate) tells_id: bool,
    /// Who asks; none came over a unix socket.
    pub(crate) client: Option<IpAddr>,
    /// Who is at the other end of the connection; none is a unix socket.
    pub(crate) peer: Option<SocketAddr>,
    /// How the connection is encrypted.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    /// How the file was found; none where none was looked for.
    pub(crate) cached: Option<CacheResult>,
    /// Bytes of the response that are no content: its head, and the frames of its chunks.
    pub(crate) frame_bytes: u64,
    /// Bytes of the response that were asked of the disk.
    pub(crate) cold_bytes: u64,
    /// Until there was a response, where that had to be waited for.
    pub(crate) lookup: Duration,
    waited: [Duration; WaitKind::COUNT],
    waits: Option<(WaitKind, Instant)>,
    /// Set once it has ended.
    pub(crate) ended: Option<EndedExchange>,
}

/// A text that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogField {
    /// The request's id.
    Id,
    Method,
    /// As it came.
    Target,
    Host,
    /// The ranges that were asked for.
    Range,
    Referer,
    UserAgent,
    /// The entity-tag of the response.
    Etag,
    /// The content coding of the response.
    Coding,
    /// The range that was sent.
    ContentRange,
    /// The first line of what could not be read as a request.
    Line,
}

/// How a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheResult {
    /// It was known, and could still be trusted.
    Hit,
    /// It was known, and the kernel confirmed it without the disk.
    Revalidated,
    /// It was looked up.
    Miss,
    /// It could not be found out.
    Fault,
}

/// What a response waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// For the client to take what was sent.
    Client,
    /// For the disk.
    Disk,
    /// For its turn, or its pace.
    Throttle,
}

/// How a connection is encrypted.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// As in `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The cipher suite, by its registered name.
    pub(crate) cipher: Box<str>,
    /// The name that the client asked for (RFC 6066 §3).
    pub(crate) server_name: Option<Box<str>>,
}

/// What became of the exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedExchange {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// Until the first bytes were handed to the kernel; none where none were.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) protocol: Protocol,
    /// 0 where there was no response.
    pub(crate) status: u16,
    /// Bytes that were handed to the kernel, the head included.
    pub(crate) sent: u64,
    pub(crate) outcome: ExchangeOutcome,
    /// It stands for so many requests that went the same way.
    pub(crate) sample: u64,
}

/// Who takes the notes of requests that have ended. Called where requests are served, so it must not wait.
pub(crate) trait AccessLogSink: Send + Sync {
    /// Takes a note whose exchange has [`ended`](AccessLogRecord::ended).
    fn enter(&self, note: Box<AccessLogRecord>);
}

impl AccessLogRecord {
    /// A note of a request that came from `peer`.
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            text: Vec::with_capacity(TEXT_USUAL),
            parts: [const { None }; LogField::COUNT],
            is_cut: false,
            is_written: true,
            tells_id: false,
            client: peer.map(|peer| peer.ip()),
            peer,
            tls: None,
            cached: None,
            frame_bytes: 0,
            cold_bytes: 0,
            lookup: Duration::ZERO,
            waited: [Duration::ZERO; WaitKind::COUNT],
            waits: None,
            ended: None,
        }
    }

    /// Keeps a text, up to its bound.
    pub(crate) fn put(&mut self, part: LogField, text: &[u8]) {
        let kept = text.get(..part.longest()).unwrap_or(text);
        self.is_cut |= kept.len() < text.len();
        let start = self.text.len();
        // All bounds together are less than a `u16` holds; a part that is put again and again finds no room in the end.
        let (Ok(from), Ok(to)) = (u16::try_from(start), u16::try_from(start + kept.len())) else { return };
        self.text.extend_from_slice(kept);
        if let Some(place) = self.parts.get_mut(part as usize) {
            *place = Some(from..to);
        }
    }

    /// A text that was kept.
    pub(crate) fn get(&self, part: LogField) -> Option<&[u8]> {
        let range = self.parts.get(part as usize)?.as_ref()?;
        self.text.get(usize::from(range.start)..usize::from(range.end))
    }

    /// The response is another one than was noted.
    pub(crate) fn forget_response(&mut self) {
        for part in [LogField::Etag, LogField::Coding, LogField::ContentRange] {
            if let Some(place) = self.parts.get_mut(part as usize) {
                *place = None;
            }
        }
        self.frame_bytes = 0;
        self.cold_bytes = 0;
    }

    /// From `now` on the response waits, or goes on.
    pub(crate) fn waits(&mut self, now: Instant, what: Option<WaitKind>) {
        if let Some((wait, since)) = self.waits.take() {
            self.waited[wait as usize] += now.saturating_duration_since(since);
        }
        self.waits = what.map(|wait| (wait, now));
    }

    /// How long it has waited.
    pub(crate) fn waited(&self, wait: WaitKind) -> Duration {
        self.waited[wait as usize]
    }

    /// Its exchange has ended.
    pub(crate) fn end(&mut self, ended: EndedExchange) {
        self.waits(ended.at, None);
        self.ended = Some(ended);
    }
}

impl EndedExchange {
    /// Whether it is of those that one wants to see: the server failed, or the response was cut.
    pub(crate) fn is_failure(&self) -> bool {
        self.status >= 500 || self.outcome != ExchangeOutcome::Complete
    }
}

impl LogField {
    const COUNT: usize = Self::Line as usize + 1;

    /// So many bytes of it are kept.
    fn longest(self) -> usize {
        match self {
            Self::Id | Self::Method | Self::Etag | Self::Coding | Self::ContentRange => 128,
            Self::Host | Self::Range => 256,
            Self::Referer | Self::UserAgent => 1024,
            Self::Target | Self::Line => 4096,
        }
    }
}

impl WaitKind {
    const COUNT: usize = Self::Throttle as usize + 1;
}

/// Room for the texts of most requests.
const TEXT_USUAL: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::method::Method;
    use crate::telemetry::metrics::exchange::Exchange;

    #[test]
    fn texts_are_kept_up_to_their_bounds() {
        let mut note = AccessLogRecord::new(None);
        note.put(LogField::Target, b"/a");
        note.put(LogField::Host, b"");
        assert!(!note.is_cut);
        note.put(LogField::UserAgent, &[b'x'; 5000]);
        assert!(note.is_cut);
        assert_eq!(note.get(LogField::Target), Some(&b"/a"[..]));
        assert_eq!(note.get(LogField::Host), Some(&b""[..]));
        assert_eq!(note.get(LogField::UserAgent).map(<[u8]>::len), Some(1024));
        assert_eq!(note.get(LogField::Referer), None);
        for _ in 0..100 {
            note.put(LogField::Line, &[b'y'; 4096]);
        }
        assert!(note.text.len() <= usize::from(u16::MAX));
        assert_eq!(note.get(LogField::Target), Some(&b"/a"[..]));
    }

    #[test]
    fn time_is_counted_for_what_was_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut note = AccessLogRecord::new(None);
        note.waits(at(1), Some(WaitKind::Disk));
        note.waits(at(3), Some(WaitKind::Client));
        note.waits(at(7), None);
        note.waits(at(8), Some(WaitKind::Disk));
        let exchange = Exchange::new(start, Some(Method::Get), Protocol::Http11);
        note.end(exchange.ended(ExchangeOutcome::ClientGone, at(16)));
        assert_eq!(note.waited(WaitKind::Disk), Duration::from_millis(10));
        assert_eq!(note.waited(WaitKind::Client), Duration::from_millis(4));
        assert_eq!(note.waited(WaitKind::Throttle), Duration::ZERO);
        let ended = note.ended.unwrap();
        assert_eq!((ended.took, ended.first_byte), (Duration::from_millis(16), None));
        assert!(ended.is_failure());
    }
}
