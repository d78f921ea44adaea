//! Frames as they arrive, looked at in passing: what `h2` allows and a server must not put up with, and what it answers with
//! another code than RFC 9113 names.

use std::time::{Duration, Instant};

use h2::Reason;

use crate::sys::gcra::{Gcra, Quota, RateClock};
use crate::telemetry::metrics::http2::ProtocolViolation;

/// Looks at the heads of all frames of one connection (RFC 9113 §4.1), and at next to nothing behind them.
#[derive(Debug)]
pub(super) struct FloodGuard {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of a frame's head that are here.
    known: usize,
    /// Bytes of a frame's payload that are still to come.
    payload: usize,
    /// A header block has begun and not ended.
    is_in_block: bool,
    /// Since when something that has begun is not whole.
    since: Option<Instant>,
    frames: u64,
    ended: RecentlyEnded,
    settings: SettingsFrame,
    clock: RateClock,
    resets: Gcra,
    resets_allowed: Quota,
    resets_seen: u64,
    idle_talk: Gcra,
}

/// Why a connection is to end, and with which code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionError {
    pub(super) breach: ProtocolViolation,
    pub(super) reason: Reason,
}

impl ConnectionError {
    const RESETS: Self = Self { breach: ProtocolViolation::Resets, reason: Reason::ENHANCE_YOUR_CALM };
    const FRAMES: Self = Self { breach: ProtocolViolation::Frames, reason: Reason::ENHANCE_YOUR_CALM };

    fn malformed(reason: Reason) -> Self {
        Self { breach: ProtocolViolation::Malformed, reason }
    }

    /// Why `h2` ends it.
    pub(super) fn of(reason: Reason) -> Self {
        if reason == Reason::ENHANCE_YOUR_CALM { Self::FRAMES } else { Self::malformed(reason) }
    }
}

impl FloodGuard {
    /// A connection that begins with the preface; `resets` of its streams may be reset in ten seconds.
    pub(super) fn new(resets: u32, now: Instant) -> Self {
        Self {
            preface: PREFACE.len(),
            head: [0; HEAD],
            known: 0,
            payload: 0,
            is_in_block: false,
            since: Some(now),
            frames: 0,
            ended: RecentlyEnded::default(),
            settings: SettingsFrame::default(),
            clock: RateClock::new(),
            resets: Gcra::default(),
            resets_allowed: Quota::per(PERIOD, resets.into(), resets.into()),
            resets_seen: 0,
            idle_talk: Gcra::default(),
        }
    }

    /// Looks at what came. The connection ends before the frame that is a reason to: so many bytes are in front of
    /// that frame's end at most.
    pub(super) fn see(&mut self, bytes: &[u8], now: Instant) -> (usize, Option<ConnectionError>) {
        let mut at = bytes.len().min(self.preface);
        self.preface -= at;
        while at < bytes.len() {
            let left = bytes.len() - at;
            if self.payload > 0 {
                let taken = left.min(self.payload);
                if self.head[3] == SETTINGS && !self.settings.see(&bytes[at..at + taken]) {
                    return (at, Some(ConnectionError::malformed(Reason::FLOW_CONTROL_ERROR)));
                }
                self.payload -= taken;
                at += taken;
                self.settle();
                continue;
            }
            let start = at;
            let taken = left.min(HEAD - self.known);
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[at..at + taken]);
            self.known += taken;
            at += taken;
            if self.since.is_none() {
                self.since = Some(now);
            }
            if self.known == HEAD {
                self.known = 0;
                if let Err(why) = self.begin(now) {
                    return (start, Some(why));
                }
                self.settle();
            }
        }
        (at, None)
    }

    /// How much of what may be reset in ten seconds is used up.
    pub(super) fn recent_resets(&self, now: Instant) -> u64 {
        self.resets_allowed.burst() - self.resets.left(self.clock.at(now), self.resets_allowed)
    }

    /// So many bytes of responses have left: who takes much may say much.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.idle_talk.give_back(bytes as u64 / BYTES_PER_FRAME * IDLE_TALK_PERIOD);
    }

    /// A stream was reset for what its client did.
    pub(super) fn reset(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.resets_seen += 1;
        let now = self.clock.at(now);
        self.resets.take_one(now, self.resets_allowed).map_err(|_| ConnectionError::RESETS)
    }

    /// Streams that were reset, by the client or for what it did.
    pub(super) fn resets(&self) -> u64 {
        self.resets_seen
    }

    /// Since when a frame or a header block that has begun is not whole, or the first frame is waited for. Bytes of bodies do
    /// not count.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.since
    }

    /// A frame's head is whole.
    fn begin(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let [a, b, c, kind, flags, s1, s2, s3, s4] = self.head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.payload = length;
        self.frames += 1;
        if self.frames == 1 && (kind != SETTINGS || flags & ACK != 0) {
            // RFC 9113 §3.4: the preface ends in SETTINGS.
            return Err(ConnectionError::malformed(Reason::PROTOCOL_ERROR));
        }
        let is_fitting = match kind {
            RST_STREAM | WINDOW_UPDATE => length == 4,
            PRIORITY => length == 5,
            PING => length == 8,
            SETTINGS if flags & ACK != 0 => length == 0,
            SETTINGS => length.is_multiple_of(SETTING),
            _ => true,
        };
        if !is_fitting {
            return Err(ConnectionError::malformed(Reason::FRAME_SIZE_ERROR));
        }
        let stream = u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]);
        let is_end = kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if matches!(kind, DATA | HEADERS) && self.ended.contains(stream) {
            return Err(ConnectionError::malformed(Reason::STREAM_CLOSED));
        }
        if is_end {
            self.ended.put(stream);
        }
        match kind {
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            HEADERS => {
                self.is_in_block = flags & END_HEADERS == 0;
                // A request, which has limits of its own.
                self.idle_talk.give_back(FRAMES_PER_REQUEST * IDLE_TALK_PERIOD);
            }
            CONTINUATION => {
                self.is_in_block &= flags & END_HEADERS == 0;
                self.talk(now)?;
            }
            RST_STREAM => self.reset(now)?,
            _ => self.talk(now)?,
        }
        Ok(())
    }

    fn talk(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let now = self.clock.at(now);
        self.idle_talk.take_one(now, IDLE_TALK_ALLOWED).map_err(|_| ConnectionError::FRAMES)
    }

    /// What of a frame is here may be all of it.
    fn settle(&mut self) {
        let is_body = self.head[3] == DATA;
        if (self.payload == 0 || is_body) && !self.is_in_block {
            self.since = None;
        }
    }
}

