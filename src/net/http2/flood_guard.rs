//! Inspects frames as they arrive: detects floods that `h2` allows, and errors that it reports with another code than
//! RFC 9113.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use h2::Reason;

use crate::sys::gcra::{Gcra, Quota, RateClock};
use crate::telemetry::metrics::kind::ProtocolViolation;

/// Inspects the headers of all frames of one connection (RFC 9113 §4.1), and of their payloads only the values of
/// SETTINGS.
#[derive(Debug)]
pub(super) struct FloodGuard {
    /// Bytes of the preface that have not arrived.
    preface: usize,
    header: [u8; FRAME_HEADER],
    /// Bytes of a frame's header that have arrived.
    known: usize,
    /// Bytes of a frame's payload that have not arrived.
    payload: usize,
    /// A header block has begun and not ended.
    is_in_block: bool,
    /// Since when a frame or header block is not complete, or the first frame has not arrived. `None` if neither is the
    /// case. Payloads of DATA do not count.
    pub(super) incomplete_since: Option<Instant>,
    frames: u64,
    ended: RecentlyEnded,
    settings: SettingsFrame,
    clock: RateClock,
    resets: Gcra,
    resets_allowed: Quota,
    /// Streams that were reset by the client or because of it.
    pub(super) resets_seen: u64,
    control_frames: Gcra,
}

/// Why a connection must end, and the code for GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionError {
    pub(super) violation: ProtocolViolation,
    pub(super) reason: Reason,
}

impl ConnectionError {
    const RESETS: Self = Self { violation: ProtocolViolation::Resets, reason: Reason::ENHANCE_YOUR_CALM };
    const FRAMES: Self = Self { violation: ProtocolViolation::Frames, reason: Reason::ENHANCE_YOUR_CALM };

    /// The error for which a connection ends with `reason`.
    pub(super) fn of(reason: Reason) -> Self {
        let is_flood = reason == Reason::ENHANCE_YOUR_CALM;
        if is_flood { Self::FRAMES } else { Self { violation: ProtocolViolation::Malformed, reason } }
    }
}

impl FloodGuard {
    /// The guard of a connection before its preface. It allows `resets` resets in ten seconds.
    pub(super) fn new(resets: u64, now: Instant) -> Self {
        Self {
            preface: PREFACE.len(),
            header: [0; FRAME_HEADER],
            known: 0,
            payload: 0,
            is_in_block: false,
            incomplete_since: Some(now),
            frames: 0,
            ended: RecentlyEnded::default(),
            settings: SettingsFrame::default(),
            clock: RateClock::default(),
            resets: Gcra::default(),
            resets_allowed: Quota::per(PERIOD, resets, resets),
            resets_seen: 0,
            control_frames: Gcra::default(),
        }
    }

    /// Inspects what has arrived. Returns how many bytes `h2` may read, and why the connection must end: before the end
    /// of the frame that is the reason.
    pub(super) fn inspect(&mut self, bytes: &[u8], now: Instant) -> (usize, Option<ConnectionError>) {
        let mut at = bytes.len().min(self.preface);
        self.preface -= at;
        while at < bytes.len() {
            let left = &bytes[at..];
            if self.payload > 0 {
                let taken = left.len().min(self.payload);
                if self.header[3] == SETTINGS && !self.settings.inspect(&left[..taken]) {
                    return (at, Some(ConnectionError::of(Reason::FLOW_CONTROL_ERROR)));
                }
                self.payload -= taken;
                at += taken;
                self.record_complete_frame();
                continue;
            }
            let taken = left.len().min(FRAME_HEADER - self.known);
            self.header[self.known..][..taken].copy_from_slice(&left[..taken]);
            self.known += taken;
            self.incomplete_since.get_or_insert(now);
            if self.known == FRAME_HEADER {
                self.known = 0;
                if let Err(error) = self.begin_frame(now) {
                    return (at, Some(error));
                }
                self.record_complete_frame();
            }
            at += taken;
        }
        (at, None)
    }

    /// Resets in about the last ten seconds.
    pub(super) fn recent_resets(&self, now: Instant) -> u64 {
        self.resets_allowed.burst - self.resets.left(self.clock.at(now), self.resets_allowed)
    }

