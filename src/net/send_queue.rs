//! The segments that one HTTP/1.1 connection still has to send.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::net::{BulkTurn, Pacer, ResidencyCursor, Segment};
use crate::sys::kernel::RUNS_MAX;
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::{kind::SendPath, worker::WorkerMetrics};

/// Segments still to be sent on one connection, in order. `poll_send` sends it.
#[derive(Default)]
pub(super) struct SendQueue {
    /// The client for which the segments are.
    pub(super) client: ClientKey,
    pub(super) segments: VecDeque<Segment>,
    pub(super) cursor: ResidencyCursor,
    /// Position at which the next push begins, in bytes since the connection began.
    pub(super) pushed: u64,
    /// Position up to which everything was sent or encrypted.
    sent: u64,
    /// Bytes that the socket took since the caller reset the number.
    pub(super) taken: usize,
    /// Upper bound of the encrypted bytes that have not left yet.
    pub(super) ciphertext_left: u64,
    /// Number of segments at the front that belong to responses before the last one.
    pub(super) earlier: usize,
    /// Some of the last response was sent.
    has_begun: bool,
    pub(super) turn: Option<BulkTurn>,
    /// Sending waits for the socket, not for the disk, a turn or the pace.
    pub(super) waits_for_client: bool,
    /// Created when the first response with a limited rate comes.
    pub(super) pacer: Option<Box<Pacer>>,
}

impl SendQueue {
    pub(super) fn new(client: ClientKey) -> Self {
        Self { client, ..Self::default() }
    }

    pub(super) fn push(&mut self, segment: impl Into<Segment>) {
        let segment = segment.into();
        let length = segment.length();
        if length > 0 {
            self.pushed += length;
            self.segments.push_back(segment);
        }
    }

    /// Begins another response: what is pushed from now on belongs to it.
    pub(super) fn begin_response(&mut self) {
        self.earlier = self.segments.len();
        self.has_begun = false;
    }

    /// Removes the last response if nothing of it was sent, so that another can take its place. False if some was.
    pub(super) fn withdraw(&mut self) -> bool {
        if self.has_begun {
            return false;
        }
        let withdrawn: u64 = self.segments.drain(self.earlier..).map(|segment| segment.length()).sum();
        self.pushed -= withdrawn;
        self.cursor.withdraw();
        true
    }

    /// Position up to which everything was sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.saturating_sub(self.ciphertext_left)
    }

    /// The file that is sent next.
    pub(super) fn file(&self) -> Option<&SitePath<'static>> {
        self.segments.iter().find_map(Segment::file)
    }

    /// True if all of it is small and in memory, so that it may wait for the next response and leave with it.
    pub(super) fn may_wait(&self) -> bool {
        self.segments.len() < RUNS_MAX
            && self.segments.iter().all(|segment| matches!(segment, Segment::Bytes(_)))
    }

    /// True if a rate limit applies.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| pacer.is_limited())
    }

    /// True if sending waits for its pace.
    pub(super) fn waits_for_pace(&self) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| pacer.is_waiting)
    }

    /// The cause of the present wait.
    pub(super) fn waits_for(&self) -> WaitKind {
        match self.cursor.waits_since() {
            Some(_) => WaitKind::Disk,
            None if self.waits_for_client => WaitKind::Client,
            None => WaitKind::Throttle,
        }
    }

    /// Frees what an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.segments.is_empty() && self.segments.capacity() > SEGMENTS_KEPT {
            self.segments = VecDeque::new();
        }
    }

    /// Removes `sent` bytes from the front. `path` is how those of windows were sent.
    pub(super) fn advance(&mut self, mut sent: usize, path: SendPath, metrics: &WorkerMetrics) {
        self.sent += sent as u64;
        while sent > 0 {
            let Some(front) = self.segments.front_mut() else { return };
            self.has_begun |= self.earlier == 0;
            let (path, taken) = match front {
                Segment::Bytes(bytes) => {
                    let taken = sent.min(bytes.len());
                    bytes.advance(taken);
                    (SendPath::Heap, taken)
                }
                Segment::Window(window) => {
                    let taken = sent.min(window.length());
                    window.range.start += taken as u64;
                    self.cursor.has_begun = true;
                    (path, taken)
                }
            };
            metrics.counts.sent[path as usize].add(taken as u64);
            sent -= taken;
            if front.length() > 0 {
                return;
            }
            self.earlier = self.earlier.saturating_sub(1);
            if matches!(self.segments.pop_front(), Some(Segment::Window(_))) {
                self.cursor.next_window();
            }
        }
        if self.segments.is_empty() {
            self.cursor.has_begun = false;
        }
    }

    /// The literal bytes that wait.
    #[cfg(test)]
    pub(super) fn bytes_for_tests(&self) -> Vec<u8> {
        let literal = |segment: &Segment| match segment {
            Segment::Bytes(bytes) => bytes.to_vec(),
            Segment::Window(_) => Vec::new(),
        };
        self.segments.iter().flat_map(literal).collect()
    }
}

impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Capacity that an idle connection keeps.
const SEGMENTS_KEPT: usize = 4;