/// The streams that the client ended last. `h2` knows its error, but not by the code of RFC 9113 §5.1.
#[derive(Debug, Default)]
struct RecentlyEnded {
    streams: Vec<u32>,
    /// Where the next one goes.
    at: usize,
    highest: u32,
}

impl RecentlyEnded {
    fn contains(&self, stream: u32) -> bool {
        stream <= self.highest && self.streams.contains(&stream)
    }

    fn put(&mut self, stream: u32) {
        self.highest = self.highest.max(stream);
        match self.streams.get_mut(self.at) {
            Some(oldest) => *oldest = stream,
            None => self.streams.push(stream),
        }
        self.at = (self.at + 1) % ENDED;
    }
}

/// The values of SETTINGS as they arrive. One of them is answered with a code of its own (RFC 9113 §6.5.2).
#[derive(Debug, Default)]
struct SettingsFrame {
    setting: [u8; SETTING],
    known: usize,
}

impl SettingsFrame {
    /// False where a window is larger than windows can be.
    fn see(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| {
            self.setting[self.known] = *byte;
            self.known = (self.known + 1) % SETTING;
            self.known != 0 || !matches!(self.setting, [0, INITIAL_WINDOW_SIZE, high, ..] if high >= 0x80)
        })
    }
}

/// What every connection begins with (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames in ten seconds that neither ask for anything nor bring anything, beyond those that are earned.
const IDLE_TALK: u64 = 4000;

/// For each request a client may send so many of them: a priority, a window, a ping.
const FRAMES_PER_REQUEST: u64 = 4;

/// For so many bytes of responses it may send another one: two windows are usual for each 16 KiB.
const BYTES_PER_FRAME: u64 = 512;

const PERIOD: Duration = Duration::from_secs(10);

/// Nanoseconds after which one more of them may be sent.
const IDLE_TALK_PERIOD: u64 = PERIOD.as_nanos() as u64 / IDLE_TALK;

const IDLE_TALK_ALLOWED: Quota = Quota::new(IDLE_TALK_PERIOD, IDLE_TALK);

/// Streams that are remembered to have ended.
const ENDED: usize = 64;

/// Length of a frame's head.
const HEAD: usize = 9;

/// Length of one value of SETTINGS.
const SETTING: usize = 6;