    /// Counts bytes of responses that were sent: a client that takes much may send more frames.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.control_frames.give_back(bytes as u64 / BYTES_PER_FRAME * CONTROL_FRAME_PERIOD);
    }

    /// Counts a stream that was reset by its client or because of it.
    pub(super) fn reset(&mut self, now: Instant) -> Result<(), ConnectionError> {
        self.resets_seen += 1;
        let now = self.clock.at(now);
        self.resets.take_one(now, self.resets_allowed).map_err(|_| ConnectionError::RESETS)
    }

    /// Checks a frame whose header is complete.
    fn begin_frame(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let [a, b, c, kind, flags, s1, s2, s3, s4] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.payload = length;
        self.frames += 1;
        if self.frames == 1 && (kind != SETTINGS || flags & ACK != 0) {
            // RFC 9113 §3.4: the preface ends in SETTINGS.
            return Err(ConnectionError::of(Reason::PROTOCOL_ERROR));
        }
        let is_valid_length = match kind {
            RST_STREAM | WINDOW_UPDATE => length == 4,
            PRIORITY => length == 5,
            PING => length == 8,
            SETTINGS if flags & ACK != 0 => length == 0,
            SETTINGS => length.is_multiple_of(SETTING),
            _ => true,
        };
        if !is_valid_length {
            return Err(ConnectionError::of(Reason::FRAME_SIZE_ERROR));
        }
        let stream = u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]);
        let is_end = kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if matches!(kind, DATA | HEADERS) && self.ended.contains(stream) {
            return Err(ConnectionError::of(Reason::STREAM_CLOSED));
        }
        if is_end {
            self.ended.put(stream);
        }
        match kind {
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            HEADERS => {
                self.is_in_block = flags & END_HEADERS == 0;
                // Requests have limits of their own.
                self.control_frames.give_back(FRAMES_PER_REQUEST * CONTROL_FRAME_PERIOD);
            }
            CONTINUATION => {
                self.is_in_block &= flags & END_HEADERS == 0;
                self.count_control_frame(now)?;
            }
            RST_STREAM => self.reset(now)?,
            _ => self.count_control_frame(now)?,
        }
        Ok(())
    }

    fn count_control_frame(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let now = self.clock.at(now);
        self.control_frames.take_one(now, CONTROL_FRAMES_ALLOWED).map_err(|_| ConnectionError::FRAMES)
    }

    /// Clears `incomplete_since` if the frame and its header block are complete.
    fn record_complete_frame(&mut self) {
        let is_body = self.header[3] == DATA;
        if (self.payload == 0 || is_body) && !self.is_in_block {
            self.incomplete_since = None;
        }
    }
}

/// The streams that the client ended last: `h2` reports frames on them with another code than RFC 9113 §5.1.
#[derive(Debug, Default)]
struct RecentlyEnded {
    streams: VecDeque<u32>,
    highest: u32,
}

impl RecentlyEnded {
    fn contains(&self, stream: u32) -> bool {
        stream <= self.highest && self.streams.contains(&stream)
    }

    fn put(&mut self, stream: u32) {
        self.highest = self.highest.max(stream);
        if self.streams.len() == ENDED_MAX {
            self.streams.pop_front();
        }
        self.streams.push_back(stream);
    }
}

/// The values of SETTINGS as they arrive: an excessive window has an error code of its own (RFC 9113 §6.5.2).
#[derive(Debug, Default)]
struct SettingsFrame {
    setting: [u8; SETTING],
    known: usize,
}

impl SettingsFrame {
    /// Returns false if a window is larger than 2^31-1.
    fn inspect(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| {
            self.setting[self.known] = *byte;
            self.known = (self.known + 1) % SETTING;
            self.known != 0 || !matches!(self.setting, [0, INITIAL_WINDOW_SIZE, high, ..] if high >= 0x80)
        })
    }
}

/// The preface with which every connection begins (RFC 9113 §3.4).
pub(in crate::net) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames without request or content that are allowed in ten seconds, beyond those that are earned.
const CONTROL_FRAMES_MAX: u64 = 4000;

/// Nanoseconds after which one more of them may be sent.
const CONTROL_FRAME_PERIOD: u64 = PERIOD.as_nanos() as u64 / CONTROL_FRAMES_MAX;

