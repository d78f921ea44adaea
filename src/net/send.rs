//! Sends segments to the socket: by `writev` if they are short, by `sendfile` if they are long, and only from pages
//! known to be in the page cache.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};

use libc::{EACCES, EBADMSG, EFAULT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, ENXIO, EPERM, ESTALE, EUCLEAN};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::tls::session::RECORD;
use crate::net::{Segment, SendError, SendQueue, Socket, Window, WorkerContext};
use crate::sys::kernel::{IoRun, RUNS_MAX, writev};
use crate::telemetry::metrics::kind::SendPath;

/// The next call to the socket: what it takes from the front of the queue.
///
/// Decisions: docs/decisions/008-disk-errors-before-the-head.md, docs/decisions/018-sendfile-shares-pages.md.
#[derive(Clone, Copy)]
struct NextCall {
    /// Number of literal segments.
    literals: usize,
    /// Number of bytes of the window behind them.
    mapped: usize,
    /// There are no literals, and `sendfile` sends the window.
    by_sendfile: bool,
}

impl SendQueue {
    /// Sends until the queue is empty. Counts in `taken` what the socket takes.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        socket: &mut Socket,
    ) -> Poll<Result<(), SendError>> {
        self.cursor.invalidate();
        self.waits_for_client = false;
        let is_encrypted = socket.is_encrypted();
        loop {
            if is_encrypted && socket.ciphertext_left() > 0 {
                // Sent before more is encrypted, so that a client that takes nothing costs at most `BATCH_MAX`.
                ready!(self.poll_drain(cx, socket))?;
            }
            let paced = ready!(self.poll_pace(cx));
            let Some(call) = self.next_call(cx, context, !is_encrypted) else { break };
            let call = ready!(call)?;
            let turn = self.turn.get_or_insert_with(|| context.bulk_scheduler.begin());
            let room = ready!(context.bulk_scheduler.poll(cx, turn, self.client)).min(paced);
            let call = NextCall { mapped: call.mapped.min(room), ..call };
            let (path, sent) = if is_encrypted {
                let sent = self.encrypt(context, socket, call, paced)?;
                self.ciphertext_left = socket.ciphertext_left() as u64;
                (SendPath::Copied, sent)
            } else {
                self.waits_for_client = true;
                let (path, sent) = if call.by_sendfile {
                    (SendPath::Sendfile, ready!(self.poll_sendfile(cx, socket, call.mapped)))
                } else {
                    (SendPath::Writev, ready!(self.poll_write(cx, socket, call, paced)))
                };
                self.waits_for_client = false;
                let sent = sent.map_err(|error| self.classify(error))?;
                self.taken += sent;
                (path, sent)
            };
            self.spend(sent, path, context);
        }
        if is_encrypted {
            // Records of the protocol itself, such as session tickets, leave with the response.
            ready!(self.poll_drain(cx, socket))?;
        }
        self.finish(context);
        Poll::Ready(Ok(()))
    }

    /// Sends what is encrypted.
    fn poll_drain(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<(), SendError>> {
        while socket.session().is_some_and(|session| session.wants_write()) {
            self.waits_for_client = true;
            let sent = ready!(socket.poll_drain_once(cx));
            self.waits_for_client = false;
            self.ciphertext_left = socket.ciphertext_left() as u64;
            self.taken += sent.map_err(SendError::Socket)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts what `call` takes, at most `limit` bytes of it, and returns the number of bytes encrypted.
    fn encrypt(
        &self,
        context: &WorkerContext,
        socket: &mut Socket,
        call: NextCall,
        limit: usize,
    ) -> Result<usize, SendError> {
        let mut borrowed = context.scratch.borrow_mut();
        let mut scratch = Some(&mut borrowed[..]);
        let mut slices = [IoSlice::new(&[]); RUNS_MAX + 1];
        let mut left = limit.min(BATCH_MAX);
        for (slice, segment) in slices.iter_mut().zip(self.segments.iter().take(call.segments())) {
            *slice = IoSlice::new(match segment {
                Segment::Bytes(bytes) => &bytes[..bytes.len().min(left)],
                Segment::Window(window) => {
                    let buffer = scratch.take().unwrap_or_default();
                    let length = call.mapped.min(left).min(buffer.len());
                    window.read_resident(&mut buffer[..length])?;
                    &buffer[..length]
                }
            });
            left -= slice.len();
        }
        let slices = &slices[..call.segments()];
        let session =
            socket.session().ok_or_else(|| SendError::Socket(io::ErrorKind::NotConnected.into()))?;
        session.encrypt(slices).map_err(SendError::Socket)?;
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    /// Removes `sent` bytes, and counts them against the turn and the pace.
    fn spend(&mut self, sent: usize, path: SendPath, context: &WorkerContext) {
        self.advance(sent, path, &context.metrics);
        if let Some(turn) = &mut self.turn {
            turn.spend(sent);
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.spend(sent);
        }
    }

    /// Returns the pace and the turn: the queue is empty.
    fn finish(&mut self, context: &WorkerContext) {
        if let Some(pacer) = &mut self.pacer {
            pacer.finish();
        }
        if let Some(turn) = self.turn.take() {
            context.bulk_scheduler.end(&turn);
        }
    }

    /// Number of bytes that the pace allows now.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Some(pacer) = &mut self.pacer else { return Poll::Ready(usize::MAX) };
        let pending = self.segments.iter().map(Segment::length).sum();
        if pending == 0 { Poll::Ready(0) } else { pacer.poll(cx, pending) }
    }

    /// The call for the front of the queue. `None` if the queue is empty.
    fn next_call(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        may_sendfile: bool,
    ) -> Option<Poll<Result<NextCall, SendError>>> {
        self.segments.front()?;
        let write = |literals, mapped| NextCall { literals, mapped, by_sendfile: false };
        let is_literal = |segment: &&Segment| matches!(segment, Segment::Bytes(_));
        let literals = self.segments.iter().take(RUNS_MAX).take_while(is_literal).count();
        let window = match self.segments.get(literals) {
            Some(Segment::Window(window)) if literals < RUNS_MAX => window,
            _ => return Some(Poll::Ready(Ok(write(literals, 0)))),
        };
        // A head is sent once the first pages behind it are resident: until then another head can take its place.
        let resident = self.cursor.poll(cx, context, self.client, window);
        let is_held_up = matches!(resident, Poll::Pending | Poll::Ready(Err(SendError::Disk(_))));
        if is_held_up && self.earlier > 0 {
            // Earlier responses do not wait for the disk of this one.
            return Some(Poll::Ready(Ok(write(literals.min(self.earlier), 0))));
        }
        let by_sendfile = window.by_sendfile && may_sendfile;
        Some(resident.map_ok(|length| match (by_sendfile, literals) {
            (false, _) => write(literals, length),
            (true, 1..) => write(literals, 0),
            (true, 0) => NextCall { literals, mapped: length, by_sendfile },
        }))
    }

    /// Writes what `call` takes, at most `limit` bytes of it.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        call: NextCall,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let runs = || {
            let mut left = limit;
            let segments = self.segments.iter().take(call.segments());
            segments.map_while(move |segment| run_of(segment, call.mapped, &mut left))
        };
        if call.mapped == 0 && matches!(self.segments.get(call.literals), Some(Segment::Window(_))) {
            // `sendfile` follows: the head waits for it and shares its first packet.
            return socket.poll_write(cx, |fd| send_with_more(fd, runs()));
        }
        // Decision: docs/decisions/045-writev-for-small-responses.md.
        socket.poll_write(cx, |fd| writev(fd, runs()))
    }

    fn poll_sendfile(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(Segment::Window(Window { handle: Some(handle), range, .. })) = self.segments.front() else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let start = range.start;
        socket.poll_write(cx, |fd| {
            let mut offset = start;
            match handle.storage().sendfile(fd, handle.fd(), &mut offset, length) {
                // The file has become shorter.
                Ok(0) => Err(io::Error::from_raw_os_error(EFAULT)),
                sent => Ok(sent?),
            }
        })
    }

    /// Tells errors of the file apart from those of the socket.
    fn classify(&self, error: io::Error) -> SendError {
        let is_file_gone = error.raw_os_error() == Some(EFAULT);
        let is_disk = error.raw_os_error().is_some_and(|errno| DISK_ERRORS.contains(&errno));
        match self.segments.front() {
            _ if is_file_gone => SendError::Changed,
            Some(Segment::Window(_)) if is_disk => SendError::Sending(error),
            _ => SendError::Socket(error),
        }
    }
}