const INITIAL_WINDOW_SIZE: u8 = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32, kind: u8, flags: u8) -> Vec<u8> {
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD + length as usize, 0);
        frame
    }

    fn begun(now: Instant) -> FloodGuard {
        let mut watch = FloodGuard::new(3, now);
        assert_eq!(watch.see(&[&PREFACE[..], &frame(0, SETTINGS, 0)].concat(), now).1, None);
        watch
    }

    #[test]
    fn the_first_frame_must_be_settings() {
        let now = Instant::now();
        for (kind, flags, expected) in [
            (SETTINGS, 0, None),
            (SETTINGS, ACK, Some(Reason::PROTOCOL_ERROR)),
            (HEADERS, END_HEADERS, Some(Reason::PROTOCOL_ERROR)),
        ] {
            let mut watch = FloodGuard::new(3, now);
            assert_eq!(watch.see(PREFACE, now), (24, None));
            let seen = watch.see(&frame(0, kind, flags), now).1;
            assert_eq!(seen, expected.map(ConnectionError::malformed), "{kind} {flags}");
        }
    }

    #[test]
    fn what_has_begun_is_waited_for_until_it_is_whole() {
        let now = Instant::now();
        let cases: [(Vec<u8>, bool); 8] = [
            (frame(0, SETTINGS, 0), false),
            (frame(8, 6, 0), false),
            (frame(8, 6, 0)[..4].to_vec(), true),
            (frame(8, 6, 0)[..12].to_vec(), true),
            (frame(5, HEADERS, 0), true),
            ([frame(5, HEADERS, 0), frame(5, CONTINUATION, END_HEADERS)].concat(), false),
            (frame(5, HEADERS, END_HEADERS), false),
            (frame(5, DATA, 0)[..12].to_vec(), false),
        ];
        for (bytes, expected) in cases {
            let mut whole = begun(now);
            assert_eq!(whole.see(&bytes, now), (bytes.len(), None));
            let mut split = begun(now);
            for byte in &bytes {
                split.see(std::slice::from_ref(byte), now);
            }
            assert_eq!(
                (whole.waits_since().is_some(), split.waits_since().is_some()),
                (expected, expected),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn frames_of_a_wrong_length_and_windows_that_are_too_large_are_told_by_their_codes() {
        let now = Instant::now();
        let size = Some(Reason::FRAME_SIZE_ERROR);
        let window = |value: [u8; 4]| [&frame(12, SETTINGS, 0)[..15], &[0, 4], &value].concat();
        for (bytes, expected) in [
            (frame(3, RST_STREAM, 0), size),
            (frame(4, PRIORITY, 0), size),
            (frame(6, PING, 0), size),
            (frame(3, WINDOW_UPDATE, 0), size),
            (frame(5, SETTINGS, 0), size),
            (frame(6, SETTINGS, ACK), size),
            (frame(12, SETTINGS, 0), None),
            (window([0x7f, 0xff, 0xff, 0xff]), None),
            (window([0x80, 0, 0, 0]), Some(Reason::FLOW_CONTROL_ERROR)),
        ] {
            let expected = expected.map(ConnectionError::malformed);
            assert_eq!(begun(now).see(&bytes, now).1, expected, "{bytes:?}");
            let mut split = begun(now);
            let seen: Vec<_> = bytes.iter().map(|byte| split.see(&[*byte], now).1).collect();
            assert!(seen.contains(&expected), "{bytes:?}");
        }
    }

    #[test]
    fn more_resets_than_are_allowed_in_ten_seconds_are_refused() {
        let now = Instant::now();
        let reset = frame(4, RST_STREAM, 0);
        for (later, allowed) in [(0, 3), (3, 3), (4, 4), (9, 5), (1000, 6)] {
            let mut watch = begun(now);
            for _ in 0..3 {
                assert_eq!(watch.see(&reset, now).1, None);
            }
            let later = now + Duration::from_secs(later);
            let more = (0..).find(|_| watch.see(&reset, later).1 == Some(ConnectionError::RESETS));
            assert_eq!(more, Some(allowed - 3), "{allowed}");
        }
    }

    #[test]
    fn frames_that_bring_nothing_are_bounded_and_those_of_who_takes_much_are_not() {
        let now = Instant::now();
        for (kind, flags, length) in [
            (DATA, 0, 0),
            (SETTINGS, 0, 0),
            (PING, 0, 8),
            (PRIORITY, 0, 5),
            (WINDOW_UPDATE, 0, 4),
            (77, 0, 0),
        ] {
            let (mut talks, mut takes) = (begun(now), begun(now));
            let bytes = frame(length, kind, flags);
            let ended = (0..IDLE_TALK * 2).find(|_| talks.see(&bytes, now).1.is_some());
            assert!(ended.is_some_and(|count| count + 1 >= IDLE_TALK - 1), "{kind}: {ended:?}");
            for _ in 0..IDLE_TALK * 2 {
                takes.sent(16 * 1024);
                assert_eq!(takes.see(&bytes, now).1, None, "{kind}");
            }
        }
    }
}
