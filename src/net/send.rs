//! Segments to the socket: by `writev` where they are small, by `sendfile` where they are long, and only from pages that
//! are known to be in memory.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::segments::{Segment, Window};
use super::socket::Socket;
use super::tls::session::RECORD;
use super::worker::Worker;
use crate::http::client_key::ClientKey;
use crate::http::target::SitePath;
use crate::limits::bandwidth::ResponsePace;
use crate::limits::client_limits::Limits;
use crate::net::bulk_scheduler::BulkTurn;
use crate::net::pacing::Pacer;
use crate::net::residency_cursor::{ResidencyCursor, copy};
use crate::sys::kernel::{IoRun, RUNS_MAX, writev};
use crate::telemetry::access_log::record::WaitKind;
use crate::telemetry::metrics::exchange::ExchangeOutcome;
use crate::telemetry::metrics::worker::{SendPath, WorkerMetrics};
use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// Why a response could not be finished. The connection then closes: a body is never padded and never spliced.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The client has gone, or the socket failed.
    Socket(io::Error),
    /// The client took nothing for too long.
    Stalled,
    /// The client took too little while connections ran short.
    TooSlow,
    /// The file is not what it was when the response began.
    Changed,
    /// The disk did not give a window, or the next piece of a body.
    Disk(io::Error),
    /// The disk failed while the kernel sent from a file.
    Sending(io::Error),
}

impl SendError {
    /// What became of the exchange.
    pub(super) fn outcome(&self) -> ExchangeOutcome {
        match self {
            Self::Socket(_) => ExchangeOutcome::ClientGone,
            Self::Stalled => ExchangeOutcome::Stalled,
            Self::TooSlow => ExchangeOutcome::TooSlow,
            Self::Changed => ExchangeOutcome::Changed,
            Self::Disk(_) | Self::Sending(_) => ExchangeOutcome::Failed,
        }
    }
}

/// What is still to be sent on one connection, in order.
pub(crate) struct SendQueue {
    /// For whom it is.
    client: ClientKey,
    queue: VecDeque<Segment>,
    front: ResidencyCursor,
    /// Bytes that were ever pushed, but for those that were withdrawn, and of these the ones that have left.
    pushed: u64,
    sent: u64,
    /// Bytes of these that still wait to leave, encrypted; not less than there are.
    held: u64,
    /// So many segments in front belong to responses before the last one.
    earlier: usize,
    /// Some of the last response has left.
    is_out: bool,
    /// What may be sent before others have theirs.
    turn: Option<BulkTurn>,
    /// It is the socket that is waited for, and neither the disk nor a turn nor a pace.
    waits_for_client: bool,
    /// How fast it may be sent, once a response was limited.
    pacer: Option<Box<Pacer>>,
}

impl SendQueue {
    pub(crate) fn new(client: ClientKey) -> Self {
        Self {
            client,
            queue: VecDeque::new(),
            front: ResidencyCursor::default(),
            pushed: 0,
            sent: 0,
            held: 0,
            earlier: 0,
            is_out: false,
            turn: None,
            waits_for_client: false,
            pacer: None,
        }
    }

    /// What is pushed from now on is for `client`.
    pub(crate) fn serve(&mut self, client: ClientKey) {
        self.client = client;
    }

    /// For whom it is.
    pub(crate) fn client(&self) -> ClientKey {
        self.client
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        let length = segment.length();
        if length > 0 {
            self.pushed += length;
            self.queue.push_back(segment);
        }
    }

    /// What is pushed from now on is another response.
    pub(crate) fn begin(&mut self) {
        self.earlier = self.queue.len();
        self.is_out = false;
    }

    /// Takes the last response back, if nothing of it has left: another can then be given in its stead.
    pub(crate) fn withdraw(&mut self) -> bool {
        if self.is_out {
            return false;
        }
        let withdrawn: u64 = self.queue.drain(self.earlier..).map(|segment| segment.length()).sum();
        self.pushed -= withdrawn;
        self.front.withdraw();
        true
    }

    /// Where what is pushed next begins among all that this box ever sends.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How much of that has left.
    pub(super) fn sent(&self) -> u64 {
        self.sent.saturating_sub(self.held)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The file that is to be sent next.
    pub(crate) fn file(&self) -> Option<&SitePath<'static>> {
        self.queue.iter().find_map(|segment| match segment {
            Segment::Bytes(_) => None,
            Segment::Window(window) => Some(&window.asset.path),
        })
    }

    /// Whether all of it is small and in memory, so that it may wait for the next response and leave with it.
    pub(crate) fn may_wait(&self) -> bool {
        self.queue.len() < RUNS_MAX && self.queue.iter().all(|segment| matches!(segment, Segment::Bytes(_)))
    }

