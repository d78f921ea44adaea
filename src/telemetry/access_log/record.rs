//! What is noted of a request for the log, while it is under way.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::metrics::outcome::{Outcome, Protocol};

/// The words of a request and of its response, and what it waited for. Texts are copied into one buffer, each up to its
/// bound: nothing is formatted where requests are served.
#[derive(Debug)]
pub(crate) struct Note {
    text: Vec<u8>,
    parts: [Option<Range<u16>>; Part::COUNT],
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
    pub(crate) cached: Option<Cached>,
    /// Bytes of the response that are no content: its head, and the frames of its chunks.
    pub(crate) frame_bytes: u64,
    /// Bytes of the response that were asked of the disk.
    pub(crate) cold_bytes: u64,
    /// Until there was a response, where that had to be waited for.
    pub(crate) lookup: Duration,
    waited: [Duration; Wait::COUNT],
    waits: Option<(Wait, Instant)>,
    /// Set once it has ended.
    pub(crate) ended: Option<Ended>,
}

/// A text that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
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
pub(crate) enum Cached {
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
pub(crate) enum Wait {
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
pub(crate) struct Ended {
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    /// Until the first bytes were handed to the kernel; none where none were.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) protocol: Protocol,
    /// 0 where there was no response.
    pub(crate) status: u16,
    /// Bytes that were handed to the kernel, the head included.
    pub(crate) sent: u64,
    pub(crate) outcome: Outcome,
    /// It stands for so many requests that went the same way.
    pub(crate) sample: u64,
}

/// Who takes the notes of requests that have ended. Called where requests are served, so it must not wait.
pub(crate) trait Register: Send + Sync {
    /// Takes a note whose exchange has [`ended`](Note::ended).
    fn enter(&self, note: Box<Note>);
}

impl Note {
    /// A note of a request that came from `peer`.
    pub(crate) fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            text: Vec::with_capacity(TEXT_USUAL),
            parts: [const { None }; Part::COUNT],
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
            waited: [Duration::ZERO; Wait::COUNT],
            waits: None,
            ended: None,
        }
    }

    /// Keeps a text, up to its bound.
    pub(crate) fn put(&mut self, part: Part, text: &[u8]) {
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
    pub(crate) fn get(&self, part: Part) -> Option<&[u8]> {
        let range = self.parts.get(part as usize)?.as_ref()?;
        self.text.get(usize::from(range.start)..usize::from(range.end))
    }

    /// The response is another one than was noted.
    pub(crate) fn forget_response(&mut self) {
        for part in [Part::Etag, Part::Coding, Part::ContentRange] {
            if let Some(place) = self.parts.get_mut(part as usize) {
                *place = None;
            }
        }
        self.frame_bytes = 0;
        self.cold_bytes = 0;
    }

    /// From `now` on the response waits, or goes on.
    pub(crate) fn waits(&mut self, now: Instant, what: Option<Wait>) {
        if let Some((wait, since)) = self.waits.take() {
            self.waited[wait as usize] += now.saturating_duration_since(since);
        }
        self.waits = what.map(|wait| (wait, now));
    }

    /// How long it has waited.
    pub(crate) fn waited(&self, wait: Wait) -> Duration {
        self.waited[wait as usize]
    }

    /// Its exchange has ended.
    pub(crate) fn end(&mut self, ended: Ended) {
        self.waits(ended.at, None);
        self.ended = Some(ended);
    }
}

impl Ended {
    /// Whether it is of those that one wants to see: the server failed, or the response was cut.
    pub(crate) fn is_failure(&self) -> bool {
        self.status >= 500 || self.outcome != Outcome::Complete
    }
}

impl Part {
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

impl Wait {
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
        let mut note = Note::new(None);
        note.put(Part::Target, b"/a");
        note.put(Part::Host, b"");
        assert!(!note.is_cut);
        note.put(Part::UserAgent, &[b'x'; 5000]);
        assert!(note.is_cut);
        assert_eq!(note.get(Part::Target), Some(&b"/a"[..]));
        assert_eq!(note.get(Part::Host), Some(&b""[..]));
        assert_eq!(note.get(Part::UserAgent).map(<[u8]>::len), Some(1024));
        assert_eq!(note.get(Part::Referer), None);
        for _ in 0..100 {
            note.put(Part::Line, &[b'y'; 4096]);
        }
        assert!(note.text.len() <= usize::from(u16::MAX));
        assert_eq!(note.get(Part::Target), Some(&b"/a"[..]));
    }

    #[test]
    fn time_is_counted_for_what_was_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut note = Note::new(None);
        note.waits(at(1), Some(Wait::Disk));
        note.waits(at(3), Some(Wait::Client));
        note.waits(at(7), None);
        note.waits(at(8), Some(Wait::Disk));
        let exchange = Exchange::new(start, Some(Method::Get), Protocol::Http11);
        note.end(exchange.ended(Outcome::ClientGone, at(16)));
        assert_eq!(note.waited(Wait::Disk), Duration::from_millis(10));
        assert_eq!(note.waited(Wait::Client), Duration::from_millis(4));
        assert_eq!(note.waited(Wait::Throttle), Duration::ZERO);
        let ended = note.ended.unwrap();
        assert_eq!((ended.took, ended.first_byte), (Duration::from_millis(16), None));
        assert!(ended.is_failure());
    }
}