impl NextCall {
    /// Number of segments, the window included.
    fn segments(self) -> usize {
        self.literals + usize::from(self.mapped > 0)
    }
}

/// A segment as a run to write: its literal bytes, or `mapped` bytes of its window, at most `left` bytes.
fn run_of<'a>(segment: &'a Segment, mapped: usize, left: &mut usize) -> Option<IoRun<'a>> {
    let wanted = if let Segment::Bytes(bytes) = segment { bytes.len() } else { mapped };
    let length = wanted.min(*left);
    *left -= length;
    match segment {
        _ if length == 0 => None,
        Segment::Bytes(bytes) => Some(IoRun::Bytes(&bytes[..length])),
        Segment::Window(window) => {
            let start = usize::try_from(window.range.start).ok()?;
            Some(IoRun::Mapped(window.asset.mapping()?, start..start + length))
        }
    }
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

/// Errors of `sendfile` that are the file's and not the socket's.
const DISK_ERRORS: [i32; 11] =
    [EIO, ESTALE, ENXIO, EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ENOSPC, EBADMSG, EUCLEAN];

/// Bytes encrypted before the socket takes them: enough for few calls, and little for a client that takes nothing.
///
/// Decision: docs/decisions/043-tls-sending.md.
const BATCH_MAX: usize = 4 * RECORD;