    /// Whether sending waits for the client to take something: not for a disk, not for others, not for its pace.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// Whether what is in the box keeps to `pace`, so that a response of that pace may leave with it.
    pub(super) fn holds(&self, pace: &ResponsePace) -> bool {
        self.pacer.as_ref().map_or(*pace == ResponsePace::default(), |pacer| pacer.holds(pace, self.client))
    }

    /// What is pushed from now on keeps to `pace`.
    pub(super) fn pace(&mut self, pace: ResponsePace, guard: &Limits, socket: &mut Socket) {
        let pacer = self.pacer.get_or_insert_with(|| Box::new(Pacer::new(guard)));
        pacer.begin(pace, self.client, socket);
    }

    /// Whether it keeps to any pace.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| pacer.is_limited())
    }

    /// Whether it is its pace that it waits for, and not the client.
    pub(super) fn waits_for_pace(&self) -> bool {
        self.pacer.as_ref().is_some_and(|pacer| pacer.is_waiting())
    }

    /// Nothing is left over from a response: what a connection that idles needs not keep.
    pub(crate) fn release(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > KEPT_IDLE {
            self.queue = VecDeque::new();
        }
    }

    /// Sends until nothing is left. `progress` hears of every byte taken.
    pub(crate) fn poll_send<S>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        socket: &mut Socket,
        mut progress: impl FnMut(usize),
    ) -> Poll<Result<(), SendError>> {
        self.front.doubt();
        self.waits_for_client = false;
        if socket.is_encrypted() {
            return self.poll_send_encrypted(cx, worker, socket, progress);
        }
        loop {
            let paced = ready!(self.poll_pace(cx));
            let Some(next) = self.next_move(cx, worker, true) else { break };
            let next = ready!(next)?;
            let turn = self.turn.get_or_insert_with(|| worker.turns.begin());
            let room = ready!(worker.turns.poll(cx, turn, self.client)).min(paced);
            self.waits_for_client = true;
            let (path, sent) = match next {
                NextCall::Write { literals, mapped } => {
                    (SendPath::Writev, ready!(self.poll_write(cx, socket, literals, mapped.min(room), paced)))
                }
                NextCall::Sendfile { length } => {
                    (SendPath::Sendfile, ready!(self.poll_sendfile(cx, socket, length.min(room))))
                }
            };
            self.waits_for_client = false;
            let sent = sent.map_err(|error| self.why(error))?;
            progress(sent);
            self.spend(sent, path, &worker.metrics);
        }
        self.finish(worker);
        Poll::Ready(Ok(()))
    }

    /// The same in records of TLS: what is encrypted has left before more of it is made, so that a client that takes nothing
    /// costs no more than one [batch](BATCH_MAX).
    fn poll_send_encrypted<S>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        socket: &mut Socket,
        mut progress: impl FnMut(usize),
    ) -> Poll<Result<(), SendError>> {
        loop {
            if socket.session().is_some_and(|session| session.held() > 0) {
                ready!(self.poll_drain(cx, socket, &mut progress))?;
            }
            let paced = ready!(self.poll_pace(cx));
            let Some(next) = self.next_move(cx, worker, false) else { break };
            let NextCall::Write { literals, mapped } = ready!(next)? else {
                return Poll::Ready(Err(SendError::Socket(io::ErrorKind::Unsupported.into())));
            };
            let turn = self.turn.get_or_insert_with(|| worker.turns.begin());
            let room = ready!(worker.turns.poll(cx, turn, self.client)).min(paced);
            let encrypted = self.encrypt(worker, socket, literals, mapped.min(room), paced)?;
            self.held = socket.session().map_or(0, |session| session.held()) as u64;
            self.spend(encrypted, SendPath::Copied, &worker.metrics);
        }
        // What the protocol itself has to say, tickets that is, leaves with the response.
        ready!(self.poll_drain(cx, socket, &mut progress))?;
        self.finish(worker);
        Poll::Ready(Ok(()))
    }

    /// Has the socket take what is encrypted.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        progress: &mut impl FnMut(usize),
    ) -> Poll<Result<(), SendError>> {
        while socket.session().is_some_and(|session| session.has_sendable()) {
            self.waits_for_client = true;
            let sent = ready!(socket.poll_drain_some(cx));
            self.waits_for_client = false;
            self.held = socket.session().map_or(0, |session| session.held()) as u64;
            progress(sent.map_err(SendError::Socket)?);
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts the first `literals` segments, and `mapped` bytes of the window behind them, but no more than `most` bytes;
    /// says how many.
    fn encrypt<S>(
        &self,
        worker: &Worker<S>,
        socket: &mut Socket,
        literals: usize,
        mapped: usize,
        most: usize,
    ) -> Result<usize, SendError> {
        let mut left = most.min(BATCH_MAX);
        let mut slices = [IoSlice::new(&[]); RUNS_MAX + 1];
        let mut scratch = worker.scratch.borrow_mut();
        let mut count = 0;
        let mut window = None;
        for segment in self.queue.iter().take(literals + usize::from(mapped > 0)) {
            match segment {
                Segment::Bytes(bytes) => {
                    let taken = bytes.len().min(left);
                    slices[count] = IoSlice::new(&bytes[..taken]);
                    left -= taken;
                    count += 1;
                }
                Segment::Window(behind) => window = Some(behind),
            }
        }
        if let Some(window) = window {
            let length = mapped.min(left).min(scratch.len());
            let buffer = &mut scratch[..length];
            copy(window, window.range.start, buffer)?;
            slices[count] = IoSlice::new(buffer);
            count += 1;
        }
        let slices = &slices[..count];
        let session =
            socket.session().ok_or_else(|| SendError::Socket(io::ErrorKind::NotConnected.into()))?;
        session.encrypt(slices).map_err(SendError::Socket)?;
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    /// So many bytes are on their way; those of windows took the `path`.
    fn spend(&mut self, sent: usize, path: SendPath, metrics: &WorkerMetrics) {
        self.advance(sent, path, metrics);
        if let Some(turn) = &mut self.turn {
            turn.spend(sent);
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.spend(sent);
        }
    }

    /// Nothing is left.
    fn finish<S>(&mut self, worker: &Worker<S>) {
        if let Some(pacer) = &mut self.pacer {
            pacer.finish();
        }
        if let Some(turn) = self.turn.take() {
            worker.turns.end(&turn);
        }
    }

    /// How many bytes the pace allows now.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Some(pacer) = &mut self.pacer else { return Poll::Ready(usize::MAX) };
        let pending = self.queue.iter().map(Segment::length).sum();
        if pending == 0 { Poll::Ready(0) } else { pacer.poll(cx, pending) }
    }

    /// What to do with the front of the queue; none when it is empty.
    fn next_move<S>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker<S>,
        may_sendfile: bool,
    ) -> Option<Poll<Result<NextCall, SendError>>> {
        self.queue.front()?;
        let is_literal = |segment: &&Segment| matches!(segment, Segment::Bytes(_));
        let literals = self.queue.iter().take(RUNS_MAX).take_while(is_literal).count();
        let by_sendfile = match self.queue.get(literals) {
            Some(Segment::Window(window)) if literals < RUNS_MAX => window.by_sendfile && may_sendfile,
            _ => return Some(Poll::Ready(Ok(NextCall::Write { literals, mapped: 0 }))),
        };
        // A head leaves once the first pages behind it are there: until then it can still become another one.
        let Some(Segment::Window(window)) = self.queue.get(literals) else { return None };
        let resident = self.front.poll(cx, worker, self.client, window);
        let is_held_up = matches!(resident, Poll::Pending | Poll::Ready(Err(SendError::Disk(_))));
        if is_held_up && self.earlier > 0 {
            // Not by what is not theirs: responses before it leave.
            let literals = literals.min(self.earlier);
            return Some(Poll::Ready(Ok(NextCall::Write { literals, mapped: 0 })));
        }
        Some(resident.map_ok(|length| match (by_sendfile, literals) {
            (false, _) => NextCall::Write { literals, mapped: length },
            (true, 1..) => NextCall::Write { literals, mapped: 0 },
            (true, 0) => NextCall::Sendfile { length },
        }))
    }

    /// Since when the disk keeps the front window waiting.
    pub(crate) fn waits_for_disk_since(&self) -> Option<Instant> {
        self.front.waits_since()
    }

    /// What sending waits for.
    pub(super) fn waits_for(&self) -> WaitKind {
        match self.waits_for_disk_since() {
            Some(_) => WaitKind::Disk,
            None if self.waits_for_client => WaitKind::Client,
            None => WaitKind::Throttle,
        }
    }

    /// How many bytes were asked of the disk since that was asked last.
    pub(super) fn take_cold_bytes(&mut self) -> u64 {
        self.front.take_cold_bytes()
    }

    /// Writes the first `literals` segments, and `mapped` bytes of the window behind them, but no more than `most` bytes.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        literals: usize,
        mapped: usize,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let runs = || {
            let mut left = most;
            self.queue
                .iter()
                .take(literals + usize::from(mapped > 0))
                .map_while(move |segment| run_of(segment, mapped, &mut left))
        };
        if mapped == 0 && matches!(self.queue.get(literals), Some(Segment::Window(_))) {
            // `sendfile` follows: the head waits for it and shares its first packet.
            return socket.poll_write(cx, |fd| send_with_more(fd, runs()));
        }
        socket.poll_write(cx, |fd| writev(fd, runs()))
    }

    fn poll_sendfile(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(Segment::Window(Window { handle: Some(handle), range, .. })) = self.queue.front() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let start = range.start;
        socket.poll_write(cx, |fd| {
            let mut offset = start;
            match handle.storage().sendfile(fd, handle.fd(), &mut offset, length) {
                // The file ends before its length did.
                Ok(0) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
                sent => Ok(sent?),
            }
        })
    }

    /// So many bytes have left; those of windows took the `path`.
    fn advance(&mut self, mut sent: usize, path: SendPath, metrics: &WorkerMetrics) {
        self.sent += sent as u64;
        while sent > 0 {
            let Some(front) = self.queue.front_mut() else { return };
            self.is_out |= self.earlier == 0;
            let is_done = match front {
                Segment::Bytes(bytes) => {
                    let taken = sent.min(bytes.len());
                    metrics.count_sent(SendPath::Heap, taken);
                    bytes.advance(taken);
                    sent -= taken;
                    bytes.is_empty()
                }
                Segment::Window(window) => {
                    let taken = sent.min(distance(window.range.start, window.range.end));
                    metrics.count_sent(path, taken);
                    window.range.start += taken as u64;
                    sent -= taken;
                    self.front.begin();
                    window.range.is_empty()
                }
            };
            if !is_done {
                continue;
            }
            self.earlier = self.earlier.saturating_sub(1);
            if matches!(self.queue.pop_front(), Some(Segment::Window(_))) {
                self.front.pass();
            }
        }
        if self.queue.is_empty() {
            self.front.end();
        }
    }

    fn why(&self, error: io::Error) -> SendError {
        let is_file_gone = error.raw_os_error() == Some(libc::EFAULT);
        let is_disk = error.raw_os_error().is_some_and(|errno| DISK_ERRORS.contains(&errno));
        match self.queue.front() {
            _ if is_file_gone => SendError::Changed,
            Some(Segment::Window(_)) if is_disk => SendError::Sending(error),
            _ => SendError::Socket(error),
        }
    }
}