const CONTROL_FRAMES_ALLOWED: Quota = Quota::new(CONTROL_FRAME_PERIOD, CONTROL_FRAMES_MAX);

/// Frames earned with each request: a priority, a window, a ping.
const FRAMES_PER_REQUEST: u64 = 4;

/// Bytes of responses that earn a frame: two windows per 16 KiB are usual.
const BYTES_PER_FRAME: u64 = 512;

const PERIOD: Duration = Duration::from_secs(10);

/// Number of ended streams that are kept.
const ENDED_MAX: usize = 64;

/// Length of a frame's header.
const FRAME_HEADER: usize = 9;

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
        frame.resize(FRAME_HEADER + length as usize, 0);
        frame
    }

    fn begun(now: Instant) -> FloodGuard {
        let mut guard = FloodGuard::new(3, now);
        assert_eq!(guard.inspect(&[&PREFACE[..], &frame(0, SETTINGS, 0)].concat(), now).1, None);
        guard
    }

    #[test]
    fn the_first_frame_must_be_settings() {
        let now = Instant::now();
        for (kind, flags, expected) in [
            (SETTINGS, 0, None),
            (SETTINGS, ACK, Some(Reason::PROTOCOL_ERROR)),
            (HEADERS, END_HEADERS, Some(Reason::PROTOCOL_ERROR)),
        ] {
            let mut guard = FloodGuard::new(3, now);
            assert_eq!(guard.inspect(PREFACE, now), (24, None));
            let seen = guard.inspect(&frame(0, kind, flags), now).1;
            assert_eq!(seen, expected.map(ConnectionError::of), "{kind} {flags}");
        }
    }

    #[test]
    fn a_frame_is_incomplete_until_all_of_it_has_arrived() {
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
            assert_eq!(whole.inspect(&bytes, now), (bytes.len(), None));
            let mut split = begun(now);
            for byte in &bytes {
                split.inspect(std::slice::from_ref(byte), now);
            }
            assert_eq!(
                (whole.incomplete_since.is_some(), split.incomplete_since.is_some()),
                (expected, expected),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn frames_of_a_wrong_length_and_windows_that_are_too_large_have_their_error_codes() {
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
            let expected = expected.map(ConnectionError::of);
            assert_eq!(begun(now).inspect(&bytes, now).1, expected, "{bytes:?}");
            let mut split = begun(now);
            let seen: Vec<_> = bytes.iter().map(|byte| split.inspect(&[*byte], now).1).collect();
            assert!(seen.contains(&expected), "{bytes:?}");
        }
    }

    #[test]
    fn resets_are_limited_within_ten_seconds() {
        let now = Instant::now();
        let reset = frame(4, RST_STREAM, 0);
        for (later, allowed) in [(0, 3), (3, 3), (4, 4), (9, 5), (1000, 6)] {
            let mut guard = begun(now);
            for _ in 0..3 {
                assert_eq!(guard.inspect(&reset, now).1, None);
            }
            let later = now + Duration::from_secs(later);
            let more = (0..).find(|_| guard.inspect(&reset, later).1 == Some(ConnectionError::RESETS));
            assert_eq!(more, Some(allowed - 3), "{allowed}");
        }
    }

    #[test]
    fn control_frames_are_limited_unless_the_client_takes_much() {
        let now = Instant::now();
        for (kind, flags, length) in [
            (DATA, 0, 0),
            (SETTINGS, 0, 0),
            (PING, 0, 8),
            (PRIORITY, 0, 5),
            (WINDOW_UPDATE, 0, 4),
            (77, 0, 0),
        ] {
            let (mut idle, mut busy) = (begun(now), begun(now));
            let bytes = frame(length, kind, flags);
            let ended = (0..CONTROL_FRAMES_MAX * 2).find(|_| idle.inspect(&bytes, now).1.is_some());
            assert!(ended.is_some_and(|count| count + 1 >= CONTROL_FRAMES_MAX - 1), "{kind}: {ended:?}");
            for _ in 0..CONTROL_FRAMES_MAX * 2 {
                busy.sent(16 * 1024);
                assert_eq!(busy.inspect(&bytes, now).1, None, "{kind}");
            }
        }
    }
}