/// A segment as it is written: all of its literal bytes, or `mapped` bytes of its window, as far as there are bytes `left`.
fn run_of<'a>(segment: &'a Segment, mapped: usize, left: &mut usize) -> Option<IoRun<'a>> {
    let take = |length: usize, left: &mut usize| {
        let taken = length.min(*left);
        *left -= taken;
        (taken > 0).then_some(taken)
    };
    match segment {
        Segment::Bytes(bytes) => Some(IoRun::Bytes(&bytes[..take(bytes.len(), left)?])),
        Segment::Window(window) => {
            let start = usize::try_from(window.range.start).ok()?;
            let length = take(mapped, left)?;
            Some(IoRun::Mapped(window.asset.mapping()?, start..start + length))
        }
    }
}

/// What `sendfile` says of the file and not of the socket.
const DISK_ERRORS: [i32; 11] = [
    libc::EIO,
    libc::ESTALE,
    libc::ENXIO,
    libc::EACCES,
    libc::EPERM,
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::ENOSPC,
    libc::EBADMSG,
    libc::EUCLEAN,
];

/// What is encrypted before the socket is asked to take it: enough for few calls, and little for a client that takes nothing.
const BATCH_MAX: usize = 4 * RECORD;

/// Places in the queue that an idle connection keeps.
const KEPT_IDLE: usize = 4;

/// The next call to the socket.
enum NextCall {
    /// So many segments of literal bytes, and so many bytes of the mapped window behind them.
    Write { literals: usize, mapped: usize },
    /// So many bytes of the window at the front.
    Sendfile { length: usize },
}

fn send_with_more<'a>(fd: BorrowedFd<'_>, runs: impl Iterator<Item = IoRun<'a>>) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = runs
        .filter_map(|run| match run {
            IoRun::Bytes(bytes) => Some(IoSlice::new(bytes)),
            IoRun::Mapped(..) => None,
        })
        .collect();
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    Ok(rustix::net::sendmsg(fd, &slices, &mut SendAncillaryBuffer::default(), flags)?)
}

pub(super) fn distance(start: u64, end: u64) -> usize {
    usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)
}

/// Bytes that are ready to go, as a segment.
impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

#[cfg(test)]
impl SendQueue {
    /// The literal bytes that wait.
    pub(crate) fn bytes_for_tests(&self) -> Vec<u8> {
        let literal = |segment: &Segment| match segment {
            Segment::Bytes(bytes) => bytes.to_vec(),
            Segment::Window(_) => Vec::new(),
        };
        self.queue.iter().flat_map(literal).collect()
    }
}
